"""Every wrong request is answered by a problem document with its mend: never a 5xx but 503, never a traceback."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import database
from tests.servers import OwnRedis
from tests.workers.web.conftest import serving
from workers import callboard, tasks
from workers.web import create_app

SELF_TEST = "diagnostics.run_self_test"
MAIL = "email.send_confirmation"
JSON = {"content-type": "application/json"}


def problem_of(answer: httpx2.Response, *statuses: int) -> dict[str, object]:
    """The problem document of an answer, its form checked."""
    assert answer.status_code in statuses, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, object] = answer.json()
    assert body.keys() >= {"type", "title", "status", "detail"}
    assert body["status"] == answer.status_code
    assert body["title"] != "Error"
    assert "Traceback" not in answer.text
    return body


@pytest.mark.parametrize(
    ("body", "field", "mend"),
    [
        ({"task_name": "diagnostics.run_selftest"}, "task_name", "did you mean diagnostics.run_self_test"),
        ({"task_name": "__import__"}, "task_name", "see `callboard actors`"),
        ({"task_name": "os.system"}, "task_name", "there is no actor 'os.system'"),
        ({"task_name": ""}, "task_name", "at least 1 character"),
        ({"task_name": "x" * 201}, "task_name", "at most 200"),
        ({"task_name": 5}, "task_name", "valid string"),
        ({}, "task_name", "required"),
        ({"task_name": SELF_TEST, "params": {"step": 5}}, "params.step", "did you mean 'steps'?"),
        ({"task_name": SELF_TEST, "params": {"steps": 0}}, "params.steps", "greater than or equal to 1"),
        ({"task_name": SELF_TEST, "params": {"\ud800": 0}}, "params.\ud800", "no such parameter"),
        ({"task_name": SELF_TEST, "params": [5]}, "params", "valid dictionary"),
        ({"task_name": SELF_TEST, "params": None}, "params", "valid dictionary"),
        ({"task_name": SELF_TEST, "task_type": "email"}, "task_type", "is of type health"),
        ({"task_name": SELF_TEST, "task_type": "mail"}, "task_type", "'email', 'report'"),
        ({"task_name": SELF_TEST, "priority": 0}, "priority", "greater than or equal to 1"),
        ({"task_name": SELF_TEST, "priority": 11}, "priority", "less than or equal to 10"),
        ({"task_name": SELF_TEST, "priority": "5"}, "priority", "valid integer"),
        ({"task_name": SELF_TEST, "priority": True}, "priority", "valid integer"),
        ({"task_name": SELF_TEST, "priority": 5.5}, "priority", "valid integer"),
        ({"task_name": SELF_TEST, "max_retries": 1_001}, "max_retries", "less than or equal to 1000"),
        ({"task_name": SELF_TEST, "delay_s": -1}, "delay_s", "greater than or equal to 0"),
        ({"task_name": SELF_TEST, "delay_s": 1e300}, "delay_s", "less than or equal to"),
        ({"task_name": SELF_TEST, "tags": ["x"] * 21}, "tags", "at most 20 items"),
        ({"task_name": SELF_TEST, "time_limit": 1e9}, "time_limit", "there is no such field or filter; /docs has"),
        ({"task_name": SELF_TEST, "on_failure": "x"}, "on_failure", "there is no such field or filter; /docs has"),
        ({"task_name": SELF_TEST, "pipe_target": {}}, "pipe_target", "there is no such field or filter; /docs has"),
        (
            {"task_name": MAIL, "params": {"fir_id": "F", "recipient_email": "a@b.de\nBcc: c@d.e"}},
            "params.recipient_email",
            "expected an e-mail address such as name@example.org, got 'a@b.de\\nBcc: c@d.e'",
        ),
        ({"task_name": "email.send_confirmation", "params": {"fir_id": "F"}}, "params.recipient_email", "required"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("refusing")
def test_a_wrong_request_is_refused_and_leaves_no_row(
    api: httpx2.Client, body: dict[str, object], field: str, mend: str
) -> None:
    answer = api.post("/api/tasks/enqueue", content=_ascii(body), headers=JSON)

    found = problem_of(answer, 422)
    assert found["field"] == field
    assert mend in str(found["detail"])
    assert tasks.get_task_count() == 0


def _ascii(body: object) -> bytes:
    return json.dumps(body).encode("ascii")


@pytest.mark.parametrize(
    ("content", "statuses"),
    [
        (b"", (422,)),
        (b"null", (422,)),
        (b"[]", (422,)),
        (b"{not json", (422,)),
        (b"\xff\xfe\x00", (400, 422)),
        (b'{"task_name": "a"} trailing', (422,)),
        (b'{"task_name": "a", "task_name": "diagnostics.run_self_test"}', (422,)),
        (b'{"task_name": "diagnostics.run_self_test", "params": {"steps": 1, "steps": 2}}', (422,)),
        (b'{"task_name": "diagnostics.run_self_test", "params": {"steps": ' + b"9" * 5_000 + b"}}", (400, 422)),
        (b'{"task_name": "diagnostics.run_self_test", "priority": ' + b"9" * 5_000 + b"}", (400, 422)),
        (b"[" * 100_000, (400, 422)),
        (b'{"task_name": "diagnostics.run_self_test", "params": ' + b'{"a":' * 9_000 + b"1" + b"}" * 9_001, (400, 422)),
        (b'{"task_name": "diagnostics.run_self_test", "params": {"steps": ' + b"[" * 200 + b"]" * 200 + b"}}", (422,)),
        (b'{"task_name": "diagnostics.run_self_test", "params": {"seconds": NaN}}', (422,)),
        (b'{"task_name": "diagnostics.run_self_test", "params": {"seconds": 1e400}}', (422,)),
        (b'{"task_name": "diagnostics.run_self_test", "delay_s": NaN}', (422,)),
        (b'{"task_name": "diagnostics.run_self_test", "delay_s": -Infinity}', (422,)),
        (b'{"task_name": "\\ud800"}', (422,)),
        (b'{"\\ud800": 1, "task_name": "diagnostics.run_self_test"}', (422,)),
    ],
)
@pytest.mark.usefixtures("refusing")
def test_a_body_that_is_no_usable_json_is_refused(
    api: httpx2.Client, content: bytes, statuses: tuple[int, ...]
) -> None:
    answer = api.post("/api/tasks/enqueue", content=content, headers=JSON)

    assert len(str(problem_of(answer, *statuses)["detail"])) > 20
    assert tasks.get_task_count() == 0


@pytest.mark.usefixtures("refusing")
def test_a_name_that_comes_twice_is_refused_by_name(api: httpx2.Client) -> None:
    answer = api.post("/api/tasks/enqueue", content=b'{"priority": 1, "priority": 9, "task_name": "a"}', headers=JSON)

    assert "the name 'priority' comes twice in one object" in str(problem_of(answer, 422)["detail"])


MASS_ASSIGNED = [
    *("task_id", "message_id", "status", "created_at", "result", "parent_id", "schedule_id", "worker_id", "options"),
    *("correlation_id", "queue", "queue_name", "time_limit", "on_failure", "on_success", "throws", "retry_when"),
    *("on_retry_exhausted", "pipe_target", "min_backoff", "unique_for", "__class__"),
]


@pytest.mark.parametrize("field", MASS_ASSIGNED)
@pytest.mark.usefixtures("system")
def test_nobody_sets_what_is_not_offered(api: httpx2.Client, field: str) -> None:
    kept = tasks.enqueue_task(SELF_TEST)
    before = tasks.get_task_status(kept)
    task = {"task_name": SELF_TEST, field: "1e99"}

    answers = [
        api.post("/api/tasks/enqueue", json=task), api.patch(f"/api/tasks/{kept}", json={"priority": 9, field: "1e99"}),
        api.post("/api/diagnostics/self-test", json={field: "1e99"}),
        api.post("/api/tasks/bulk/cancel", json={"filter": {"status": "pending"}, field: "1e99"}),
        api.post("/api/schedules", json={"id": "s", "actor": SELF_TEST, "trigger": {"kind": "interval", "days": 1},
                                         field: "1e99"}),
    ]  # fmt: skip
    (item,) = api.post("/api/tasks/enqueue/bulk", json={"tasks": [task]}).json()["results"]

    assert [problem_of(answer, 422)["field"] for answer in answers] == [field] * 5
    assert (item["outcome"], item["field"]) == ("invalid", field)
    assert (tasks.get_task_count(), tasks.get_task_status(kept)) == (1, before)


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None]
)
@pytest.mark.usefixtures("refusing")
def test_json_under_another_name_is_refused(api: httpx2.Client, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}

    answer = api.post("/api/tasks/enqueue", content=b'{"task_name": "diagnostics.run_self_test"}', headers=headers)

    assert "sent as application/json" in str(problem_of(answer, 403, 422)["detail"])
    assert tasks.get_task_count() == 0


@pytest.mark.usefixtures("refusing")
def test_a_parameter_of_a_megabyte_is_refused_announced_or_not(api: httpx2.Client) -> None:
    content = b'{"task_name": "reports.generate_pdf", "params": {"report_id": "' + b"x" * 1_000_000 + b'"}}'

    announced = api.post("/api/tasks/enqueue", content=content, headers=JSON)
    in_chunks = api.post("/api/tasks/enqueue", content=_chunks(content), headers=JSON)

    for answer in (announced, in_chunks):
        assert "store large data and send its id" in str(problem_of(answer, 413)["detail"])
    assert tasks.get_task_count() == 0


def _chunks(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 50_000):
        yield content[start : start + 50_000]


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=1001", "limit"), ("limit=-1", "limit"), ("limit=many", "limit"),
     ("limit=" + "9" * 5_000, "limit"), ("offset=-1", "offset"), ("offset=9223372036854775808", "offset"),
     ("status=done", "status"), ("status=%27%20OR%201%3D1--", "status"), ("task_type=mail", "task_type"),
     ("status=%00", "status")],
)  # fmt: skip
@pytest.mark.usefixtures("refusing")
def test_a_wrong_filter_is_refused_and_not_clamped(api: httpx2.Client, query: str, field: str) -> None:
    assert problem_of(api.get(f"/api/tasks/?{query}"), 422)["field"] == field


@pytest.mark.parametrize("limit", [1, 1_000])
@pytest.mark.usefixtures("refusing")
def test_the_bounds_of_a_page_are_taken(api: httpx2.Client, limit: int) -> None:
    assert api.get("/api/tasks/", params={"limit": limit}).json()["limit"] == limit


def test_an_id_that_nobody_has_is_not_found(api: httpx2.Client, bus: object, ledger_database: str) -> None:
    for task_id in ("nobody", "a%00b", "%ff", "x" * 300, "..%2F..%2Fetc", "%27%20OR%201=1--"):
        for answer in (api.get(f"/api/tasks/{task_id}"), api.post(f"/api/tasks/{task_id}/cancel")):
            assert "there is no" in str(problem_of(answer, 404)["detail"])


@pytest.mark.parametrize(
    ("method", "path", "status", "mend"),
    [("GET", "/nowhere", 404, "see /docs"), ("DELETE", "/api/tasks/", 405, "use GET"),
     ("GET", "/api/tasks/enqueue", 404, "see GET /api/tasks/"), ("POST", "/health/live", 405, "use GET")],
)  # fmt: skip
@pytest.mark.usefixtures("refusing")
def test_a_path_or_method_that_is_not_there_says_what_is(
    api: httpx2.Client, method: str, path: str, status: int, mend: str
) -> None:
    assert mend in str(problem_of(api.request(method, path), status)["detail"])


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/tasks/enqueue"), ("GET", "/api/tasks/"), ("GET", "/api/tasks/count/all"), ("GET", "/api/tasks/x"),
     ("POST", "/api/tasks/x/cancel")],
)  # fmt: skip
def test_with_the_ledger_down_everything_is_unavailable_and_says_so(
    api: httpx2.Client, bus: object, tmp_path: Path, method: str, path: str
) -> None:
    (tmp_path / "file").touch()
    database.bind(f"sqlite:///{tmp_path / 'file' / 'callboard.db'}")
    try:
        answer = api.request(method, path, json={"task_name": SELF_TEST} if path.endswith("enqueue") else None)
    finally:
        database.bind(callboard.settings.database)

    found = problem_of(answer, 503)
    assert "set CALLBOARD_DATABASE_URL" in str(found["detail"])


def test_an_unmigrated_database_is_unavailable_and_says_what_to_run(api: httpx2.Client, tmp_path: Path) -> None:
    database.bind(f"sqlite:///{tmp_path / 'empty.db'}")
    try:
        answer = api.get("/api/tasks/")
    finally:
        database.bind(callboard.settings.database)

    assert "run `callboard migrate`" in str(problem_of(answer, 503)["detail"])


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
_NAMES = st.sampled_from([SELF_TEST, "email.send_confirmation", "reports.generate_pdf", "health.check_system"])


@given(
    body=st.fixed_dictionaries(
        {"task_name": _NAMES},
        optional={
            "task_type": _VALUES, "params": st.dictionaries(
                st.sampled_from(["steps", "seconds", "fail_at", "fir_id", "recipient_email", "report_id"]), _VALUES
            ) | _VALUES,
            "priority": _VALUES, "max_retries": _VALUES, "delay_s": _VALUES, "tags": _VALUES,
        },
    )
)  # fmt: skip
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@pytest.mark.usefixtures("system")
def test_no_body_at_all_breaks_the_server(api: httpx2.Client, body: dict[str, object]) -> None:
    answer = api.post("/api/tasks/enqueue", content=_ascii(body), headers=JSON)

    if answer.status_code != 201:
        problem_of(answer, 400, 422)


def test_a_route_that_asks_the_bus_itself_answers_503_with_redis_away(own_redis: OwnRedis) -> None:
    app = create_app()
    app.get("/depth")(lambda: callboard.broker.depth("jobs", timeout_s=0.2).live)
    own_redis.kill()

    with serving(app) as url, httpx2.Client(base_url=url, timeout=20) as client:
        found = problem_of(client.get("/depth"), 503)

    assert "Redis" in str(found["detail"])
