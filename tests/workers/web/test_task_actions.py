"""The task routes besides enqueue, show and cancel: lists by every filter, attempts, logs, retry, change, bulk."""

import time
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from dramatiq import Worker
from sqlalchemy import update

from models import database
from models.task import Task, TaskStatus
from tests.servers import OwnRedis, wait_until
from tests.workers.web.test_problems import problem_of
from workers import callboard, tasks

SELF_TEST = "diagnostics.run_self_test"


def enqueue(api: httpx2.Client, **changes: object) -> str:
    answer = api.post("/api/tasks/enqueue", json={"task_name": SELF_TEST} | changes)
    assert answer.status_code == 201, answer.text
    task_id: str = answer.json()["task_id"]
    return task_id


def becomes(task_id: str, status: TaskStatus) -> None:
    with database.writing() as session:
        session.execute(update(Task).where(Task.task_id == task_id).values(status=status))  # type: ignore[arg-type]


def test_a_known_key_is_answered_by_the_earlier_task(api: httpx2.Client, bus: object, ledger_database: str) -> None:
    first = enqueue(api, idempotency_key="k")

    answer = api.post("/api/tasks/enqueue", json={"task_name": SELF_TEST, "idempotency_key": "k"})

    assert answer.status_code == 200
    assert (answer.json()["task_id"], answer.json()["duplicate"]) == (first, True)
    assert tasks.get_task_count() == 1


def test_a_task_with_an_eta_waits_for_it(api: httpx2.Client, bus: object, ledger_database: str) -> None:
    eta = datetime.now(UTC) + timedelta(hours=1)

    row = api.get(f"/api/tasks/{enqueue(api, eta=eta.isoformat())}").json()

    assert abs((datetime.fromisoformat(row["eta"]) - eta).total_seconds()) < 1
    wrong = api.post("/api/tasks/enqueue", json={"task_name": SELF_TEST, "eta": eta.isoformat(), "delay_s": 5})
    assert problem_of(wrong, 422)["field"] == "eta"
    naive = api.post("/api/tasks/enqueue", json={"task_name": SELF_TEST, "eta": "2026-11-22T12:00:00"})
    assert problem_of(naive, 422)["field"] == "eta"


@pytest.mark.parametrize(
    ("query", "expected"),
    [("queue=health", "ab"), ("queue=nowhere", ""), ("priority=9", "b"), ("tag=nightly", "b"),
     ("task_name=" + SELF_TEST, "ab"),
     ("task_name=test_background_task", "ab"), ("status=cancelled", "a"), ("q=BY%20api", "a"),
     ("since=2999-01-01T00:00:00Z", ""),
     ("until=2999-01-01T00:00:00Z", "ab"), ("correlation_id=nobody", ""), ("parent_id=x", ""), ("group_id=x", ""),
     ("schedule_id=x", ""), ("sort=priority", "ab"), ("sort=-priority", "ba"), ("sort=created_at", "ab"),
     ("sort=-created_at", "ba"), ("q=%25", ""), ("q=_", "ab"), ("q=%27%20OR%201%3D1--", "")],
)  # fmt: skip
@pytest.mark.usefixtures("system")
def test_every_filter_and_order_is_taken(api: httpx2.Client, query: str, expected: str) -> None:
    ids = {enqueue(api): "a", enqueue(api, priority=9, tags=["nightly"]): "b"}
    api.post(f"/api/tasks/{next(iter(ids))}/cancel")

    answer = api.get(f"/api/tasks/?{query}").json()

    found = "".join(ids[row["task_id"]] for row in answer["tasks"])
    assert found == expected if "sort" in query else sorted(found) == sorted(expected)
    assert (answer["total_count"], answer["total_count_is_estimate"]) == (len(expected), False)
    if "sort" not in query:
        assert api.get(f"/api/tasks/count/all?{query}").json()["count"] == len(expected)


