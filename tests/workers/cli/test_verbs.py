"""Each verb does what its help says, and its JSON is JSON."""

import json
import time
from collections.abc import Iterator
from importlib.metadata import version
from itertools import pairwise

import pytest
import typer
from dramatiq import Worker

from models import database, revision, schema
from models.report import InformationReport
from models.task import Task, TaskStatus
from tests.servers import OwnRedis, wait_until
from tests.workers.cli.conftest import Run, run_script
from workers import callboard, tasks
from workers.cli.main import app as callboard_app
from workers.ledger import cancel

*_, BEFORE, _ = sorted(revision.known())
"""The step before the newest."""
SELF_TEST = "diagnostics.run_self_test"
SPECIFIED = (
    "up", "worker", "migrate", "check", "inventory", "sample", "actors", "locks", "alerts", "audit", "enqueue",
    "doctor", "top", "bench", "legacy", "tasks", "queues", "schedules", "workers",
)  # fmt: skip
GROUPS = {
    "tasks": "list show logs watch cancel retry delete prune",
    "queues": "list pause resume purge",
    "schedules": "list show add edit delete pause resume run runs preview",
    "workers": "list",
    "legacy": "rewrite",
}
"""The verbs of spec/interfaces.md."""


def verbs(app: typer.Typer = callboard_app, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every verb there is, as its words."""
    for command in app.registered_commands:
        if command.name or command.callback:
            yield (*before, command.name or command.callback.__name__)
    for group in app.registered_groups:
        yield from verbs(group.typer_instance, (*before, group.name))


def test_every_verb_of_the_specification_is_there() -> None:
    there = set(verbs())

    assert {(name,) for name in SPECIFIED if name not in (*GROUPS, "alerts")} <= there
    assert {(group, name) for group, names in GROUPS.items() for name in names.split()} <= there


def test_help_names_every_verb_within_80_columns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    ended = run("--help")

    assert ended.code == 0
    assert max(map(len, ended.out.splitlines())) <= 80
    for verb in SPECIFIED:
        assert f" {verb} " in ended.out
    assert "…" not in ended.out


@pytest.mark.parametrize("verb", [*verbs()], ids=" ".join)
def test_every_verb_has_json_and_help_that_flows_within_80_columns(
    run: Run, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    ended = run(*verb, "--help")

    assert ended.code == 0
    lines = ended.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("--json" in line for line in lines)
    words = [line.strip() for line in lines[3 : next(n for n, line in enumerate(lines) if line.startswith("╭"))]]
    for line, following in pairwise(words):
        # why: a line that ends early although the next word had room was broken for another width.
        assert not (line and following) or len(line) + len(following.split()[0]) >= 76, (line, following)


def test_version_is_that_of_the_distribution(run: Run) -> None:
    assert run("--version").out == f"{version('callboard')}\n"


def test_actors_lists_names_types_and_parameters(run: Run) -> None:
    rows = {row["name"]: row for row in json.loads(run("actors", "--json").out)}

    found = rows["email.send_confirmation"]
    assert (found["type"], found["queue"], found["priority"]) == ("email", "email", 3)
    assert found["aliases"] == ["afirgen_tasks.email.send_confirmation"]
    assert found["params"]["required"] == ["fir_id", "recipient_email"]
    assert rows["email.send_alert"]["priority"] == 8
    assert set(rows) >= set(callboard.registry.actors)


def test_actors_shows_optional_parameters_in_brackets(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")

    ended = run("actors")

    assert "[steps], [seconds], [fail_at]" in ended.out
    assert "fir_id, recipient_email" in ended.out


@pytest.mark.usefixtures("system")
def test_check_finds_nothing_wrong_with_a_migrated_system(run: Run) -> None:
    ended = run("check")

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("all well: ")


def test_migrate_goes_up_down_and_up_again(run: Run, sqlite_database: str) -> None:
    asked = run("migrate", "--down")
    assert asked.code == 2
    assert "tables and columns of that step go with what is in them. Go on? Say --yes, as nobody can be" in asked.err

    down = run("migrate", "--down", "--yes")

    assert (down.code, down.out) == (0, f"the database is at {BEFORE}\n")
    wrong = run("check")
    assert wrong.code == 1
    (line,) = wrong.error_lines
    assert line.endswith(f" is at {BEFORE}, this code needs {schema.head()}: run `callboard migrate`")
    up = run("migrate")
    assert (up.code, up.out) == (0, f"the database is at {schema.head()}\n")
    assert run("check").code == 0


@pytest.mark.usefixtures("system")
def test_sample_loads_records_into_an_empty_database_once(run: Run) -> None:
    assert "  3 information reports\n" in run("sample").out
    assert run("sample").out == "there are records already; nothing was added\n"


@pytest.mark.usefixtures("system")
def test_sample_stays_out_of_a_configured_database(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callboard.settings, "database_url", "postgresql://db.example.org/callboard")

    ended = run("sample")

    assert (ended.code, ended.out) == (2, "")
    assert ended.error_lines == [
        "callboard: sample data goes only into the embedded database: unset CALLBOARD_DATABASE_URL to try it"
    ]
    with database.reading() as session:
        assert session.get(InformationReport, "FIR-2026-000101") is None


@pytest.mark.usefixtures("system")
def test_enqueue_prints_the_id_of_a_task_that_is_there(run: Run) -> None:
    ended = run("enqueue", SELF_TEST, "steps=3", 'seconds=0.5', "--priority", "9", "--max-retries", "1", "--type",
                "health", "--delay", "60")  # fmt: skip

    found = tasks.get_task(ended.out.strip())
    assert (ended.code, ended.err) == (0, "")
    assert found is not None
    assert found.params["kwargs"] == {"steps": 3, "seconds": 0.5}
    assert (found.priority, found.max_retries) == (9, 1)
    assert found.eta is not None


@pytest.mark.usefixtures("system")
def test_enqueue_gives_tags_and_correlation_id_and_says_what_rest_says(run: Run) -> None:
    given = ("enqueue", SELF_TEST, "--tag", "a", "--tag", "b", "--correlation", "order-7", "--key", "k", "--json")

    first, again = json.loads(run(*given).out), json.loads(run(*given).out)

    found = tasks.get_task(first["task_id"])
    assert found is not None
    assert (found.tags, found.correlation_id) == (["a", "b"], "order-7")
    assert first == {"task_id": found.task_id, "delivery": "sent", "duplicate": False}
    assert again == {"task_id": found.task_id, "delivery": "sent", "duplicate": True}


@pytest.mark.usefixtures("system")
def test_enqueue_takes_all_parameters_as_json_and_pairs_over_them(run: Run) -> None:
    ended = run("enqueue", "test_background_task", "steps=4", "--params", '{"steps": 2, "seconds": 0}', "--json")

    found = tasks.get_task(json.loads(ended.out)["task_id"])
    assert found is not None
    assert found.params["kwargs"] == {"steps": 4, "seconds": 0.0}


@pytest.mark.parametrize(
    ("given", "kept"),
    [("FIR-1", "FIR-1"), ("a=b", "a=b"), ('"quoted"', "quoted"), ("5", "5"),
     ("Zoë", "Zoë")],
)  # fmt: skip
@pytest.mark.usefixtures("system")
def test_a_value_is_text_unless_it_is_json(run: Run, given: str, kept: str) -> None:
    ended = run("enqueue", "reports.generate_pdf", f"report_id={given}")

    found = tasks.get_task(ended.out.strip())
    assert found is not None
    assert found.params["kwargs"] == {"report_id": kept}


@pytest.mark.usefixtures("system")
def test_json_that_is_malformed_is_an_error_and_not_taken_as_text(run: Run) -> None:
    ended = run("enqueue", "reports.generate_pdf", 'report_id={"a": ')

    assert ended.code == 2
    assert "a value that begins with" in ended.err
    assert tasks.get_task_count() == 0


def test_enqueue_and_wait_shows_progress_and_the_result(run: Run, sqlite_database: str, worker: Worker) -> None:
    ended = run("enqueue", SELF_TEST, "steps=2", "seconds=0.3", "--wait")

    assert ended.code == 0
    first, _, result = ended.out.partition("\n")
    assert " completed in 0." in first
    assert json.loads(result) == {"steps": 2, "seconds": 0.3, "attempt": 1}
    assert "step 1 of 2 done" in ended.err


def test_the_console_script_sends_waits_and_prints_the_row(sqlite_database: str, worker: Worker) -> None:
    ended = run_script("enqueue", SELF_TEST, "steps=1", "seconds=0", "--wait", "--json",
                       CALLBOARD_DATABASE_URL=sqlite_database)  # fmt: skip

    assert (ended.code, ended.err) == (0, "")
    row = json.loads(ended.out)
    assert (row["status"], row["result"]) == ("completed", {"steps": 1, "seconds": 0.0, "attempt": 1})


def test_waiting_for_a_task_that_fails_is_exit_code_1(run: Run, sqlite_database: str, worker: Worker) -> None:
    shown = run("enqueue", SELF_TEST, "fail_at=1", "--wait")
    as_json = run("enqueue", SELF_TEST, "fail_at=1", "--wait", "--json")

    assert (shown.code, shown.out, as_json.code) == (1, "", 1)
    assert "failed (not retryable) PermanentError: the self-test failed at step 1" in shown.error_lines[-1]
    row = json.loads(as_json.out)
    assert (row["status"], row["reason"], as_json.err) == ("failed", "not retryable", "")


@pytest.mark.usefixtures("system")
def test_waiting_without_a_worker_ends_with_what_to_look_at(run: Run) -> None:
    ended = run("enqueue", SELF_TEST, "--wait", "--timeout", "0.2")

    assert (ended.code, ended.out) == (1, "")
    assert "is still pending: is a worker running? Follow it with `callboard tasks watch" in ended.error_lines[-1]


@pytest.mark.usefixtures("system")
def test_tasks_list_filters_pages_and_counts(run: Run) -> None:
    first, second = tasks.enqueue_task(SELF_TEST), tasks.enqueue_task("reports.generate_pdf", params={"report_id": "R"})

    everything = json.loads(run("tasks", "list", "--json").out)
    health = json.loads(run("tasks", "list", "--json", "--type", "health", "--status", "pending").out)
    page = json.loads(run("tasks", "list", "--json", "--limit", "1", "--offset", "1").out)

    assert [row["task_id"] for row in everything["tasks"]] == [second, first]
    assert everything["total_count"] == 2
    assert [row["task_id"] for row in health["tasks"]] == [row["task_id"] for row in page["tasks"]] == [first]


@pytest.mark.usefixtures("system")
def test_tasks_list_is_a_table_with_whole_ids_within_80_columns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    task_id = tasks.enqueue_task("email.send_confirmation", params={"fir_id": "F", "recipient_email": "a@example.org"})

    ended = run("tasks", "list")

    assert task_id in ended.out
    assert ended.out.endswith("1 of 1\n")
    assert max(map(len, ended.out.splitlines())) <= 80


def test_tasks_show_has_row_attempts_and_log_lines(run: Run, sqlite_database: str, worker: Worker) -> None:
    task_id = tasks.enqueue_task(SELF_TEST, params={"steps": 2, "seconds": 0, "fail_at": 2})
    wait_until(lambda: tasks.get_task_count(TaskStatus.FAILED) == 1, within_s=15, what="the failure")

    as_json = json.loads(run("tasks", "show", task_id, "--json").out)
    text = run("tasks", "show", task_id).out

    assert [(one["number"], one["outcome"]) for one in as_json["attempts"]] == [(1, "failed")]
    assert [line["message"] for line in as_json["logs"]] == ["step 1 of 2 done", "step 2 of 2 fails, as asked"]
    for shown in (
        task_id,
        '{"steps": 2, "seconds": 0.0, "fail_at": 2}',
        "not retryable",
        "step 2 of 2 fails, as asked",
    ):
        assert shown in text


def test_tasks_watch_follows_a_task_to_its_end(run: Run, sqlite_database: str, worker: Worker) -> None:
    good = tasks.enqueue_task(SELF_TEST, params={"steps": 1, "seconds": 0.2})
    bad = tasks.enqueue_task(SELF_TEST, params={"fail_at": 1})

    watched = run("tasks", "watch", good), run("tasks", "watch", bad)

    assert [ended.code for ended in watched] == [0, 1]
    assert watched[0].out == f"{good} completed\n"
    assert watched[1].out == f"{bad} failed (not retryable)\n"


@pytest.mark.usefixtures("system")
def test_tasks_cancel_cancels_a_pending_task_once(run: Run) -> None:
    task_id = tasks.enqueue_task(SELF_TEST)

    first, second = run("tasks", "cancel", task_id), run("tasks", "cancel", task_id)

    assert (first.code, first.out) == (0, f"{task_id} cancelled\n")
    assert (second.code, second.error_lines) == (
        2, [f"callboard: task {task_id} is cancelled: it has ended"]
    )  # fmt: skip
    found = tasks.get_task(task_id)
    assert found is not None
    assert (found.status, found.reason) == ("cancelled", "by CLI")


@pytest.mark.usefixtures("system")
def test_tasks_cancel_asks_a_running_task_to_end(run: Run) -> None:
    task_id = tasks.enqueue_task(SELF_TEST)
    with database.writing() as session:
        session.get_one(Task, task_id).status = TaskStatus.RUNNING

    ended = run("tasks", "cancel", task_id)

    assert (ended.code, ended.out) == (
        0, f"{task_id} cancellation requested: `callboard tasks watch {task_id}` shows its end\n"
    )  # fmt: skip


def test_with_redis_hanging_send_look_and_cancel_answer_soon_and_with_the_truth(
    run: Run, own_redis: OwnRedis, sqlite_database: str
) -> None:
    patient = {
        "CALLBOARD_DATABASE_URL": sqlite_database,
        "CALLBOARD_BUS_TIMEOUT_S": "60",
        "CALLBOARD_STALL_TIMEOUT_S": "240",
    }
    task_id = tasks.enqueue_task(SELF_TEST)

    started_s = time.monotonic()
    with own_redis.hanging():
        cancelled = run_script("tasks", "cancel", task_id, **patient)
        sent = run_script("enqueue", SELF_TEST, **patient)
        shown = run_script("tasks", "show", sent.out.strip(), **patient)
    took_s = time.monotonic() - started_s

    assert took_s < 60, "one of them waited as long as a worker may"
    assert (cancelled.code, cancelled.out) == (
        0, f"{task_id} cancellation requested: Redis does not answer, and it is carried out when it does\n"
    )  # fmt: skip
    assert sent.error_lines == ["Redis does not answer: the task is accepted, and goes out by itself when it is back"]
    assert "waiting_on         Redis, which does not answer" in shown.out
    assert cancel.carry_out(callboard.broker) == 1
    assert run("tasks", "cancel", task_id).error_lines == [f"callboard: task {task_id} is cancelled: it has ended"]


@pytest.mark.usefixtures("system")
def test_tasks_show_says_why_a_task_is_not_running_yet(run: Run) -> None:
    task_id = tasks.enqueue_task(SELF_TEST, delay_s=600)

    assert "waiting_on         its time: it is delayed until " in run("tasks", "show", task_id).out
    assert json.loads(run("tasks", "show", task_id, "--json").out)["waiting_on"].startswith("its time")
