"""`callboard tasks …` beyond one task's show, watch and cancel: filters, cursors, logs, retry, delete, prune, bulk."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from models import database, direct, task_notes, task_walk
from models.task import Task, TaskStatus
from models.task_notes import LogLine
from models.task_query import MAX_PAGE
from tests.workers.cli.conftest import Run
from workers import tasks
from workers.cli.filters import moment
from workers.errors import InvalidTask

SELF_TEST = "diagnostics.run_self_test"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ENDED = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED)


def in_status(status: TaskStatus, **options: object) -> str:
    task_id = tasks.enqueue_task(SELF_TEST, **options)  # type: ignore[arg-type]
    with database.writing() as session:
        session.execute(update(Task).where(Task.task_id == task_id).values(  # type: ignore[arg-type]
            status=status, completed_at=datetime.now(UTC) if status in ENDED else None))  # fmt: skip
    return task_id


def status_of(task_id: str) -> str | None:
    found = tasks.get_task(task_id)
    return None if found is None else found.status


@pytest.mark.parametrize(
    ("options", "expected"),
    [(["--status", "failed"], "b"), (["--type", "health"], "ab"), (["--type", "email"], ""),
     (["--name", SELF_TEST], "ab"), (["--queue", "health"], "ab"), (["--priority", "9"], "b"),
     (["--tag", "nightly"], "b"), (["-q", "self_test"], "ab"),
     (["--correlation", "nobody"], ""), (["--since", "1h"], "ab"), (["--until", "1h"], ""), (["--parent", "x"], ""),
     (["--group", "x"], ""), (["--schedule", "x"], ""), (["--status", "failed", "--tag", "x"], "")],
)  # fmt: skip
@pytest.mark.usefixtures("system")
def test_a_list_takes_every_filter(run: Run, options: list[str], expected: str) -> None:
    ids = {in_status(TaskStatus.PENDING): "a", in_status(TaskStatus.FAILED, priority=9, tags=["nightly"]): "b"}

    answer = json.loads(run("tasks", "list", *options, "--json").out)

    assert sorted(ids[row["task_id"]] for row in answer["tasks"]) == sorted(expected)
    assert (answer["total_count"], answer["total_count_is_estimate"]) == (len(expected), False)


@pytest.mark.usefixtures("system")
def test_a_list_is_looked_through_where_a_page_of_the_api_would_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = tasks.enqueue_task(SELF_TEST, correlation_id="needle")
    for _ in range(12):
        tasks.enqueue_task(SELF_TEST)
    for name, rows in (("WALK_ROWS", 5), ("_CHUNK", 5)):
        monkeypatch.setattr(task_walk, name, rows)

    found = run("tasks", "list", "-q", "needle", "--limit", "2")
    nothing = json.loads(run("tasks", "list", "-q", "nothing", "--limit", "2", "--json").out)

    assert wanted in found.out
    assert (found.out.splitlines()[-1], found.err) == ("1 of 1", "")
    assert (nothing["tasks"], nothing["total_count"], nothing["total_count_is_estimate"]) == ([], 0, False)


@pytest.mark.usefixtures("system")
def test_a_list_goes_on_at_its_cursor(run: Run) -> None:
    ids = [tasks.enqueue_task(SELF_TEST) for _ in range(3)]

    first = run("tasks", "list", "--limit", "2")
    cursor = first.err.split("--cursor ")[1].strip()
    second = json.loads(run("tasks", "list", "--limit", "2", "--cursor", cursor, "--json").out)

    assert "2 of 3" in first.out
    assert ([row["task_id"] for row in second["tasks"]], second["next_cursor"]) == ([ids[0]], None)


@pytest.mark.parametrize(
    ("options", "mend"),
    [(["--status", "done"], "expected one of pending"), (["--since", "yesterday"], "such as 2026-11-22T12:00, or 30m"),
     (["--sort", "id"], "sort: expected one of created_at"), (["--cursor", "x"], "leave it out to begin anew"),
     (["--priority", "11"], "from 1 (last) to 10 (first)")],
)  # fmt: skip
@pytest.mark.usefixtures("refusing")
def test_a_wrong_filter_is_one_line_with_the_mend(run: Run, options: list[str], mend: str) -> None:
    ended = run("tasks", "list", *options)

    assert (ended.code, ended.out) == (2, "")
    (line,) = ended.error_lines
    assert mend in line


def test_log_lines_are_shown_as_text_and_as_json(run: Run, system: object) -> None:
    task_id = tasks.enqueue_task(SELF_TEST)
    with direct.transaction() as to:
        task_notes.write(to, [LogLine(task_id, 1, "info", message, NOW) for message in ("one", "two")])

    assert run("tasks", "logs", task_id).out == "12:00:00 info    one\n12:00:00 info    two\n"
    assert [line["message"] for line in json.loads(run("tasks", "logs", task_id, "--json").out)] == ["one", "two"]
    assert run("tasks", "logs", "nobody").code == 2


def test_more_log_lines_than_a_page_has_are_shown_both_ways(run: Run, system: object) -> None:
    task_id = tasks.enqueue_task(SELF_TEST)
    each = MAX_PAGE // 2 + 1
    lines = [LogLine(task_id, attempt, "info", f"line {number}", NOW) for attempt in (1, 2) for number in range(each)]
    with direct.transaction() as to:
        task_notes.write(to, lines)

    assert run("tasks", "logs", task_id).out.count("\n") == len(lines)
    assert len(json.loads(run("tasks", "logs", task_id, "--json").out)) == len(lines)


def test_one_task_is_retried(run: Run, system: object) -> None:
    failed = in_status(TaskStatus.FAILED)

    ended = run("tasks", "retry", failed)
    again = run("tasks", "retry", failed)

    assert (ended.code, ended.out) == (0, f"{failed} is pending again\n")
    assert status_of(failed) == "pending"
    assert again.code == 2
    assert "only failed and cancelled tasks can be retried" in again.err


@pytest.mark.parametrize(
    ("verb", "status", "outcome"),
    [("cancel", TaskStatus.PENDING, "cancelled"), ("retry", TaskStatus.FAILED, "reopened"),
     ("delete", TaskStatus.COMPLETED, "deleted")],
)  # fmt: skip
@pytest.mark.usefixtures("system")
def test_an_action_on_many_says_how_many_and_wants_a_yes(run: Run, verb: str, status: TaskStatus, outcome: str) -> None:
    ids = [in_status(status) for _ in range(3)]

    asked = run("tasks", verb, "--queue", "health")

    assert (asked.code, asked.out) == (2, "")
    assert f"{verb} 3 tasks? Say --yes" in asked.err
    assert {status_of(one) for one in ids} == {status}
    done = json.loads(run("tasks", verb, "--queue", "health", "--yes", "--json").out)
    assert done["outcomes"][outcome] == 3


@pytest.mark.usefixtures("system")
def test_ids_need_no_yes(run: Run) -> None:
    ids = [in_status(TaskStatus.COMPLETED) for _ in range(2)]

    assert run("tasks", "delete", *ids).out == "2 deleted, 0 kept\n"
    assert [status_of(one) for one in ids] == [None, None]


@pytest.mark.parametrize("verb", ["cancel", "retry", "delete"])
@pytest.mark.usefixtures("refusing")
def test_neither_ids_nor_filters_is_not_everything(run: Run, verb: str) -> None:
    ended = run("tasks", verb, "--yes")

    assert ended.code == 2
    assert "expected ids, or at least one filter" in ended.err


@pytest.mark.usefixtures("system")
def test_old_tasks_are_pruned_at_once(run: Run) -> None:
    old, young = in_status(TaskStatus.COMPLETED), in_status(TaskStatus.COMPLETED)
    with database.writing() as session:
        row = session.get_one(Task, old)
        row.task_id, row.completed_at = "00000000-0000-7000-8000-000000000000", datetime.now(UTC) - timedelta(days=10)

    assert "Say --yes" in run("tasks", "prune", "--days", "5").err
    assert json.loads(run("tasks", "prune", "--days", "5", "--yes", "--json").out)["tasks"] == 1
    assert tasks.get_task_count() == 1
    assert status_of(young) == "completed"
    assert run("tasks", "prune").code == 0


@pytest.mark.parametrize(
    ("said", "expected"),
    [("90s", NOW - timedelta(seconds=90)), ("2h", NOW - timedelta(hours=2)), ("7d", NOW - timedelta(days=7)),
     ("2026-11-22T12:00", NOW), ("2026-11-22T13:00+01:00", NOW)],
)  # fmt: skip
def test_a_time_is_said_as_people_say_it(said: str, expected: datetime) -> None:
    assert moment(said, "since", NOW) == expected


@pytest.mark.parametrize("said", ["", "x", "7", "-1h", "999999999d", "2026-13-01"])
def test_what_is_no_time_is_refused(said: str) -> None:
    with pytest.raises(InvalidTask, match="--since: expected a time such as"):
        moment(said, "since", NOW)


@pytest.mark.usefixtures("system")
def test_enqueue_takes_a_time_and_a_key(run: Run) -> None:
    first = run("enqueue", SELF_TEST, "--eta", "2030-01-01T12:00", "--key", "k")
    again = run("enqueue", SELF_TEST, "--key", "k")

    assert (first.code, again.code, first.out) == (0, 0, again.out)
    assert "nothing was sent" in again.err
    found = tasks.get_task(first.out.strip())
    assert found is not None
    assert found.eta is not None
    assert abs((found.eta - datetime(2030, 1, 1, 12, tzinfo=UTC)).total_seconds()) < 1


@pytest.mark.usefixtures("system")
def test_a_task_that_waits_gets_another_priority_and_time(run: Run) -> None:
    task_id = tasks.enqueue_task(SELF_TEST, delay_s=3600)

    edited = json.loads(run("tasks", "edit", task_id, "--priority", "10", "--eta", "2030-01-02T03:04", "--json").out)
    shown = run("tasks", "edit", task_id, "--now", "--priority", "2")

    assert (edited["priority"], edited["eta"]) == (10, "2030-01-02T03:04:00+00:00")
    assert (shown.code, shown.out) == (0, f"{task_id} waits with priority 2\n")
    row = tasks.get_task(task_id)
    assert row is not None
    assert (row.priority, row.eta) == (2, None)


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        ([], "nothing to change: give --priority, --eta or --now"),
        (["--now", "--eta", "2100-01-01"], "expected either --eta or --now, got both"),
        (["--priority", "11"], "from 1 (last) to 10 (first), got 11"),
        (["--eta", "soon"], "--eta: expected a time such as"),
    ],
)
@pytest.mark.usefixtures("system")
def test_a_change_that_cannot_be_is_refused_with_its_mend(run: Run, options: list[str], mend: str) -> None:
    task_id = tasks.enqueue_task(SELF_TEST, delay_s=3600)

    ended = run("tasks", "edit", task_id, *options)

    assert (ended.code, ended.out) == (2, "")
    assert mend in ended.err


@pytest.mark.usefixtures("system")
def test_a_task_that_has_ended_is_not_changed(run: Run) -> None:
    ended = run("tasks", "edit", in_status(TaskStatus.COMPLETED), "--priority", "1")

    assert ended.code == 2
    assert "has ended" in ended.err


@pytest.mark.usefixtures("system")
def test_a_group_is_summed_up(run: Run) -> None:
    for status in (TaskStatus.PENDING, TaskStatus.FAILED, TaskStatus.FAILED):
        in_status(status)
    with database.writing() as session:
        session.execute(update(Task).values(group_id="g-1"))

    shown, as_json = run("tasks", "group", "g-1"), json.loads(run("tasks", "group", "g-1", "--json").out)

    assert shown.out == "3 tasks: 2 failed, 1 pending\n"
    assert as_json["by_status"] == {"failed": 2, "pending": 1}
    assert run("tasks", "group", "nobody").code == 2


@pytest.mark.usefixtures("system")
def test_stats_says_what_ended_how_in_all_and_by_parts(run: Run) -> None:
    for status in (TaskStatus.COMPLETED, TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.PENDING):
        in_status(status)

    shown = run("stats", "--since", "1h", "--bucket", "1800")
    as_json = json.loads(run("stats", "--json").out)

    assert "2 completed, 1 failed, 0 cancelled; 66.7% successful\nnow 0 running, 1 pending\n" in shown.out
    lines = [line.split() for line in shown.out.splitlines()[4:]]
    assert len(lines) in (2, 3)
    assert [sum(int(line[column]) for line in lines) for column in (2, 3, 4)] == [2, 1, 0]
    assert any("█" in line[-1] for line in lines)
    assert (as_json["completed"], as_json["failed"], as_json["pending"]) == (2, 1, 1)
    assert run("stats", "--since", "60d").code == 2
    assert "expected one of" in run("stats", "--bucket", "7").err


@pytest.mark.usefixtures("system")
def test_long_work_shows_a_bar_in_a_terminal_and_nothing_elsewhere(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def delete(*options: str) -> str:
        for _ in range(3):
            in_status(TaskStatus.COMPLETED)
        return run("tasks", "delete", "--status", "completed", "--yes", *options).err

    elsewhere = delete()
    monkeypatch.setenv("FORCE_COLOR", "1")  # why: so rich takes what it writes to for a terminal.
    in_a_terminal, as_json = delete(), delete("--json")

    assert "delete" in in_a_terminal
    assert "3/3" in in_a_terminal
    assert (elsewhere, as_json) == ("", "")
