"""The OpenAPI document says what there is: routes, shapes, and the problem answers of each."""

from typing import Any

import httpx2
import pytest

from tests.workers.web.tokens import with_tokens
from workers.web.auth import PUBLIC

__all__ = ["with_tokens"]

PROBLEMS = {
    ("/api/tasks/enqueue", "post"): {"400", "413", "422", "503"},
    ("/api/tasks/count/all", "get"): {"422", "503"},
    ("/api/tasks/", "get"): {"422", "503"},
    ("/api/tasks/{task_id}", "get"): {"404", "422", "503"},
    ("/api/tasks/{task_id}/cancel", "post"): {"404", "409", "422", "503"},
    ("/api/tasks/{task_id}/retry", "post"): {"404", "409", "422", "503"},
    ("/api/tasks/{task_id}", "patch"): {"400", "404", "409", "413", "422", "503"},
    ("/api/tasks/{task_id}/attempts", "get"): {"404", "422", "503"},
    ("/api/tasks/{task_id}/logs", "get"): {"404", "422", "503"},
    ("/api/tasks/enqueue/bulk", "post"): {"400", "413", "422", "503"},
    ("/api/tasks/bulk/cancel", "post"): {"400", "413", "422", "503"},
    ("/api/tasks/bulk/retry", "post"): {"400", "413", "422", "503"},
    ("/api/tasks/bulk/delete", "post"): {"400", "413", "422", "503"},
    ("/api/chores", "get"): {"503"},
    ("/api/alerts", "get"): {"422", "503"},
    ("/api/alerts/{alert_id}/acknowledge", "post"): {"404", "422", "503"},
    ("/api/audit", "get"): {"422", "503"},
    ("/metrics", "get"): set(),
    ("/health/live", "get"): set(),
    ("/health/ready", "get"): {"503"},
    ("/api/schedules", "get"): {"422", "503"},
    ("/api/schedules", "post"): {"400", "413", "422", "503"},
    ("/api/schedules/preview", "post"): {"400", "413", "422", "503"},
    ("/api/schedules/{schedule_id}", "get"): {"404", "422", "503"},
    ("/api/schedules/{schedule_id}", "patch"): {"400", "404", "413", "422", "503"},
    ("/api/schedules/{schedule_id}", "delete"): {"404", "409", "422", "503"},
    ("/api/schedules/{schedule_id}/pause", "post"): {"404", "422", "503"},
    ("/api/schedules/{schedule_id}/resume", "post"): {"404", "409", "422", "503"},
    ("/api/schedules/{schedule_id}/reset", "post"): {"404", "409", "422", "503"},
    ("/api/schedules/{schedule_id}/run", "post"): {"404", "409", "422", "503"},
    ("/api/schedules/{schedule_id}/runs", "get"): {"404", "422", "503"},
    ("/api/actors", "get"): {"422", "503"},
    ("/api/queues", "get"): {"422", "503"},
    ("/api/queues/{queue}", "get"): {"404", "422", "503"},
    ("/api/queues/{queue}/pause", "post"): {"404", "422", "503"},
    ("/api/queues/{queue}/resume", "post"): {"404", "422", "503"},
    ("/api/queues/{queue}/purge", "post"): {"404", "422", "503"},
    ("/api/workers", "get"): {"422", "503"},
    ("/api/groups/{group_id}", "get"): {"404", "422", "503"},
    ("/api/locks", "get"): {"422", "503"},
    ("/api/diagnostics/self-test", "post"): {"400", "413", "422", "503"},
    ("/api/stats", "get"): {"422", "503"},
    ("/api/stats/timeseries", "get"): {"422", "503"},
    ("/api/events", "get"): {"422", "429"},
}


@pytest.fixture
def document(api: httpx2.Client) -> dict[str, Any]:
    found: dict[str, Any] = api.get("/openapi.json").json()
    return found


def test_every_route_is_named(document: dict[str, Any]) -> None:
    named = {(path, method) for path, methods in document["paths"].items() for method in methods}

    assert named == set(PROBLEMS)


@pytest.mark.parametrize(("path", "method"), PROBLEMS)
def test_every_problem_answer_is_named_with_its_shape(document: dict[str, Any], path: str, method: str) -> None:
    responses = document["paths"][path][method]["responses"]

    expected = PROBLEMS[path, method] | (set() if path in PUBLIC else {"401", "403", "429"})
    assert {status for status in responses if status[0] in "45"} == expected
    for status in expected:
        ((media_type, content),) = responses[status]["content"].items()
        assert media_type == "application/problem+json"
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
    problem = document["components"]["schemas"]["Problem"]
    assert set(problem["required"]) == {"type", "title", "status", "detail"}


def test_the_example_of_a_request_is_one_that_is_taken(
    api: httpx2.Client, system: object, document: dict[str, Any]
) -> None:
    example = document["components"]["schemas"]["EnqueueRequest"]["example"]

    answer = api.post("/api/tasks/enqueue", json=example)

    assert answer.status_code == 201, answer.text


@pytest.fixture
def guarded(with_tokens: None, document: dict[str, Any]) -> dict[str, Any]:
    """The document of an API that has tokens."""
    return document


def test_every_call_that_is_not_public_says_that_it_wants_a_token(guarded: dict[str, Any]) -> None:
    assert guarded["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for path, methods in guarded["paths"].items():
        for operation in methods.values():
            assert operation.get("security") == (None if path in PUBLIC else [{"token": []}])
            assert ("x-role" in operation) == (path not in PUBLIC)
