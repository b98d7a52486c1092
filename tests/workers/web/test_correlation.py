"""A request's correlation id: in the rows of all tasks that it causes, in log lines, and in the answer."""

import io
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from dramatiq import Worker, group
from starlette.datastructures import Headers

from models.task import TaskStatus
from tests import probes
from tests.servers import wait_until
from tests.workers.rows import ended, row
from tests.workers.web.tokens import as_, with_tokens
from workers import tasks
from workers.actors.diagnostics import run_self_test
from workers.errors import InvalidTask
from workers.runner.correlation import correlated, current
from workers.runner.log_format import ConsoleFormatter, JsonFormatter
from workers.web.correlation import correlation_of

__all__ = ["with_tokens"]
SELF_TEST = {"task_name": "diagnostics.run_self_test"}
ORDER = {"X-Correlation-ID": "order-4711"}
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(("headers", "expected"), [
    ({}, None), (ORDER, "order-4711"), ({"X-Correlation-ID": ""}, None), ({"X-Correlation-ID": "  "}, None),
    ({"X-Correlation-ID": " a "}, "a"), ({"X-Correlation-ID": "a b\t\x1b[2J<b>"}, "a_b___2J_b_"),
    ({"X-Correlation-ID": "x" * 5_000}, "x" * 100), ({"X-Correlation-ID": "\xe4\x00\u2028".encode().decode("latin-1")},
                                                     "______"),
    ({"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}, TRACE_ID),
    ({"traceparent": f"cc-{TRACE_ID}-00f067aa0ba902b7-01-what-comes-later"}, TRACE_ID),
    ({"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"} | ORDER, "order-4711"),
    ({"traceparent": f"ff-{TRACE_ID}-00f067aa0ba902b7-01"}, None),
    ({"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01"}, None),
    ({"traceparent": f"00-{TRACE_ID}-{'0' * 16}-01"}, None),
    ({"traceparent": f"00-{TRACE_ID.upper()}-00f067aa0ba902b7-01"}, None), ({"traceparent": "x" * 5_000}, None),
])  # fmt: skip
def test_which_id_a_request_brings(headers: dict[str, str], expected: str | None) -> None:
    assert correlation_of(Headers(headers)) == expected


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize(("headers", "expected"), [
    (ORDER, "order-4711"), ({"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}, TRACE_ID)
])  # fmt: skip
def test_every_call_that_sends_keeps_it_and_answers_with_it(
    api: httpx2.Client, headers: dict[str, str], expected: str
) -> None:
    schedule = {"id": "s", "actor": SELF_TEST["task_name"], "trigger": {"kind": "interval", "weeks": 1}}
    assert api.post("/api/schedules", json=schedule).status_code == 201
    sent: list[tuple[str, object]] = [
        ("/api/tasks/enqueue", SELF_TEST), ("/api/tasks/enqueue/bulk", {"tasks": [SELF_TEST] * 3}),
        ("/api/diagnostics/self-test", {}), ("/api/schedules/s/run", None),
    ]  # fmt: skip

    answers = [api.post(path, json=body, headers=headers) for path, body in sent]

    assert [answer.headers["x-correlation-id"] for answer in answers] == [expected] * 4
    found = api.get("/api/tasks/", params={"correlation_id": expected}).json()
    assert found["total_count"] == tasks.get_task_count() == 6


def test_the_tasks_that_it_causes_in_turn_have_it_too(
    api: httpx2.Client, ledger_database: str, worker: Worker, tmp_path: Path
) -> None:
    sent = {"task_name": "probes.parent", "params": {"path": str(tmp_path / "evidence")}}
    parent = api.post("/api/tasks/enqueue", json=sent, headers=ORDER).json()["task_id"]

    child = ended(str(ended(parent).result))

    assert (child.parent_id, child.correlation_id) == (parent, "order-4711")


def test_a_group_and_what_follows_it_have_it_too(ledger_database: str, worker: Worker, tmp_path: Path) -> None:
    members = group([probes.add.message(1, 1), probes.add.message(2, 2)])
    members.add_completion_callback(probes.note.message(str(tmp_path / "evidence")))

    with correlated("order-4711"):
        members.run()

    wait_until(lambda: tasks.get_task_count(TaskStatus.COMPLETED) == 3, within_s=20, what="the group's end")
    assert {(one["task_name"], one["correlation_id"]) for one in tasks.list_tasks()} == {
        ("probes.add", "order-4711"), ("probes.note", "order-4711")
    }  # fmt: skip


@pytest.mark.usefixtures("system")
def test_without_one_a_task_has_its_own_id_and_the_answer_none(api: httpx2.Client) -> None:
    answer = api.post("/api/tasks/enqueue", json=SELF_TEST)

    task_id = answer.json()["task_id"]
    assert row(task_id).correlation_id == task_id
    assert "x-correlation-id" not in answer.headers


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/api/tasks/", 401), ("GET", "/nowhere", 401), ("GET", "/api/tasks/nobody", 404), ("GET", "/nowhere", 404),
    ("POST", "/api/tasks/enqueue", 422), ("DELETE", "/api/tasks/", 405),
])  # fmt: skip
@pytest.mark.usefixtures("with_tokens", "system")
def test_a_refusal_brings_it_back_too(api: httpx2.Client, method: str, path: str, status: int) -> None:
    headers = ORDER | ({} if status == 401 else as_("admin"))

    answer = api.request(method, path, headers=headers, json={})

    assert answer.status_code == status
    assert answer.headers["x-correlation-id"] == "order-4711"


@pytest.mark.usefixtures("system")
def test_an_id_that_would_forge_a_header_or_a_line_is_kept_without_what_could(api: httpx2.Client) -> None:
    answer = api.post("/api/tasks/enqueue", json=SELF_TEST, headers={"X-Correlation-ID": "a\x1b[2J \"b'<c>;d"})

    assert row(answer.json()["task_id"]).correlation_id == answer.headers["x-correlation-id"] == "a__2J__b__c__d"


@pytest.mark.usefixtures("system")
def test_requests_at_once_keep_theirs_apart(api: httpx2.Client) -> None:
    def send(number: int) -> tuple[str, str]:
        answer = api.post("/api/tasks/enqueue", json=SELF_TEST, headers={"X-Correlation-ID": f"n{number}"})
        return answer.json()["task_id"], f"n{number}"

    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(send, range(40)))

    assert [(task_id, row(task_id).correlation_id) for task_id, _ in sent] == sent


@pytest.mark.usefixtures("system")
def test_one_that_is_said_with_the_message_counts_more() -> None:
    with correlated("outer"), correlated("inner"):
        said = run_self_test.send_with_options(correlation_id="said")
        delayed = run_self_test.send_with_options(delay=timedelta(hours=1))
    after = run_self_test.send()

    assert [row(one.message_id).correlation_id for one in (said, delayed, after)] == ["said", "inner", after.message_id]
    assert current() is None


@pytest.mark.parametrize("wrong", ["", "x" * 101, "a\0b", "\ud800"])
def test_an_id_that_cannot_be_stored_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidTask, match="expected storable text of 1–100 characters"), correlated(wrong):
        pass


def test_log_lines_name_it() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    line = logging.makeLogRecord({"msg": "half way", "levelname": "WARNING"})

    with correlated("order-4711"):
        for formatter in (JsonFormatter(), ConsoleFormatter()):
            handler.setFormatter(formatter)
            handler.emit(line)
    handler.emit(line)

    first, second, third = stream.getvalue().splitlines()
    assert json.loads(first)["correlation_id"] == "order-4711"
    assert second.endswith("half way [of order-4711]")
    assert third.endswith("half way")
