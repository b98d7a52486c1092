"""Text that somebody stored comes back as text: in JSON that no browser takes for a page, no header and no filter."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from models import database, direct, task_moves
from models.alert import Alert
from models.task import AttemptOutcome, TaskStatus, WorkerProcess
from models.task_moves import End, NewTask, Start
from models.task_tables import TaskLog
from tests.workers.web.test_bounds import INJECTIONS
from workers import audit, tasks

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'javascript:alert(1)\u202e\u200b\r\nX-Evil: 1"
)
VIEWS = [
    "/api/tasks/", "/api/tasks/hostile", "/api/tasks/hostile/attempts", "/api/tasks/hostile/logs", "/api/workers",
    "/api/alerts", "/api/audit", "/api/schedules", "/api/schedules/s", "/api/chores", "/api/actors", "/api/queues",
    "/api/locks", "/api/stats", "/health/live", "/health/ready",
]  # fmt: skip


@pytest.fixture
def stored(system: object) -> None:
    """A row of everything that people or tasks name, named so."""
    now = datetime.now(UTC)
    params = json.dumps({"args": [], "kwargs": {HOSTILE: HOSTILE}})
    row = NewTask(
        "hostile", HOSTILE[:200], "health", now, now, params=params, tags=json.dumps([HOSTILE[:100]]),
        correlation_id=HOSTILE[:100], idempotency_key=HOSTILE,
    )  # fmt: skip
    with direct.transaction() as to:
        task_moves.accept(to, [row])
        assert task_moves.start(to, [Start("hostile", 1, HOSTILE[:60], now)])
        failed = End("hostile", 1, HOSTILE[:60], now, now, TaskStatus.FAILED, AttemptOutcome.FAILED,
                     error_type=HOSTILE, error_message=HOSTILE, traceback=HOSTILE)  # fmt: skip
        assert task_moves.end(to, [failed])
    with database.writing() as session:
        session.add(TaskLog(task_id="hostile", attempt=1, logged_at=now, level="info", message=HOSTILE))
        session.add(WorkerProcess(worker_id=HOSTILE[:60], hostname=HOSTILE, pid=1, threads=1, started_at=now,
                                  heartbeat_at=now + timedelta(hours=1), queues=[HOSTILE]))  # fmt: skip
        session.add(Alert(rule="x", key=HOSTILE, message=HOSTILE, count=1, opened_at=now, notices=[], told=[]))
    audit.record("tasks.cancel", HOSTILE, who=HOSTILE[:90], details={HOSTILE: HOSTILE})


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.usefixtures("stored")
def test_what_is_stored_is_shown_as_text(api: httpx2.Client, view: str) -> None:
    api.post("/api/schedules", json={"id": "s", "name": HOSTILE[:60], "actor": "health.check_system",
                                     "trigger": {"kind": "interval", "days": 1}})  # fmt: skip

    answer = api.get(view)

    assert answer.headers["content-type"] in ("application/json", "application/problem+json")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; frame-ancestors 'none'")
    assert answer.headers["cache-control"] == "no-store"
    assert "x-evil" not in answer.headers
    assert answer.content.isascii()
    shown = _texts(answer.json())
    if view.startswith(("/api/tasks", "/api/workers", "/api/alerts", "/api/audit", "/api/schedules")):
        assert any("<script>alert(1)</script>" in text for text in shown), shown


def _texts(found: Any) -> list[str]:
    if isinstance(found, dict):
        return [text for name, value in found.items() for text in (name, *_texts(value))]
    if isinstance(found, list):
        return [text for value in found for text in _texts(value)]
    return [found] if isinstance(found, str) else []


@pytest.mark.parametrize("field", ["task_name", "queue", "tag", "correlation_id", "q", "parent_id", "group_id",
                                   "schedule_id"])  # fmt: skip
@pytest.mark.usefixtures("bus")
def test_a_filter_of_tasks_finds_what_is_meant_and_nothing_else(
    api: httpx2.Client, ledger_database: str, field: str
) -> None:
    sent = tasks.enqueue_task("diagnostics.run_self_test", tags=["a'b%c_d"])

    for value in INJECTIONS:
        for path in ("/api/tasks/", "/api/tasks/count/all"):
            answer = api.get(path, params={field: value})
            assert answer.status_code == 200, answer.text
            found = answer.json()
            is_within = field == "q" and value == "_"  # the name has one, and it means itself
            assert found.get("count", len(found.get("tasks", ()))) == (1 if is_within else 0), (path, value)
    by_tag = api.get("/api/tasks/", params={"tag": "a'b%c_d"}).json()["tasks"]
    assert [row["task_id"] for row in by_tag] == [sent]
    assert tasks.get_task_count() == 1
