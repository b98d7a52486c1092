"""The task routes in an application of somebody else: his authentication, our words, bounds, audit log and ids."""

from collections.abc import Iterator
from typing import Annotated

import httpx2
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException

from tests.workers.web.conftest import serving
from tests.workers.web.test_problems import problem_of
from tests.workers.web.tokens import as_, with_tokens
from workers import audit, tasks
from workers.actors.diagnostics import run_self_test
from workers.web import Correlated, create_task_router
from workers.web.auth import Caller, Role

__all__ = ["with_tokens"]
SELF_TEST = {"task_name": "diagnostics.run_self_test"}
BOSS = {"x-session": "boss"}


def _their_auth(x_session: Annotated[str | None, Header()] = None) -> Caller | str:
    """Another application's authentication: `boss` may do everything there, `guest` may look."""
    if x_session not in ("boss", "guest"):
        raise HTTPException(401, "log in first")
    return Caller("guest", Role.READ) if x_session == "guest" else x_session


@pytest.fixture(scope="module")
def theirs_url() -> Iterator[str]:
    app = FastAPI()
    app.include_router(create_task_router(auth=_their_auth))
    app.add_middleware(Correlated)
    app.get("/count")(lambda of: {"letters": len(of)})
    app.post("/orders")(lambda: run_self_test.send().message_id)
    with serving(app) as url:
        yield url


@pytest.fixture
def theirs(theirs_url: str, with_tokens: None, system: object) -> Iterator[httpx2.Client]:
    """A client of theirs; our own tokens are set, and count for nothing there."""
    with httpx2.Client(base_url=theirs_url, timeout=20) as client:
        yield client


@pytest.mark.parametrize(("session", "looks", "sends"), [(None, 401, 401), ("guest", 200, 403), ("boss", 200, 201)])
def test_their_own_authentication_decides(theirs: httpx2.Client, session: str | None, looks: int, sends: int) -> None:
    headers = as_("admin") if session is None else {"x-session": session}

    assert theirs.get("/api/tasks/", headers=headers).status_code == looks
    assert theirs.post("/api/tasks/enqueue", json=SELF_TEST, headers=headers).status_code == sends


@pytest.mark.usefixtures("with_tokens", "system")
def test_without_authentication_of_theirs_it_wants_our_tokens() -> None:
    app = FastAPI(dependencies=[Depends(lambda: None)])
    app.include_router(create_task_router())

    with serving(app) as url, httpx2.Client(base_url=url) as client:
        assert "send Authorization: Bearer" in str(problem_of(client.get("/api/tasks/"), 401)["detail"])
        assert client.get("/api/tasks/", headers=as_("read")).status_code == 200
        assert client.post("/api/tasks/enqueue", json=SELF_TEST, headers=as_("read")).status_code == 403


@pytest.mark.parametrize(("method", "path", "body", "status", "mend"), [
    ("POST", "enqueue", {"task_name": "diagnostics.run_selftest"}, 422, "did you mean diagnostics.run_self_test"),
    ("POST", "enqueue", {"task_name": SELF_TEST["task_name"], "priority": 11}, 422, "less than or equal to 10"),
    ("POST", "enqueue", {"task_name": "diagnostics.run_self_test", "params": {"steps": 0}}, 422, "params.steps"),
    ("POST", "enqueue", [], 422, "expected one JSON object"),
    ("POST", "enqueue", {"task_name": "a", "params": {"a": "x" * 400_000}}, 413, "store large data and send its id"),
    ("GET", "nobody", None, 404, "there is no task 'nobody'"),
    ("POST", "nobody/cancel", None, 404, "there is no task 'nobody'"),
    ("GET", "?limit=0", None, 422, "limit"),
    ("GET", "?cursor=x", None, 422, "leave it out to begin anew"),
])  # fmt: skip
def test_what_our_routes_refuse_is_a_problem_document_there_too(
    theirs: httpx2.Client, method: str, path: str, body: object, status: int, mend: str
) -> None:
    answer = theirs.request(method, f"/api/tasks/{path}", json=body, headers=BOSS)

    assert mend in str(problem_of(answer, status)["detail"])
    assert tasks.get_task_count() == 0


@pytest.mark.parametrize("content", [b"{not json", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_body_that_is_no_json_is_one_too(theirs: httpx2.Client, content: bytes) -> None:
    headers = BOSS | {"content-type": "application/json"}

    answer = theirs.post("/api/tasks/enqueue", content=content, headers=headers)

    assert "expected one JSON object" in str(problem_of(answer, 400, 422)["detail"])


def test_a_body_is_bounded_though_nobody_announced_its_length(theirs: httpx2.Client) -> None:
    chunks = (b"x" * 50_000 for _ in range(20))

    answer = theirs.post("/api/tasks/enqueue", content=chunks, headers=BOSS | {"content-type": "application/json"})

    problem_of(answer, 413)


def test_their_own_routes_and_refusals_stay_as_they_are(theirs: httpx2.Client) -> None:
    assert theirs.get("/api/tasks/").json() == {"detail": "log in first"}
    assert theirs.get("/nowhere").json() == {"detail": "Not Found"}
    assert theirs.get("/count").json()["detail"][0]["loc"] == ["query", "of"]
    assert theirs.get("/count?of=abc").json() == {"letters": 3}


def test_what_is_done_there_is_in_the_audit_log(theirs: httpx2.Client) -> None:
    task_id = theirs.post("/api/tasks/enqueue", json=SELF_TEST, headers=BOSS).json()["task_id"]
    theirs.post(f"/api/tasks/{task_id}/cancel", headers=BOSS)
    theirs.post(f"/api/tasks/{task_id}/cancel", headers={"x-session": "guest"})
    theirs.post(f"/api/tasks/{task_id}/cancel")

    found = [(one.who, one.action, one.target, one.outcome, one.from_address) for one in audit.entries()]

    assert found == [
        ("guest", "tasks.cancel", task_id, "refused", "127.0.0.1"),
        ("boss", "tasks.cancel", task_id, "done", "127.0.0.1"),
        ("boss", "tasks.enqueue", SELF_TEST["task_name"], "done", "127.0.0.1"),
    ]


@pytest.mark.parametrize("path", ["/api/tasks/enqueue", "/orders"])
def test_a_requests_correlation_id_is_kept_with_its_tasks(theirs: httpx2.Client, path: str) -> None:
    answer = theirs.post(path, json=SELF_TEST, headers=BOSS | {"x-correlation-id": "order-4711"})

    (row,) = tasks.list_tasks()
    assert row["correlation_id"] == answer.headers["x-correlation-id"] == "order-4711"


@pytest.mark.usefixtures("system")
def test_without_their_adding_anything_our_routes_keep_the_correlation_id() -> None:
    app = FastAPI()
    app.include_router(create_task_router(auth=lambda: "them"))

    with serving(app) as url:
        answer = httpx2.post(f"{url}/api/tasks/enqueue", json=SELF_TEST, headers={"x-correlation-id": "order-4711"})

    (row,) = tasks.list_tasks()
    assert row["correlation_id"] == answer.headers["x-correlation-id"] == "order-4711"


def test_their_document_has_our_calls_under_their_ids(theirs: httpx2.Client) -> None:
    paths = theirs.get("/openapi.json").json()["paths"]

    assert paths["/api/tasks/enqueue"]["post"]["operationId"] == "tasks_enqueue"
    assert {"422", "503"} <= paths["/api/tasks/{task_id}"]["get"]["responses"].keys()
