"""What README.md shows is what runs: its code blocks are executed, its settings table is compared with the settings."""

import os
import re
import shutil
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import uvicorn
from dramatiq import Worker
from fastapi import FastAPI
from sqlmodel import Session

from models import database
from models.task import FailureReason, TaskStatus
from periodic import duplicates, schedules, timetable
from periodic.declaration import problems
from periodic.elsewhere import look
from periodic.timetable import TIMETABLE
from tests.conftest import FAST
from tests.models.rows import in_status
from tests.servers import wait_until
from workers import Callboard, audit, callboard, tasks
from workers.settings import Settings

PROJECT_DIR = Path(__file__).resolve().parents[2]
README = (PROJECT_DIR / "README.md").read_text()


def block(name: str) -> str:
    """The Python block that follows `<!-- test: name -->`."""
    found = re.search(rf"<!-- test: {name} -->\n```python\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """A real server with this application, on a free port."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, within_s=10, what="uvicorn")
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def test_the_fastapi_example_sends_a_task_and_shows_its_state(system: Callboard) -> None:
    example = types.ModuleType("example")
    exec(compile(block("fastapi"), "README.md", "exec", dont_inherit=True), example.__dict__)

    with served(example.app) as url:
        sent = httpx2.post(f"{url}/reports/FIR-2026-000101/confirmation", params={"recipient_email": "me@example.org"})
        task_id = sent.json()["task_id"]
        state = httpx2.get(f"{url}/confirmations/{task_id}").json()

    assert sent.status_code == 202
    assert state == {"status": "pending", "result": None}
    row = tasks.get_task(task_id)
    assert row is not None
    assert (row.status, row.priority) == (TaskStatus.PENDING, 7)


def test_the_examples_of_schedules_do_what_they_say(system: Callboard) -> None:
    names = vars(timetable).copy()
    exec(compile(block("timetable"), "README.md", "exec", dont_inherit=True), names)
    exec(compile(block("schedules"), "README.md", "exec", dont_inherit=True), {"__name__": "readme"})

    assert problems(names["TIMETABLE"], callboard.registry) == []
    (shown,) = schedules.list()
    assert (shown["id"], shown["overlap"], shown["jitter_s"], shown["run_count"]) == ("weekly-check", "allow", 30, 1)


def test_the_example_of_sending_sends_what_it_says(system: Callboard) -> None:
    exec(compile(block("sending"), "README.md", "exec", dont_inherit=True), {"__name__": "readme"})

    rows = tasks.list_tasks()
    assert sorted(row["task_name"] for row in rows) == [
        "readme.convert", "readme.push", "readme.push", "readme.push", "reports.generate_pdf"
    ]  # fmt: skip
    assert {row["status"] for row in rows} == {"pending"}


def test_the_example_of_a_lock_has_its_token(system: Callboard, worker: Worker) -> None:
    example = types.ModuleType("example")
    exec(compile(block("exclusive"), "README.md", "exec", dont_inherit=True), example.__dict__)
    task_id = example.rebuild_index.send().message_id

    wait_until(lambda: tasks.get_task_count(TaskStatus.COMPLETED) == 1, within_s=20, what="its end")

    row = tasks.get_task(task_id)
    assert row is not None
    assert isinstance(row.result, int)


def test_the_example_of_two_schedulers_is_found_as_the_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beat.py").write_text(block("two schedulers"))
    found = re.search(r"says\n\n```text\n(beat\.py:5.*?)```", README, re.DOTALL)
    assert found is not None

    declared = duplicates.placed(TIMETABLE)
    monkeypatch.chdir(tmp_path)
    problems = duplicates.elsewhere(look([Path("beat.py")]), declared, callboard.registry)

    def without_lines(text: str) -> str:
        return re.sub(r"[^ ]*periodic/timetable\.py:\d+", "periodic/timetable.py:N", " ".join(text.split()))

    assert [without_lines(one) for one in problems] == [without_lines(found[1])]


@pytest.mark.timeout(120)
def test_the_example_of_a_domain_works_as_the_readme_says(redis_url: str, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for package in ("models", "workers", "periodic"):
        shutil.copytree(PROJECT_DIR / package, checkout / package, ignore=shutil.ignore_patterns("*.pyc.*"))
    shutil.copy(PROJECT_DIR / "pyproject.toml", checkout)
    (checkout / "workers" / "actors" / "archive.py").write_text(block("domain"))
    documents = tmp_path / "var" / "documents"
    documents.mkdir(parents=True)
    (documents / "one.pdf").write_bytes(b"%PDF-1.7 " + b"x" * 5_000)
    environment = {
        **os.environ,
        **FAST,
        "CALLBOARD_VAR_DIR": str(tmp_path / "var"),
        "CALLBOARD_REDIS_URL": redis_url,
        "PYTHONPATH": str(checkout),
    }
    commands = Path(sys.executable).parent

    def begin(command: str, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [str(commands / command), *arguments],
            cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def end(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
        out, err = process.communicate(timeout=90)
        return process.returncode, out, err

    enqueue = ("callboard", "enqueue", "archive.compress_document", "--wait", "--timeout", "60")
    assert end(begin("callboard", "migrate"))[0] == 0
    # why all at once: each is a process that has to start, and waits for the worker as a user would.
    worker = begin("dramatiq", "workers", "--processes", "1", "--threads", "2")
    begun = [begin("callboard", "check"), begin(*enqueue, "name=one.pdf"), begin(*enqueue, "name=none.pdf")]
    try:
        checked, done, refused = map(end, begun)
        again = end(begin(*enqueue, "name=one.pdf"))
    finally:
        worker.terminate()
        end(worker)
    assert checked[0] == 0, checked
    for code, out, err in (done, again):
        assert code == 0, err
        assert '"file": "one.pdf.gz"' in out
    assert refused[0] == 1
    assert "generate it first" in refused[2]
    assert sorted(found.name for found in documents.iterdir()) == ["one.pdf", "one.pdf.gz"]


def test_the_settings_table_names_every_setting_and_no_other() -> None:
    table = README[README.index("## Settings") : README.index("## Where things are")]
    table = table.replace(
        "`…_MEMORY_PERCENT`, `…_DISK_PERCENT`", "CALLBOARD_HEALTH_MEMORY_PERCENT CALLBOARD_HEALTH_DISK_PERCENT"
    )

    named = set(re.findall(r"CALLBOARD_[A-Z_]+[A-Z]", table))

    assert named == {f"CALLBOARD_{field.upper()}" for field in Settings.model_fields}


SQL = re.findall(r"<!-- test: sql ([a-z -]+) -->\n```sql\n(.*?);\n```", README, re.DOTALL)


def test_there_are_four_queries_for_monitoring() -> None:
    assert [name for name, _ in SQL] == ["by status", "recent failures", "long-running", "success rate"]


@pytest.mark.parametrize(("name", "query"), SQL, ids=[name for name, _ in SQL])
def test_a_query_for_monitoring_says_what_it_is_to_say(name: str, query: str, ledger_database: str) -> None:
    in_status(TaskStatus.PENDING)
    running = in_status(TaskStatus.RUNNING)
    failed = in_status(TaskStatus.FAILED)
    for _ in range(2):
        in_status(TaskStatus.COMPLETED)

    with database.reading() as session:
        rows = [tuple(row) for row in session.connection().exec_driver_sql(query)]

    if name == "by status":
        assert rows == [("completed", 2), ("failed", 1), ("pending", 1), ("running", 1)]
    elif name == "success rate":
        assert [(row[0], row[1], float(row[2])) for row in rows] == [("diagnostics.run_self_test", 3, 66.7)]
    else:
        assert [row[0] for row in rows] == [failed if name == "recent failures" else running]


def test_the_example_of_best_practices_fails_for_good_and_logs(
    system: Callboard, worker: Worker, tmp_path: Path
) -> None:
    example = types.ModuleType("example")
    exec(compile(block("best practices"), "README.md", "exec", dont_inherit=True), example.__dict__)
    example.SOURCE = tmp_path
    (tmp_path / "three").write_text("1\n2\n3\n")

    counted = example.count_lines.send("three").message_id
    missing = example.count_lines.send("../three/none").message_id
    wait_until(lambda: tasks.get_task_count(TaskStatus.FAILED) == 1, within_s=20, what="the failure")
    wait_until(lambda: tasks.get_task_count(TaskStatus.COMPLETED) == 1, within_s=20, what="the count")

    rows = [tasks.get_task(task_id) for task_id in (counted, missing)]
    assert [(row.result, row.reason, row.priority) for row in rows if row] == [(3, None, 6), (None, "not retryable", 6)]


def test_the_example_of_kinds_is_sent_with_the_commit_or_not_at_all(system: Callboard) -> None:
    example = types.ModuleType("example")
    exec(compile(block("kinds"), "README.md", "exec", dont_inherit=True), example.__dict__)

    with Session(database.engine()) as session:
        example.register(session, "Ada")
        session.rollback()
        example.register(session, "Bob")
        session.commit()
    example.transcode.send("film")

    rows = {(row["task_name"], row["queue"]): row["params"] for row in tasks.list_tasks()}
    assert rows == {("readme.greet", "email"): {"name": "Bob"}, ("readme.transcode", "heavy"): {"video": "film"}}


def test_every_metric_is_in_the_table_and_the_table_has_no_other(system: Callboard) -> None:
    from workers.metrics import exposition  # why: the library is only needed here.

    chapter = README[README.index("### Metrics") : README.index("### Alerts")]
    cells = " ".join(line.split("|")[1] for line in chapter.splitlines() if line.startswith("| `"))
    named = set(re.findall(r"`([a-z_]+)", cells))

    shown = re.findall(r"^# TYPE callboard_([a-z_]+) ", exposition()[0].decode(), re.MULTILINE)

    assert named == set(shown)


def test_every_rule_of_alerts_is_in_the_table() -> None:
    from workers.alerts import rules  # why: its docstring is the list.

    chapter = README[README.index("### Alerts") : README.index("## Providers, clean-up and cache")]
    said = rules.__doc__ or ""

    assert re.findall(r"^\| `([a-z_]+)` \|", chapter, re.MULTILINE) == [
        *re.findall(r"^    ([a-z_]+)  +\S", said, re.MULTILINE), "health"
    ]  # fmt: skip


def test_every_reason_of_a_failed_task_is_explained() -> None:
    chapter = README[README.index("## What the rows say") : README.index("### In a fault")]

    assert re.findall(r"^\| `([a-z ]+)` \|", chapter, re.MULTILINE) == list(FailureReason)


def test_every_command_that_the_readme_names_exists() -> None:
    from workers.cli.main import app  # why: typer is only needed here

    verbs = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    named = set(
        re.findall(
            r"callboard (?!up\b)([a-z]+)\b", "\n".join(re.findall(r"`(?:\.venv/bin/)?(callboard [^`]*)`", README))
        )
    )

    assert named <= verbs


def test_the_task_routes_in_an_application_of_ones_own_are_under_its_authentication(system: Callboard) -> None:
    example = types.ModuleType("mounted")
    exec(compile(block("mounted"), "README.md", "exec", dont_inherit=True), example.__dict__)
    task = {"task_name": "diagnostics.run_self_test"}

    with served(example.app) as url:
        answers = [
            httpx2.post(f"{url}/api/tasks/enqueue", json=task, headers=headers).status_code
            for headers in ({}, {"x-user": "guest"}, {"x-user": "meera"})
        ]

    assert answers == [401, 403, 201]
    latest = audit.entries(limit=1)[0]
    assert (latest.who, latest.action, latest.outcome) == ("meera", "tasks.enqueue", "done")


def test_every_link_within_the_readme_leads_to_a_heading() -> None:
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}

    assert set(re.findall(r"\]\(#([^)]+)\)", prose)) <= anchors


def test_the_names_that_people_may_know_lead_to_settings_that_there_are() -> None:
    table = README[README.index("Names that you may know") : README.index("## Where things are")]
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.*) \|$", table, re.MULTILINE))

    assert list(rows) == [
        "max_tasks", "task_timeout", "max_task_retries", "auto_restart_tasks", "scheduler_thread_pool",
        "tasks_directory",
    ]  # fmt: skip
    for here in rows.values():
        names = re.findall(r"CALLBOARD_([A-Z_]+)", here)
        assert names
        assert {name.lower() for name in names} <= set(Settings.model_fields)
    assert (PROJECT_DIR / "workers" / "actors").is_dir()


def test_the_verbs_and_paths_of_its_table_exist() -> None:
    from tests.workers.cli.test_verbs import verbs
    from workers.web import create_app  # why: FastAPI is only needed here.

    chapter = README[README.index("## Command line and API") : README.index("| exit code |")].replace("\\|", "¦")
    rows = [line.strip("| ").split(" | ") for line in chapter.splitlines() if line.startswith("| ")][1:]
    said = {one for _, cell, _ in rows for one in re.findall(r"`([a-z]+(?: [a-z¦]+)?)", cell)}
    paths = {one for *_, cell in rows for one in re.findall(r"`(?:PATCH )?/?([a-z][a-z_/{}¦-]+)", cell)} - {"dry_run"}
    there = {re.sub(r"\{.*?\}", "{id}", path) for path in create_app().openapi()["paths"]}

    assert len(said) > 10
    assert {tuple(f"{group} {one}".split()) for group, _, names in (verb.partition(" ") for verb in said)
            for one in names.split("¦")} - {("alerts",)} <= {*verbs()}  # fmt: skip
    assert len(paths) > 12
    for name in paths:
        head, _, last = re.sub(r"\{.*?\}", "{id}", name).rpartition("/")
        for one in last.split("¦"):
            path = f"{head}/{one}".strip("/")
            assert there & {f"/api/{path}", f"/api/{path}/", f"/{path}"}, path
