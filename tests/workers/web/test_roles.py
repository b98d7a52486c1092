"""The table of calls and roles: who may do what. A route that is missing from it fails the test; write it down here.

Every call is made with no token, an expired one, a truncated one, and that of each role.
"""

import httpx2
import pytest

from tests.workers.web.tokens import SECRETS, as_, refused_in_words, with_tokens
from workers.access import Role
from workers.web import create_app
from workers.web.auth import is_public
from workers.web.openapi import roles

__all__ = ["with_tokens"]
READ, OPERATE, ADMIN = Role.READ, Role.OPERATE, Role.ADMIN
CALLS: dict[tuple[str, str], Role] = {
    ("POST", "/api/tasks/enqueue"): OPERATE,
    ("GET", "/api/tasks/count/all"): READ,
    ("GET", "/api/tasks/"): READ,
    ("GET", "/api/tasks"): READ,
    ("GET", "/api/tasks/{task_id}"): READ,
    ("POST", "/api/tasks/{task_id}/cancel"): OPERATE,
    ("GET", "/api/chores"): READ,
    ("GET", "/api/alerts"): READ,
    ("POST", "/api/alerts/{alert_id}/acknowledge"): OPERATE,
    ("GET", "/metrics"): READ,
    ("GET", "/api/audit"): READ,
    ("GET", "/api/actors"): READ,
    ("POST", "/api/diagnostics/self-test"): OPERATE,
    ("GET", "/api/events"): READ,
    ("GET", "/api/groups/{group_id}"): READ,
    ("GET", "/api/locks"): READ,
    ("GET", "/api/queues"): READ,
    ("GET", "/api/queues/{queue}"): READ,
    ("POST", "/api/queues/{queue}/pause"): OPERATE,
    ("POST", "/api/queues/{queue}/purge"): ADMIN,
    ("POST", "/api/queues/{queue}/resume"): OPERATE,
    ("GET", "/api/schedules"): READ,
    ("POST", "/api/schedules"): ADMIN,
    ("POST", "/api/schedules/preview"): READ,
    ("DELETE", "/api/schedules/{schedule_id}"): ADMIN,
    ("GET", "/api/schedules/{schedule_id}"): READ,
    ("PATCH", "/api/schedules/{schedule_id}"): ADMIN,
    ("POST", "/api/schedules/{schedule_id}/pause"): OPERATE,
    ("POST", "/api/schedules/{schedule_id}/reset"): ADMIN,
    ("POST", "/api/schedules/{schedule_id}/resume"): OPERATE,
    ("POST", "/api/schedules/{schedule_id}/run"): OPERATE,
    ("GET", "/api/schedules/{schedule_id}/runs"): READ,
    ("GET", "/api/stats"): READ,
    ("GET", "/api/stats/timeseries"): READ,
    ("POST", "/api/tasks/bulk/cancel"): OPERATE,
    ("POST", "/api/tasks/bulk/delete"): ADMIN,
    ("POST", "/api/tasks/bulk/retry"): OPERATE,
    ("POST", "/api/tasks/enqueue/bulk"): OPERATE,
    ("PATCH", "/api/tasks/{task_id}"): OPERATE,
    ("GET", "/api/tasks/{task_id}/attempts"): READ,
    ("GET", "/api/tasks/{task_id}/logs"): READ,
    ("POST", "/api/tasks/{task_id}/retry"): OPERATE,
    ("GET", "/api/workers"): READ,
}
STRANGERS = {
    "no token": {},
    "expired": as_("over"),
    "truncated": {"authorization": f"Bearer {SECRETS['admin'][:-5]}"},
}


def test_the_table_names_every_route_with_the_role_that_it_asks_for() -> None:
    asked = {(method, path): role for (path, method), role in roles(create_app()).items() if not is_public(path)}

    assert asked == CALLS


def call(api: httpx2.Client, method: str, path: str, headers: dict[str, str]) -> httpx2.Response:
    """The call with ids that nobody has; only whether it is let in matters. Streams are not read."""
    filled = path.replace("{", "x").replace("}", "")
    body = {} if method in ("POST", "PUT", "PATCH") else None
    with api.stream(method, filled, headers=headers, json=body) as answer:
        if answer.headers.get("content-type", "").startswith("application/"):
            answer.read()
        return answer


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.usefixtures("with_tokens", "system")
def test_a_stranger_gets_nothing(api: httpx2.Client, method: str, path: str, stranger: str) -> None:
    refused_in_words(call(api, method, path, STRANGERS[stranger]), 401)


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.usefixtures("with_tokens", "system")
def test_a_role_gets_what_it_covers_and_no_more(api: httpx2.Client, method: str, path: str, role: Role) -> None:
    answer = call(api, method, path, as_(role))

    if role.covers(CALLS[method, path]):
        assert answer.status_code not in (401, 403)
        assert answer.status_code < 500
    else:
        assert f"needs the role {CALLS[method, path]}" in refused_in_words(answer, 403)
