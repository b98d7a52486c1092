"""Who gets in, and how; what each role may do at each call is in test_roles.py."""

import httpx2
import pytest

from tests.workers.web.tokens import SECRETS, as_, refused_in_words, with_tokens
from workers import tasks
from workers.web.auth import Role, identified, is_local

__all__ = ["with_tokens"]
SELF_TEST = {"task_name": "diagnostics.run_self_test"}
ADMIN = SECRETS["admin"]


@pytest.mark.parametrize("headers", [
    {}, {"authorization": ""}, {"authorization": "Bearer"},
    {"authorization": f"Bearer {ADMIN[:-1]}"}, {"authorization": f"Bearer {ADMIN}x"},
    {"authorization": f"Bearer {SECRETS['over']}"}, {"authorization": f"Basic {ADMIN}"}, {"authorization": ADMIN},
    {"x-api-key": ADMIN}, {"cookie": f"token={ADMIN}"}, {"authorization": "Bearer \x80\xff"},
])  # fmt: skip
@pytest.mark.usefixtures("with_tokens", "refusing")
def test_who_shows_no_valid_token_is_not_known(api: httpx2.Client, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]

    answer = api.post("/api/tasks/enqueue", json=SELF_TEST, headers=raw)

    assert "send Authorization: Bearer" in refused_in_words(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("name", ["token", "access_token", "api_key", "authorization"])
@pytest.mark.usefixtures("with_tokens", "refusing")
def test_a_token_in_the_query_string_counts_for_nothing(api: httpx2.Client, name: str) -> None:
    assert api.get("/api/tasks/", params={name: ADMIN}).status_code == 401


@pytest.mark.usefixtures("with_tokens", "refusing")
def test_two_authorization_headers_are_one_too_many(api: httpx2.Client) -> None:
    value = f"Bearer {ADMIN}"

    answer = api.get("/api/tasks/", headers=[("authorization", value), ("authorization", value)])

    assert "one Authorization header" in refused_in_words(answer, 401)


@pytest.mark.usefixtures("with_tokens", "refusing")
def test_the_body_of_a_stranger_is_not_read(api: httpx2.Client) -> None:
    answer = api.post("/api/tasks/enqueue", content=b"{not json", headers={"content-type": "application/json"})

    assert answer.status_code == 401


@pytest.mark.parametrize("path", ["/nowhere", "/api/tasks/x/y/z", "/api/../api/tasks/"])
@pytest.mark.usefixtures("with_tokens", "refusing")
def test_a_stranger_does_not_learn_which_paths_there_are(api: httpx2.Client, path: str) -> None:
    assert api.get(path).status_code == 401


@pytest.mark.parametrize("path", ["/health/live", "/openapi.json", "/docs", "/docs/style.css"])
@pytest.mark.usefixtures("with_tokens", "refusing")
def test_what_is_public_needs_no_token(api: httpx2.Client, path: str) -> None:
    assert api.get(path).status_code == 200


@pytest.mark.parametrize(("address", "local"), [
    ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.0.0.1", False),
    ("::ffff:10.0.0.1", False), ("testclient", False), ("0.0.0.0", False), ("", True),
])  # fmt: skip
def test_without_tokens_only_this_machine_may_call(address: str, *, local: bool) -> None:
    scope = {"client": (address, 1), "headers": []}

    assert is_local(scope) == local
    if local:
        assert identified(scope).role == Role.ADMIN
    else:
        with pytest.raises(Exception, match="set CALLBOARD_API_TOKENS, for which `callboard tokens new"):
            identified(scope)


@pytest.mark.usefixtures("with_tokens", "system")
def test_a_task_says_which_token_cancelled_it(api: httpx2.Client) -> None:
    task_id = tasks.enqueue_task(SELF_TEST["task_name"])

    api.post(f"/api/tasks/{task_id}/cancel", headers=as_("operate"))

    assert api.get(f"/api/tasks/{task_id}", headers=as_("read")).json()["reason"] == "by operate"
