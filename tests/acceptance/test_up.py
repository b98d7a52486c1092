"""The first ten minutes of a new user: up, send, look, stop, up again. In the order of the file, on one running.

What waits for a time that is fixed (a minute, a lease, another system's end) waits at the same time as the others do.
"""

import email
import email.policy
import json
import sqlite3
from typing import Any

import psutil
import pytest

from tests.acceptance.conftest import STOP_WITHIN_S, System
from tests.scale import PATIENCE
from tests.servers import wait_until

pytestmark = pytest.mark.timeout(300)


def test_it_says_what_it_uses(running: System) -> None:
    assert "Redis: starting the embedded server at unix://" in running.output
    assert "migrated to" in running.output
    assert "among them 3 information reports" in running.output
    assert "mails are caught and kept in" in running.output
    assert f"API: http://127.0.0.1:{running.api_port}" in running.output


def test_a_confirmation_is_mailed_and_its_row_is_completed(running: System) -> None:
    done = running.run(
        *("enqueue", "email.send_confirmation", "fir_id=FIR-2026-000102", "recipient_email=jonas@example.org", "--wait")
    )

    assert done.returncode == 0, done.stderr
    assert "completed" in done.stdout
    assert "250 OK" in done.stdout
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


def test_legacy_names_reach_the_same_actors(running: System) -> None:
    done = running.run("enqueue", "afirgen_tasks.reports.generate_pdf", "report_id=FIR-2026-000103", "--wait")

    assert done.returncode == 0, done.stderr
    assert len(list((running.var_dir / "documents").glob("*FIR-2026-000103-*.pdf"))) == 1


def test_progress_and_log_lines_are_shown(running: System) -> None:
    done = running.run("enqueue", "diagnostics.run_self_test", "steps=3", "seconds=0.6", "--wait")

    assert done.returncode == 0
    assert "step 2 of 3 done" in done.stderr
    assert '"steps": 3' in done.stdout


def test_a_killed_worker_is_restarted(running: System) -> None:
    running.run("enqueue", "probes.kill_worker", f"path={running.var_dir / 'evidence'}", "times=1")

    wait_until(lambda: "starting it again" in running.output, within_s=60, what="word of the restart")


def test_a_second_system_on_the_same_folder_is_refused(running: System) -> None:
    second = running.run("up")

    assert second.returncode == 2
    assert "another `callboard up` runs on" in second.stderr
    assert "Traceback" not in second.stderr
    assert psutil.pid_exists(running.process.pid)  # type: ignore[union-attr]  # it is up


def test_the_health_check_runs_within_a_minute(running: System) -> None:
    def samples() -> list[dict[str, object]]:
        found: list[dict[str, object]] = running.get("/api/tasks/?status=completed&task_type=health").json()["tasks"]
        return [row for row in found if row["task_name"] == "health.check_system"]

    wait_until(samples, within_s=75, what="a completed health check")

    assert samples()[0]["schedule_id"] == "system-health-check"


def test_the_task_of_the_killed_worker_completes_with_two_attempts(running: System) -> None:
    def found() -> dict[str, Any]:
        rows: list[dict[str, Any]] = running.get("/api/tasks/?task_type=job").json()["tasks"]
        return next(row for row in rows if row["task_name"] == "probes.kill_worker")

    wait_until(lambda: found()["status"] == "completed", within_s=120, what="its completion")

    assert (found()["attempt"], found()["retry_count"]) == (2, 0)
    shown = running.run("tasks", "show", found()["task_id"])
    assert "lost" in shown.stdout


def test_the_demo_lives_a_working_day_through_all_domains(running: System) -> None:
    done = running.run("demo", "--json")

    told = json.loads(done.stdout)
    assert {one["title"]: one["seen"] for one in told if not one["is_done"]} == {}
    assert (len(told), done.returncode) == (8, 0)
    assert any(path.name.startswith("work-permit-") for path in (running.var_dir / "documents").iterdir())


def test_ctrl_c_lets_a_running_task_finish_with_all_that_it_needs(running: System) -> None:
    task_id = running.run("enqueue", "diagnostics.run_self_test", "steps=8", "seconds=5").stdout.strip()
    wait_until(
        lambda: running.get(f"/api/tasks/{task_id}").json()["status"] == "running", within_s=20, what="the task to run"
    )

    running.interrupt()

    with sqlite3.connect(running.var_dir / "callboard.db") as ledger:
        found = ledger.execute("SELECT status, attempt, progress FROM background_tasks WHERE task_id = ?", (task_id,))
        assert found.fetchone() == ("completed", 1, 1.0), running.output
    ledger.close()


def test_a_second_start_goes_on_where_it_was(running: System) -> None:
    running.up()

    assert "up to date" in running.output
    assert "sample data" not in running.output
    listed = running.get("/api/tasks/?task_name=email.send_confirmation").json()
    assert listed["total_count"] == 2  # its own test's, and the demo's
    again = running.run("enqueue", "diagnostics.run_self_test", "steps=1", "seconds=0", "--wait")
    assert again.returncode == 0


def test_if_the_supervisor_is_killed_its_processes_end_too(running: System) -> None:
    assert running.process is not None

    running.process.kill()
    running.process.wait(timeout=90)

    wait_until(lambda: running.family() == [], within_s=30, what="its processes to end")


def test_ctrl_c_stops_a_system_where_nothing_runs_within_ten_seconds(running: System) -> None:
    running.up()
    assert len(running.family()) >= 6

    took_s = running.interrupt()

    assert took_s < STOP_WITHIN_S * PATIENCE
    wait_until(lambda: running.family() == [], within_s=1, what=f"no process left: {running.family()}")
    assert running.process is not None
    assert running.process.returncode == 0
