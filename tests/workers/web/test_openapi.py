"""The OpenAPI document says what there is: routes, shapes, and the problem answers of each."""

from typing import Any

import httpx2
import jsonschema_rs
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


OPERATIONS = [(path, method) for path, method in PROBLEMS]


def examples_of(document: dict[str, Any], content: dict[str, Any]) -> list[Any]:
    """Those of a body, however they are given: with it, or with its schema."""
    schema = content.get("schema", {})
    named = schema.get("items", schema).get("$ref", "").rpartition("/")[2]
    of_schema = document["components"]["schemas"].get(named, schema).get("examples", [])
    if "items" in schema:
        of_schema = [[one] for one in of_schema]
    return [*([content["example"]] if "example" in content else []), *of_schema]


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


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_call_is_described(document: dict[str, Any], path: str, method: str) -> None:
    operation = document["paths"][path][method]

    assert len(operation["description"]) >= len(operation["summary"]) > 10
    assert not operation["summary"].endswith(".")
    (tag,) = operation["tags"]
    assert operation["operationId"].startswith(f"{tag}_")
    assert tag in {one["name"] for one in document["tags"] if one["description"]}
    for parameter in operation["parameters"]:
        named = parameter.get("$ref", "").rpartition("/")[2]
        assert document["components"]["parameters"].get(named, parameter)["description"], parameter


def test_no_two_calls_have_one_id(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]

    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_request_and_every_answer_is_shown_by_an_example_that_is_such(
    document: dict[str, Any], path: str, method: str
) -> None:
    operation = document["paths"][path][method]
    bodies = [answer for status, answer in operation["responses"].items() if status != "204"]
    bodies += [operation["requestBody"]] if "requestBody" in operation else []

    for body in bodies:
        ((_, content),) = body["content"].items()
        found = examples_of(document, content)
        assert found, content
        checked = jsonschema_rs.validator_for({"components": document["components"], **content.get("schema", {})})
        for one in found:
            checked.validate(one)


def test_every_field_of_every_shape_is_shown_by_its_example(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        if schema.get("type") != "object" or name in ("HTTPValidationError", "ValidationError", "TaskFilterFields"):
            continue
        required = set(schema.get("required", ()))
        assert all(required <= one.keys() <= schema["properties"].keys() for one in schema.get("examples", ())), name


@pytest.mark.parametrize(("path", "taken"), [
    ("/api/tasks/enqueue", 201), ("/api/tasks/enqueue/bulk", 200), ("/api/tasks/bulk/cancel", 200),
    ("/api/tasks/bulk/retry", 200), ("/api/tasks/bulk/delete", 200), ("/api/schedules", 201),
    ("/api/schedules/preview", 200), ("/api/diagnostics/self-test", 201),
])  # fmt: skip
@pytest.mark.usefixtures("system")
def test_the_example_of_a_request_is_one_that_is_taken(
    api: httpx2.Client, document: dict[str, Any], path: str, taken: int
) -> None:
    ((_, content),) = document["paths"][path]["post"]["requestBody"]["content"].items()
    (example,) = examples_of(document, content)

    answer = api.post(path, json=example)

    assert answer.status_code == taken, answer.text


def test_every_form_of_a_trigger_is_shown_by_one_that_can_be(api: httpx2.Client, document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    forms = [one["$ref"].rpartition("/")[2] for one in schemas["ScheduleRequest"]["properties"]["trigger"]["oneOf"]]

    for name in forms:
        (example,) = schemas[name]["examples"]
        assert api.post("/api/schedules/preview", json={"trigger": example}).status_code == 200
    assert forms == ["CrontabTrigger", "CronTrigger", "IntervalTrigger", "DateTrigger"]


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
