"""Queues, worker processes, actors, groups, locks and the self-test over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dramatiq
import httpx2
import pytest
from dramatiq import Worker

from models.task import TERMINAL, TaskStatus
from tests import probes
from tests.servers import OwnRedis, wait_until
from tests.workers.rows import ended, row
from tests.workers.web.test_problems import problem_of
from workers import callboard, fleet, queues, tasks
from workers.actors.diagnostics import run_self_test
from workers.errors import InvalidTask, UnknownQueue

QUEUE = "/api/queues/health"


@pytest.fixture
def paused(bus: object) -> Iterator[None]:
    """The queue of the self-test is paused, so that nothing of it starts."""
    callboard.broker.pause_queue("health")
    yield
    callboard.broker.resume_queue("health")


def test_a_queue_is_counted_by_state_and_priority(api: httpx2.Client, bus: object, ledger_database: str) -> None:
    for priority in (9, 2, 2):
        run_self_test.send_with_options(priority=priority)
    run_self_test.send_with_options(delay=60_000)

    found = api.get(QUEUE).json()

    assert (found["waiting"], found["delayed"], found["running"], found["dead"]) == (3, 1, 0, 0)
    assert [(one["priority"], one["waiting"]) for one in found["priorities"]] == [(9, 1), (2, 2)]
    assert found["oldest_age_s"] >= 0
    assert 0 < found["next_due_s"] <= 60
    assert (found["paused"], found["workers"]) == (False, 0)
    names = [one["name"] for one in api.get("/api/queues").json()]
    assert names == sorted(callboard.broker.get_declared_queues())


@pytest.mark.usefixtures("system")
def test_a_paused_queue_starts_nothing_until_it_is_resumed(api: httpx2.Client, worker: Worker) -> None:
    assert api.post(f"{QUEUE}/pause").json()["paused"] is True
    task_id = run_self_test.send(1, 0).message_id
    elsewhere = probes.plain.send("/dev/null").message_id
    ended(elsewhere)
    assert row(task_id).status == TaskStatus.PENDING

    assert api.post(f"{QUEUE}/resume").json()["paused"] is False

    assert ended(task_id).status == TaskStatus.COMPLETED


@pytest.mark.usefixtures("paused")
def test_purging_cancels_what_is_pending_in_that_queue_and_nothing_else(
    api: httpx2.Client, ledger_database: str, worker: Worker
) -> None:
    waiting = [run_self_test.send(1, 0).message_id for _ in range(3)]
    delayed = run_self_test.send_with_options(delay=3_600_000).message_id
    other = probes.note.send_with_options(args=("/dev/null",), delay=3_600_000).message_id

    first = api.post(f"{QUEUE}/purge", params={"limit": 2}).json()
    second = api.post(f"{QUEUE}/purge").json()

    assert first == {"queue": "health", "cancelled": 2, "requested": 0, "remaining": 2}
    assert second == {"queue": "health", "cancelled": 2, "requested": 0, "remaining": 0}
    for task_id in (*waiting, delayed):
        assert (row(task_id).status, row(task_id).reason) == ("cancelled", "by API, purging the queue")
    assert row(other).status == TaskStatus.PENDING
    found = api.get(QUEUE).json()
    assert (found["waiting"], found["delayed"]) == (0, 0)


def test_what_runs_is_not_purged(api: httpx2.Client, system: object, worker: Worker, tmp_path: Path) -> None:
    running = probes.note.send(str(tmp_path / "evidence"), seconds=1.0).message_id
    wait_until(lambda: row(running).status == TaskStatus.RUNNING, within_s=10, what="its start")

    assert api.post("/api/queues/jobs/purge").json()["cancelled"] == 0

    assert ended(running).status == TaskStatus.COMPLETED


@pytest.mark.usefixtures("system")
def test_with_redis_away_a_purge_is_requested_and_carried_out_later(api: httpx2.Client, own_redis: OwnRedis) -> None:
    task_id = run_self_test.send_with_options(delay=3_600_000).message_id
    own_redis.kill()

    found = api.post(f"{QUEUE}/purge").json()

    assert (found["cancelled"], found["requested"], found["remaining"]) == (0, 1, 0)
    assert row(task_id).status == TaskStatus.PENDING
    own_redis.start()
    upkeep = callboard.upkeep("test")
    upkeep.start()
    assert ended(task_id).status == TaskStatus.CANCELLED
    upkeep.stop()


@pytest.mark.usefixtures("system")
def test_with_redis_away_depths_are_unavailable(api: httpx2.Client, own_redis: OwnRedis) -> None:
    own_redis.kill()

    for answer in (api.get("/api/queues"), api.post(f"{QUEUE}/pause"), api.get("/api/locks")):
        assert "Redis" in str(problem_of(answer, 503)["detail"])


@pytest.mark.usefixtures("system")
def test_a_queue_that_nobody_has_is_not_found(api: httpx2.Client) -> None:
    for path, method in (("", "GET"), ("/pause", "POST"), ("/resume", "POST"), ("/purge", "POST")):
        for name in ("helth", "a%00b", "%ff", "x" * 300, "health:waiting"):
            found = problem_of(api.request(method, f"/api/queues/{name}{path}"), 404)
            assert "there is no queue" in str(found["detail"])
    assert "did you mean health" in str(api.get("/api/queues/helth").json()["detail"])
    with pytest.raises(UnknownQueue, match="did you mean health"):
        queues.purge_queue("helth")
    with pytest.raises(InvalidTask, match="1–1000"):
        queues.purge_queue("health", limit=0)


def test_workers_are_shown_with_what_runs_there(
    api: httpx2.Client, bus: object, ledger_database: str, worker: Worker, tmp_path: Path
) -> None:
    task_id = probes.note.send(str(tmp_path / "evidence"), seconds=2.0).message_id
    wait_until(lambda: row(task_id).status == TaskStatus.RUNNING, within_s=10, what="its start")

    page = api.get("/api/workers", params={"alive": True}).json()

    (found,) = page["workers"]
    assert (page["total_count"], found["alive"], found["threads"], found["stopped_at"]) == (1, True, 4, None)
    assert set(found["queues"]) == callboard.broker.get_declared_queues()
    assert [(task["task_id"], task["status"]) for task in found["tasks"]] == [(task_id, "running")]
    ended(task_id)
    worker.stop(timeout=5_000)
    (stopped,) = api.get("/api/workers").json()["workers"]
    assert (stopped["alive"], stopped["tasks"]) == (False, [])
    assert stopped["stopped_at"] is not None
    assert api.get("/api/workers", params={"alive": True}).json()["workers"] == []


@pytest.mark.usefixtures("system")
def test_actors_have_names_schema_docs_and_limits(api: httpx2.Client) -> None:
    rows = {one["name"]: one for one in api.get("/api/actors").json()}

    assert set(rows) == set(callboard.registry.actors)
    found = rows["diagnostics.run_self_test"]
    assert (found["type"], found["queue"], found["priority"]) == ("health", "health", 8)
    assert "test_background_task" in found["aliases"]
    assert found["source"].startswith("workers.actors.diagnostics:")
    assert found["doc"].startswith("Walk through some steps")
    assert found["limits"]["time_limit_s"] == 3660
    assert found["params"]["properties"]["steps"]["maximum"] == 1000


def test_a_group_is_shown_by_status_with_its_members(
    api: httpx2.Client, bus: object, ledger_database: str, worker: Worker
) -> None:
    made = dramatiq.group([probes.add.message(1, 2), probes.add.message(3, 4)])
    made.add_completion_callback(probes.add.message(5, 6))
    group = made.run()
    members = [child.message_id for child in group.children]
    group_id = row(members[0]).group_id
    wait_until(
        lambda: api.get(f"/api/groups/{group_id}").json()["completed_at"], within_s=15, what="the group to complete"
    )

    found = api.get(f"/api/groups/{group_id}").json()

    assert (found["size"], found["by_status"]) == (2, {"completed": 2})
    assert {task["task_id"] for task in found["tasks"]} == set(members)
    assert len(api.get(f"/api/groups/{group_id}", params={"limit": 1}).json()["tasks"]) == 1


@pytest.mark.usefixtures("ledger_database")
def test_a_group_that_nobody_sent_is_not_found(api: httpx2.Client) -> None:
    for group_id in ("nobody", "a%00b", "%ff", "x" * 300):
        assert "there is no group" in str(problem_of(api.get(f"/api/groups/{group_id}"), 404)["detail"])


def test_the_self_test_is_sent_and_runs(api: httpx2.Client, system: object, worker: Worker) -> None:
    assert api.post("/api/diagnostics/self-test").status_code == 201, "it needs no body"
    answer = api.post("/api/diagnostics/self-test", json={"steps": 2, "seconds": 0})

    assert (answer.status_code, answer.json()["delivery"]) == (201, "sent")
    done = ended(answer.json()["task_id"])
    assert (done.status, done.result) == ("completed", {"steps": 2, "seconds": 0.0, "attempt": 1})
    wrong: dict[str, Any] = problem_of(api.post("/api/diagnostics/self-test", json={"steps": 1_001}), 422)
    assert wrong["field"] == "steps"
    assert fleet.SELF_TEST in callboard.registry.actors
    assert tasks.get_task_count() == 2
    assert done.status in TERMINAL
