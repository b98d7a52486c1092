"""The OpenAPI document says what there is: routes, shapes, and the problem answers of each."""

from typing import Any

import httpx2
import pytest

from workers.web.auth import PUBLIC

PROBLEMS = {
    ("/api/tasks/enqueue", "post"): {"400", "413", "422", "503"},
    ("/api/tasks/count/all", "get"): {"422", "503"},
    ("/api/tasks/", "get"): {"422", "503"},
    ("/api/tasks/{task_id}", "get"): {"404", "422", "503"},
    ("/api/tasks/{task_id}/cancel", "post"): {"404", "409", "422", "503"},
    ("/api/chores/", "get"): {"503"},
    ("/api/alerts/", "get"): {"422", "503"},
    ("/api/alerts/{alert_id}/acknowledge", "post"): {"404", "422", "503"},
    ("/api/audit/", "get"): {"422", "503"},
    ("/metrics", "get"): set(),
    ("/health/live", "get"): set(),
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
        assert set(content["schema"]["required"]) == {"type", "title", "status", "detail"}


def test_the_example_of_a_request_is_one_that_is_taken(
    api: httpx2.Client, system: object, document: dict[str, Any]
) -> None:
    example = document["components"]["schemas"]["EnqueueRequest"]["example"]

    answer = api.post("/api/tasks/enqueue", json=example)

    assert answer.status_code == 201, answer.text


def test_every_call_that_is_not_public_says_that_it_wants_a_token(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation.get("security") == (None if path in PUBLIC else [{"token": []}])
            assert ("x-role" in operation) == (path not in PUBLIC)
