"""The first ten minutes of a new user: up, send, look, a crash, up again, stop; in the file's order, on one system.

What takes a time of its own (a command, a minute, a lease, the patience of a second `up`) goes on while others do: the
commands of the first minute are begun together, and each test looks at the end of its own.
"""

import email
import email.policy
import json
import re
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import psutil
import pytest

from tests.acceptance.conftest import STOP_WITHIN_S, Command, System
from tests.scale import PATIENCE
from tests.servers import wait_until

pytestmark = pytest.mark.timeout(300)
MAIL = ("enqueue", "email.send_confirmation", "fir_id=FIR-2026-000102", "recipient_email=jonas@example.org", "--wait")


@pytest.fixture(scope="module")
def first_minute(running: System) -> Iterator[dict[str, Command]]:
    """What a new user tries, all at once."""
    begun = {
        "kill": running.begin("enqueue", "probes.kill_worker", f"path={running.var_dir / 'evidence'}", "times=1"),
        "mail": running.begin(*MAIL),
        "report": running.begin("enqueue", "afirgen_tasks.reports.generate_pdf", "report_id=FIR-2026-000103", "--wait"),
        "self-test": running.begin("enqueue", "diagnostics.run_self_test", "steps=3", "seconds=0.6", "--wait"),
        "second up": running.begin("up"),
    }
    yield begun
    for command in begun.values():
        command.process.kill()
        command.process.communicate()


def test_it_says_what_it_uses(running: System, first_minute: object) -> None:
    assert "Redis: starting the embedded server at unix://" in running.output
    assert "migrated to" in running.output
    assert "sample data: " in running.output
    assert "mails are caught and kept in" in running.output
    assert f"API: http://127.0.0.1:{running.api_port}" in running.output


def test_a_confirmation_is_mailed_and_its_row_is_completed(running: System, first_minute: dict[str, Command]) -> None:
    done = first_minute["mail"].end()

    assert done.code == 0, done.err
    assert "completed" in done.out
    assert "250 OK" in done.out
    (kept,) = (running.var_dir / "mail").glob("*jonas@example.org.eml")
    mail = email.message_from_bytes(kept.read_bytes(), policy=email.policy.default)
    parts = {part.get_content_type(): part.get_content() for part in mail.iter_parts()}  # type: ignore[attr-defined]  # EmailMessage under this policy
    assert "FIR-2026-000102" in parts["text/plain"]
    assert "FIR-2026-000102" in parts["text/html"]
    assert "Jonas Weber" in parts["text/plain"]

    row = running.get("/api/tasks/?status=completed&task_name=email.send_confirmation").json()["tasks"][0]
    assert (row["status"], row["task_name"]) == ("completed", "email.send_confirmation")
    assert row["result"]["deliveries"][0]["recipient"] == "jonas@example.org"
    assert row["created_at"] <= row["started_at"] <= row["completed_at"]


def test_legacy_names_reach_the_same_actors(running: System, first_minute: dict[str, Command]) -> None:
    done = first_minute["report"].end()

    assert done.code == 0, done.err
    assert len(list((running.var_dir / "documents").glob("*FIR-2026-000103-*.pdf"))) == 1


def test_progress_and_log_lines_are_shown(first_minute: dict[str, Command]) -> None:
    done = first_minute["self-test"].end()

    assert done.code == 0
    assert "step 2 of 3 done" in done.err
    assert '"steps": 3' in done.out


def test_a_killed_worker_is_restarted(running: System, first_minute: dict[str, Command]) -> None:
    assert first_minute["kill"].end().code == 0

    wait_until(lambda: "starting it again" in running.output, within_s=60, what="word of the restart")


def test_a_second_system_on_the_same_folder_is_refused(running: System, first_minute: dict[str, Command]) -> None:
    second = first_minute["second up"].end()

    assert second.code == 2
    assert "another `callboard up` runs on" in second.err
    assert "Traceback" not in second.err
    assert psutil.pid_exists(running.process.pid)  # type: ignore[union-attr]  # it is up


