"""The task routes over HTTP: enqueue, show, list, count, cancel."""

import json
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
from dramatiq import Worker

from models import database
from models.task import TERMINAL, Task, TaskStatus
from models.task_moves import NewTask
from tests.probes import linger_alone
from tests.servers import OwnRedis, wait_until
from workers import callboard, tasks
from workers.actors.diagnostics import run_self_test
from workers.ledger import bus as ledger_bus

SELF_TEST = "diagnostics.run_self_test"


def enqueue(api: httpx2.Client, **changes: object) -> str:
    answer = api.post("/api/tasks/enqueue", json={"task_name": SELF_TEST} | changes)
    assert answer.status_code == 201, answer.text
    task_id: str = answer.json()["task_id"]
    return task_id


def test_the_process_says_that_it_lives(api: httpx2.Client) -> None:
    answer = api.get("/health/live")

    assert (answer.status_code, answer.json()) == (200, {"status": "live"})


def test_enqueue_accepts_a_task_and_says_its_priority(api: httpx2.Client, bus: object, ledger_database: str) -> None:
    answer = api.post("/api/tasks/enqueue", json={"task_name": SELF_TEST, "params": {"steps": 2}, "priority": 5})

    assert answer.status_code == 201
    body = answer.json()
    assert body == {
        "task_id": body["task_id"], "message": "Task enqueued successfully with priority 5", "delivery": "sent"
    }  # fmt: skip
    found = tasks.get_task(body["task_id"])
    assert found is not None
    assert (found.task_name, found.priority, found.status) == (SELF_TEST, 5, TaskStatus.PENDING)


@pytest.mark.usefixtures("system")
def test_without_a_priority_it_is_that_of_the_type(api: httpx2.Client) -> None:
    answer = api.post("/api/tasks/enqueue", json={"task_name": "reports.generate_pdf", "params": {"report_id": "R"}})

    assert answer.json()["message"] == "Task enqueued successfully with priority 5"
    assert api.get(f"/api/tasks/{enqueue(api)}").json()["priority"] == 8


@pytest.mark.usefixtures("system")
def test_a_legacy_name_and_every_option_are_taken(api: httpx2.Client) -> None:
    task_id = enqueue(
        api, task_name="test_background_task", task_type="health", params={"steps": "3"}, priority=10, max_retries=0,
        delay_s=60.5, tags=["first", "second"],
    )  # fmt: skip

    row = api.get(f"/api/tasks/{task_id}").json()
    assert (row["task_name"], row["params"], row["priority"]) == (SELF_TEST, {"steps": 3}, 10)
    assert (row["max_retries"], row["tags"]) == (0, ["first", "second"])
    waits_s = (datetime.fromisoformat(row["eta"]) - datetime.fromisoformat(row["created_at"])).total_seconds()
    assert waits_s == pytest.approx(60.5, abs=0.1)


def test_a_row_is_shown_with_result_and_times_once_it_ended(
    api: httpx2.Client, ledger_database: str, worker: Worker
) -> None:
    task_id = enqueue(api, params={"steps": 1, "seconds": 0})

    wait_until(lambda: api.get(f"/api/tasks/{task_id}").json()["status"] in TERMINAL, within_s=15, what="the end")
    row = api.get(f"/api/tasks/{task_id}").json()
    assert (row["status"], row["result"]) == ("completed", {"steps": 1, "seconds": 0.0, "attempt": 1})
    assert row["progress"] == 1.0
    times = [datetime.fromisoformat(row[name]) for name in ("created_at", "started_at", "completed_at")]
    assert times == sorted(times)
    assert all(moment.tzinfo is not None for moment in times)


@pytest.mark.usefixtures("system")
def test_a_row_says_why_it_is_not_running_yet(api: httpx2.Client) -> None:
    delayed = api.get(f"/api/tasks/{enqueue(api, delay_s=600)}").json()

    assert delayed["waiting_on"].startswith("its time: it is delayed until ")


def test_with_redis_away_a_task_is_accepted_and_said_to_be_deferred(
    api: httpx2.Client, own_redis: OwnRedis, ledger_database: str
) -> None:
    own_redis.kill()

    answer = api.post("/api/tasks/enqueue", json={"task_name": SELF_TEST})

    assert (answer.status_code, answer.json()["delivery"]) == (201, "deferred")
    assert "Redis, which does not answer" in api.get(f"/api/tasks/{answer.json()['task_id']}").json()["waiting_on"]


@pytest.mark.usefixtures("system")
def test_positional_parameters_are_shown_by_name(api: httpx2.Client) -> None:
    message = run_self_test.send(7, 0.5)

    assert api.get(f"/api/tasks/{message.message_id}").json()["params"] == {"steps": 7, "seconds": 0.5}


def test_the_list_is_newest_first_and_pages(api: httpx2.Client, bus: object, ledger_database: str) -> None:
    sent = [enqueue(api) for _ in range(5)]

    page = api.get("/api/tasks/", params={"limit": 2, "offset": 1}).json()

    assert [row["task_id"] for row in page["tasks"]] == [sent[3], sent[2]]
    assert (page["total_count"], page["limit"], page["offset"]) == (5, 2, 1)


def test_the_list_answers_without_the_slash_too(api: httpx2.Client, system: object) -> None:
    task_id = enqueue(api)

    answer = api.get("/api/tasks?limit=1", follow_redirects=False)

    assert (answer.status_code, [row["task_id"] for row in answer.json()["tasks"]]) == (200, [task_id])