def test_pages_follow_one_another_by_cursor(api: httpx2.Client, bus: object, ledger_database: str) -> None:
    ids = [enqueue(api) for _ in range(5)]
    found: list[str] = []
    cursor: str | None = None
    while cursor is not None or not found:
        page = api.get("/api/tasks/", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        found += [row["task_id"] for row in page["tasks"]]
        assert page["total_count"] == (None if cursor else 5)
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert found == ids[::-1]


@pytest.mark.parametrize(
    ("query", "field"),
    [("sort=id;drop", "sort"), ("cursor=x", "cursor"), ("cursor=" + "A" * 601, "cursor"), ("cursor=", "cursor"),
     ("priority=0", "priority"), ("priority=11", "priority"), ("q=" + "x" * 201, "q"), ("statu=failed", "statu"),
     ("since=yesterday", "since"), ("since=2026-11-22T12:00:00", "since"), ("since=0001-01-01T00:00:00Z", "since"),
     ("until=9999-12-31T23:59:59-23:00", "until"), ("queue=", "queue")],
)  # fmt: skip
@pytest.mark.usefixtures("refusing")
def test_a_filter_that_cannot_be_is_refused(api: httpx2.Client, query: str, field: str) -> None:
    assert problem_of(api.get(f"/api/tasks/?{query}"), 422)["field"] == field


def test_attempts_and_log_lines_are_shown(api: httpx2.Client, ledger_database: str, worker: Worker) -> None:
    task_id = enqueue(api, params={"steps": 2, "seconds": 0})
    wait_until(lambda: api.get(f"/api/tasks/{task_id}").json()["status"] == "completed", within_s=15, what="the end")

    (attempt,) = api.get(f"/api/tasks/{task_id}/attempts").json()["attempts"]
    lines = api.get(f"/api/tasks/{task_id}/logs").json()["logs"]

    assert (attempt["number"], attempt["outcome"], attempt["error_type"]) == (1, "completed", None)
    assert len(lines) >= 2
    rest = api.get(f"/api/tasks/{task_id}/logs", params={"after_id": lines[0]["id"], "limit": 1}).json()["logs"]
    assert rest == lines[1:2]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/attempts"), ("GET", "/logs"), ("POST", "/retry"), ("PATCH", "")],
)
@pytest.mark.usefixtures("refusing")
def test_what_belongs_to_a_task_that_is_not_there_is_not_found(api: httpx2.Client, method: str, path: str) -> None:
    for task_id in ("nobody", "a%00b", "%ff", "x" * 300):
        answer = api.request(method, f"/api/tasks/{task_id}{path}", json={"priority": 3} if method == "PATCH" else None)
        assert "there is no task" in str(problem_of(answer, 404)["detail"])


def test_a_retry_and_its_refusal(api: httpx2.Client, bus: object, ledger_database: str) -> None:
    task_id = enqueue(api)
    refused = problem_of(api.post(f"/api/tasks/{task_id}/retry"), 409)
    api.post(f"/api/tasks/{task_id}/cancel")

    answer = api.post(f"/api/tasks/{task_id}/retry")

    assert "only failed and cancelled tasks can be retried" in str(refused["detail"])
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    row = api.get(f"/api/tasks/{task_id}").json()
    assert (row["status"], row["reason"]) == ("pending", None)
    assert (
        api.get(f"/api/tasks/{task_id}/logs")
        .json()["logs"][0]["message"]
        .startswith("retried by API; it was cancelled")
    )


def test_priority_and_eta_of_a_waiting_task_are_changed(api: httpx2.Client, bus: object, ledger_database: str) -> None:
    task_id = enqueue(api, delay_s=60)

    higher = api.patch(f"/api/tasks/{task_id}", json={"priority": 10})
    at_once = api.patch(f"/api/tasks/{task_id}", json={"eta": None})

    assert higher.status_code == 200, higher.text
    assert (higher.json()["priority"], higher.json()["eta"] is None) == (10, False)
    assert (at_once.json()["priority"], at_once.json()["eta"]) == (10, None)
    becomes(task_id, TaskStatus.COMPLETED)
    assert "has ended" in str(problem_of(api.patch(f"/api/tasks/{task_id}", json={"priority": 1}), 409)["detail"])


@pytest.mark.parametrize("body", [{}, {"priority": 0}, {"priority": "5"}, {"status": "completed"}, {"eta": "soon"}])
@pytest.mark.usefixtures("system")
def test_a_change_that_cannot_be_is_refused(api: httpx2.Client, body: dict[str, object]) -> None:
    task_id = enqueue(api)

    problem_of(api.patch(f"/api/tasks/{task_id}", json=body), 422)

    assert api.get(f"/api/tasks/{task_id}").json()["status"] == "pending"