def test_the_task_of_the_killed_worker_completes_with_two_attempts(running: System) -> None:
    def found() -> dict[str, Any]:
        rows: list[dict[str, Any]] = running.get("/api/tasks/?task_name=probes.kill_worker").json()["tasks"]
        return next(row for row in rows if row["task_name"] == "probes.kill_worker")

    wait_until(lambda: found()["status"] == "completed", within_s=120, what="its completion")

    assert (found()["attempt"], found()["retry_count"]) == (2, 0)
    shown = running.run("tasks", "show", found()["task_id"])
    assert "lost" in shown.out


def test_if_the_supervisor_is_killed_its_processes_end_too(running: System) -> None:
    assert running.process is not None

    running.process.kill()
    running.process.wait(timeout=90)

    wait_until(lambda: running.family() == [], within_s=30, what="its processes to end")


def test_a_start_after_the_crash_goes_on_where_it_was(running: System) -> None:
    running.up()

    assert len(running.family()) >= 6
    assert "up to date" in running.output
    assert "sample data" not in running.output
    listed = running.get("/api/tasks/?task_name=email.send_confirmation").json()
    assert listed["total_count"] == 1
    assert running.run("enqueue", "diagnostics.run_self_test", "steps=1", "seconds=0", "--wait").code == 0


def test_the_demo_lives_a_working_day_through_all_domains(running: System) -> None:
    done = running.run("demo", "--json")

    told = json.loads(done.out)
    assert {one["title"]: one["seen"] for one in told if not one["is_done"]} == {}
    assert (len(told), done.code) == (8, 0)
    assert any(path.name.startswith("work-permit-") for path in (running.var_dir / "documents").iterdir())


def test_ctrl_c_in_the_demo_tells_what_happened_so_far_and_ends_with_130(running: System) -> None:
    def reports() -> int:
        return sum("Generator fault" in path.read_text() for path in (running.var_dir / "mail").glob("*.eml"))

    before = reports()
    demo = running.begin("demo")
    wait_until(lambda: reports() > before, within_s=60, what="the mail of the fourth step")
    demo.process.send_signal(signal.SIGINT)

    done = demo.end()
    assert done.code == 130, done.err
    assert "the minute's sweep" in done.out
    assert re.search(r"^\d of 8 steps; ", done.out, re.MULTILINE)


def test_the_health_check_runs_within_a_minute(running: System) -> None:
    def samples() -> list[dict[str, object]]:
        found: list[dict[str, object]] = running.get(
            "/api/tasks/?status=completed&task_name=health.check_system"
        ).json()["tasks"]
        return [row for row in found if row["schedule_id"]]

    wait_until(samples, within_s=75, what="a completed health check")

    assert samples()[0]["schedule_id"] == "system-health-check"


def test_ctrl_c_lets_a_running_task_finish_with_all_that_it_needs_and_then_ends_all_within_ten_seconds(
    running: System,
) -> None:
    task_id = running.run("enqueue", "diagnostics.run_self_test", "steps=8", "seconds=10").out.strip()

    def status() -> str:
        # why not the API: where the machine is busy, its answer may come when the task has ended.
        with closing(sqlite3.connect(running.var_dir / "callboard.db", timeout=30)) as ledger:
            (found,) = ledger.execute("SELECT status FROM background_tasks WHERE task_id = ?", (task_id,)).fetchone()
            return str(found)

    wait_until(lambda: status() == "running", within_s=20, what="the task to run")

    running.interrupt()

    ended_at = datetime.now(UTC)
    ledger = sqlite3.connect(running.var_dir / "callboard.db")
    found = ledger.execute(
        "SELECT status, attempt, progress, completed_at FROM background_tasks WHERE task_id = ?", (task_id,)
    )
    *row, completed_at = found.fetchone()
    ledger.close()
    assert row == ["completed", 1, 1.0], running.output
    took_s = (ended_at - datetime.fromisoformat(completed_at).replace(tzinfo=UTC)).total_seconds()
    assert took_s < STOP_WITHIN_S * PATIENCE
    wait_until(lambda: running.family() == [], within_s=1, what=f"no process left: {running.family()}")
    assert running.process is not None
    assert running.process.returncode == 0