def test_status_and_type_filter_list_and_count(api: httpx2.Client, bus: object, ledger_database: str) -> None:
    health, report = enqueue(api), enqueue(api, task_name="reports.generate_pdf", params={"report_id": "R"})
    api.post(f"/api/tasks/{health}/cancel")
    cases: list[tuple[dict[str, str], list[str]]] = [
        ({}, [report, health]),
        ({"status": "pending"}, [report]),
        ({"status": "cancelled"}, [health]),
        ({"task_type": "report"}, [report]),
        ({"status": "cancelled", "task_type": "report"}, []),
    ]
    for wanted, expected in cases:
        assert [row["task_id"] for row in api.get("/api/tasks/", params=wanted).json()["tasks"]] == expected

        count = api.get("/api/tasks/count/all", params=wanted).json()
        filters = {"status": wanted.get("status"), "task_type": wanted.get("task_type")}
        assert count == {"count": len(expected), "count_is_estimate": False, **filters}


def test_a_pending_task_is_cancelled_and_stays_so(api: httpx2.Client, bus: object, ledger_database: str) -> None:
    task_id = enqueue(api)

    answer = api.post(f"/api/tasks/{task_id}/cancel")

    assert answer.status_code == 200
    assert answer.json() == {
        "task_id": task_id, "success": True, "message": "Task cancelled", "outcome": "cancelled"
    }  # fmt: skip
    row = api.get(f"/api/tasks/{task_id}").json()
    assert (row["status"], row["reason"]) == ("cancelled", "by API")


@pytest.mark.usefixtures("system")
def test_a_running_task_is_asked_to_end(api: httpx2.Client) -> None:
    task_id = enqueue(api)
    with database.writing() as session:
        session.get_one(Task, task_id).status = TaskStatus.RUNNING

    answer = api.post(f"/api/tasks/{task_id}/cancel")

    assert (answer.status_code, answer.json()) == (200, {
        "task_id": task_id, "success": True, "outcome": "requested",
        "message": "Cancellation requested: see the task's status for its end",
    })  # fmt: skip
    row = api.get(f"/api/tasks/{task_id}").json()
    assert (row["status"], row["waiting_on"]) == ("running", None)
    assert row["cancel_requested_at"] is not None


def test_a_task_with_a_process_of_its_own_is_killed_and_the_answer_says_so(
    api: httpx2.Client, ledger_database: str, worker: Worker, tmp_path: Path
) -> None:
    task_id = enqueue(api, task_name=linger_alone.actor_name, params={"path": str(tmp_path / "evidence")})
    wait_until((tmp_path / "evidence").exists, within_s=20, what="its beginning")

    answer = api.post(f"/api/tasks/{task_id}/cancel")

    assert (answer.status_code, answer.json()) == (200, {
        "task_id": task_id, "success": True, "outcome": "killed", "message": "Task cancelled: its process was killed",
    })  # fmt: skip
    assert api.get(f"/api/tasks/{task_id}").json()["status"] == "cancelled"


@pytest.mark.usefixtures("system")
def test_with_redis_hanging_only_the_first_who_cancels_waits_for_it(
    api: httpx2.Client, own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = enqueue(api), enqueue(api)
    monkeypatch.setattr(ledger_bus, "BREAK_S", 600.0)  # why: on a slow machine a second is soon over

    with own_redis.hanging():
        answers = [api.post(f"/api/tasks/{task_id}/cancel") for task_id in (first, second)]
        was_up = callboard.broker.is_bus_up

    assert [answer.status_code for answer in answers] == [200, 200]
    assert {answer.json()["outcome"] for answer in answers} == {"requested"}
    assert {answer.json()["message"] for answer in answers} == {
        "Cancellation requested: Redis does not answer, and it is carried out when it does"
    }
    assert not was_up
    rows = [api.get(f"/api/tasks/{task_id}").json() for task_id in (first, second)]
    assert all("its cancellation, which was requested" in row["waiting_on"] for row in rows)
    callboard.broker._down_until_s = 0.0  # the break is over


@pytest.mark.parametrize("status", sorted(TERMINAL))
@pytest.mark.usefixtures("system")
def test_what_has_ended_cannot_be_cancelled(api: httpx2.Client, status: str) -> None:
    task_id = enqueue(api)
    with database.writing() as session:
        session.get_one(Task, task_id).status = status

    answer = api.post(f"/api/tasks/{task_id}/cancel")

    assert answer.status_code == 409
    assert answer.json()["detail"] == f"task {task_id} is {status}: it has ended"
    assert api.get(f"/api/tasks/{task_id}").json()["status"] == status


@pytest.mark.usefixtures("system")
def test_a_row_with_text_that_has_no_utf8_is_shown_with_its_escapes(api: httpx2.Client) -> None:
    odd = {"steps": "\ud800", "seconds": "a\0b"}
    now = datetime.now(UTC)
    params = json.dumps({"args": [], "kwargs": odd})
    callboard.ledger.accept([NewTask("odd", SELF_TEST, "health", created_at=now, enqueued_at=now, params=params)])

    assert api.get("/api/tasks/odd").json()["params"] == odd
    assert api.get("/api/tasks/").json()["total_count"] == 1