def test_with_redis_away_a_retry_and_a_change_say_so(
    api: httpx2.Client, own_redis: OwnRedis, ledger_database: str
) -> None:
    waiting, failed = enqueue(api), enqueue(api)
    becomes(failed, TaskStatus.FAILED)
    own_redis.kill()

    for answer in (api.post(f"/api/tasks/{failed}/retry"), api.patch(f"/api/tasks/{waiting}", json={"priority": 9})):
        assert "Redis" in str(problem_of(answer, 503)["detail"])
    own_redis.start()
    wait_until(lambda: callboard.broker.is_bus_up, within_s=10, what="the bus to be tried again")


def test_a_bulk_enqueue_tells_each_item_what_became_of_it(
    api: httpx2.Client, bus: object, ledger_database: str
) -> None:
    answer = api.post("/api/tasks/enqueue/bulk", json={"tasks": [
        {"task_name": SELF_TEST}, {"task_name": "nobody"}, {"task_name": SELF_TEST, "time_limit": 1},
        {"task_name": SELF_TEST, "idempotency_key": "k"}, {"task_name": SELF_TEST, "idempotency_key": "k"}, {},
    ]})  # fmt: skip

    assert answer.status_code == 200, answer.text
    body = answer.json()
    outcomes = [one["outcome"] for one in body["results"]]
    assert outcomes == ["accepted", "invalid", "invalid", "accepted", "duplicate", "invalid"]
    assert [one["index"] for one in body["results"]] == list(range(6))
    assert (body["accepted"], body["duplicates"], body["invalid"], body["delivery"]) == (2, 1, 3, "sent")
    assert body["results"][2]["field"] == "time_limit"
    assert body["results"][4]["task_id"] == body["results"][3]["task_id"]


@pytest.mark.usefixtures("system")
def test_ten_thousand_tasks_are_taken_by_one_request(api: httpx2.Client) -> None:
    one = {"task_name": "email.send_confirmation", "params": {"fir_id": "FIR-2026-000101", "recipient_email": "a@b.de"}}

    began_s = time.monotonic()
    answer = api.post("/api/tasks/enqueue/bulk", json={"tasks": [one] * 10_000})
    print(f"10,000 by one request: {time.monotonic() - began_s:.2f} s")

    assert answer.json()["accepted"] == 10_000
    assert tasks.get_task_count() == 10_000


@pytest.mark.parametrize("body", [{}, {"tasks": []}, {"tasks": [{}] * 10_001}, {"tasks": [1]}, {"tasks": None}])
@pytest.mark.usefixtures("refusing")
def test_a_bulk_enqueue_of_none_or_too_many_is_refused(api: httpx2.Client, body: dict[str, object]) -> None:
    assert str(problem_of(api.post("/api/tasks/enqueue/bulk", json=body), 422)["field"]).startswith("tasks")


def test_bulk_actions_count_first_and_then_act(api: httpx2.Client, bus: object, ledger_database: str) -> None:
    ids = [enqueue(api) for _ in range(3)]
    wanted = {"filter": {"queue": "health"}}

    counted = api.post("/api/tasks/bulk/cancel", json=wanted | {"dry_run": True}).json()
    assert (counted["matched"], counted["dry_run"], counted["outcomes"]) == (3, True, {})
    assert tasks.get_task_count(TaskStatus.PENDING) == 3
    assert api.post("/api/tasks/bulk/cancel", json=wanted).json()["outcomes"] == {"cancelled": 3}
    by_ids = api.post("/api/tasks/bulk/retry", json={"filter": {"ids": [ids[0], "nobody"]}}).json()
    assert by_ids["outcomes"] == {"reopened": 1}
    deleted = api.post("/api/tasks/bulk/delete", json=wanted).json()
    assert deleted["outcomes"] == {"deleted": 2, "kept": 0}
    assert tasks.get_task_count() == 1


@pytest.mark.parametrize("action", ["cancel", "retry", "delete"])
@pytest.mark.parametrize(
    "body", [{}, {"filter": {}}, {"filter": {"statu": "failed"}}, {"filter": {"ids": []}}, {"dry_run": True},
             {"filter": {"ids": ["x"] * 1_001}}, {"filter": {"status": "failed"}, "sure": True}],
)  # fmt: skip
@pytest.mark.usefixtures("refusing")
def test_a_bulk_action_on_everything_or_on_nonsense_is_refused(
    api: httpx2.Client, action: str, body: dict[str, object]
) -> None:
    problem_of(api.post(f"/api/tasks/bulk/{action}", json=body), 422)
