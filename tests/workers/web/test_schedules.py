"""The routes of schedules: every verb, and what each refuses."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import database
from models.schedule import Origin, Schedule
from models.task import TaskType
from tests.workers.web.test_problems import problem_of
from workers import callboard, tasks
from workers.registry import actor
from workers.web.schedules import ScheduleEdit

SELF_TEST = "diagnostics.run_self_test"
BASE = "/api/schedules"
EVERY = {"kind": "interval", "minutes": 5}

pytestmark = pytest.mark.usefixtures("system")


def add(api: httpx2.Client, schedule_id: str = "often", **changes: Any) -> dict[str, Any]:
    answer = api.post(BASE, json={"id": schedule_id, "actor": SELF_TEST, "trigger": EVERY} | changes)
    assert answer.status_code == 201, answer.text
    row: dict[str, Any] = answer.json()
    return row


def test_a_schedule_is_added_with_every_field_and_found_again(api: httpx2.Client) -> None:
    said = {
        "name": "Often", "params": {"steps": 2}, "time_zone": "Europe/Berlin", "start_at": "2026-01-01T00:00:00+01:00",
        "end_at": "2099-01-01T00:00:00Z", "enabled": False, "priority": 9, "max_retries": 1, "time_limit_s": 60,
        "misfire": "skip", "misfire_grace_s": 5, "catch_up_max": 3, "overlap": "allow", "jitter_s": 2,
    }  # fmt: skip

    row = add(api, **said)

    times = {"start_at": "2025-12-31T23:00:00Z"}
    assert {name: row[name] for name in said} == said | times
    assert (row["id"], row["actor"]) == ("often", SELF_TEST)
    assert row["words"].startswith("every 5 minutes, from 2026-01-01 00:00 until")
    assert (row["origin"], row["declared"], row["run_count"], row["last_status"]) == ("user", None, 0, None)
    assert api.get(f"{BASE}/often").json() == row


def test_the_list_is_by_id_and_pages(api: httpx2.Client) -> None:
    for name in ("c", "a", "b"):
        add(api, name)

    page = api.get(BASE, params={"limit": 1, "offset": 1}).json()

    assert [row["id"] for row in page["schedules"]] == ["b"]
    assert (page["total_count"], page["limit"], page["offset"]) == (3, 1, 1)
    assert [row["id"] for row in api.get(BASE).json()["schedules"]] == ["a", "b", "c"]


def test_an_edit_changes_what_it_names_and_null_empties(api: httpx2.Client) -> None:
    before = add(api, priority=9, params={"steps": 2})

    crontab = {"kind": "crontab", "expression": "10,50 9 * * *"}
    after = api.patch(f"{BASE}/often", json={"trigger": crontab, "priority": None}).json()

    assert (after["words"], after["priority"]) == ("at 09:10 and 09:50 every day (UTC)", None)
    assert after["params"] == before["params"]


def test_pause_and_resume(api: httpx2.Client) -> None:
    add(api)

    assert api.post(f"{BASE}/often/pause").json()["enabled"] is False
    assert api.post(f"{BASE}/often/resume").json()["enabled"] is True


def test_run_sends_a_task_now_which_stands_among_its_runs(api: httpx2.Client) -> None:
    add(api)

    answer = api.post(f"{BASE}/often/run")

    assert answer.status_code == 201
    task_id = answer.json()["task_id"]
    task = tasks.get_task(task_id)
    assert task is not None
    assert task.schedule_id == "often"
    (row,) = api.get(f"{BASE}/often/runs").json()
    assert (row["outcome"], row["task_id"], row["task_status"]) == ("sent", task_id, "pending")
    assert row["reason"] == "run now, by API"
    assert api.get(f"{BASE}/often/runs", params={"before": row["due_at"]}).json() == []


def test_a_run_while_the_one_before_is_unfinished_is_refused_but_by_force(api: httpx2.Client) -> None:
    add(api)
    first = api.post(f"{BASE}/often/run").json()["task_id"]

    refused = problem_of(api.post(f"{BASE}/often/run"), 409)
    assert f"the run before, {first}, is unfinished" in str(refused["detail"])
    assert api.post(f"{BASE}/often/run", params={"force": True}).status_code == 201


def test_a_deleted_one_is_gone_and_its_runs_are_kept(api: httpx2.Client) -> None:
    add(api)
    api.post(f"{BASE}/often/run")

    answer = api.delete(f"{BASE}/often")

    assert (answer.status_code, answer.content) == (204, b"")
    problem_of(api.get(f"{BASE}/often"), 404)
    assert len(api.get(f"{BASE}/often/runs").json()) == 1


def test_a_declared_one_cannot_be_deleted_and_is_reset_to_its_line(api: httpx2.Client) -> None:
    row = add(api)
    with database.writing() as session:
        found = session.get_one(Schedule, "often")
        found.origin = Origin.DECLARED
        found.declared = {name: row[name] for name in ("name", "priority", "trigger", "params", "actor", "overlap")}
    api.patch(f"{BASE}/often", json={"priority": 1})

    refused = problem_of(api.delete(f"{BASE}/often"), 409)

    assert "pause it, or remove its line" in str(refused["detail"])
    assert api.get(f"{BASE}/often").json()["priority"] == 1
    with database.writing() as session:
        session.get_one(Schedule, "often").overridden = ["priority"]
    reset = api.post(f"{BASE}/often/reset").json()
    assert (reset["priority"], reset["overridden"]) == (None, [])


def test_what_has_no_line_cannot_be_reset_and_what_was_removed_not_resumed(api: httpx2.Client) -> None:
    add(api)
    assert "no line says" in str(problem_of(api.post(f"{BASE}/often/reset"), 409)["detail"])
    with database.writing() as session:
        session.get_one(Schedule, "often").removed_at = datetime.now(UTC)

    assert "put its line back" in str(problem_of(api.post(f"{BASE}/often/resume"), 409)["detail"])


def test_a_preview_says_a_trigger_in_words_and_its_next_times(api: httpx2.Client) -> None:
    after = datetime(2026, 6, 1, tzinfo=UTC)

    found = api.post(f"{BASE}/preview", json={
        "trigger": {"kind": "crontab", "expression": "10,50 9 * * *"}, "time_zone": "Europe/Berlin", "count": 3,
        "after": after.isoformat(),
    }).json()  # fmt: skip

    assert found["words"] == "at 09:10 and 09:50 every day (Europe/Berlin)"
    first = after + timedelta(hours=7, minutes=10)
    expected = [first, first + timedelta(minutes=40), first + timedelta(days=1)]
    assert [datetime.fromisoformat(time) for time in found["next"]] == expected
    assert api.get(BASE).json()["total_count"] == 0


def test_an_id_that_nobody_has_is_not_found_whatever_is_asked(api: httpx2.Client) -> None:
    add(api, "nightly")
    verbs = [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/runs"),
             *(("POST", f"/{verb}") for verb in ("pause", "resume", "reset", "run"))]  # fmt: skip
    for method, below in verbs:
        for schedule_id in ("nightyl", "a%00b", "%ff", "x" * 300, "%27%20OR%201=1--"):
            body = {"priority": 5} if method == "PATCH" else None
            found = problem_of(api.request(method, f"{BASE}/{schedule_id}{below}", json=body), 404)
            assert "there is no schedule" in str(found["detail"])
            assert schedule_id != "nightyl" or "did you mean nightly?" in str(found["detail"])


@pytest.mark.parametrize(
    ("changes", "field", "mend"),
    [
        ({"id": "often"}, "id", "there is a schedule 'often' already"),
        ({"id": "<b>"}, "id", "letters, digits and ._:-"),
        ({"id": ""}, "id", "1–100 letters"),
        ({"actor": "diagnostics.run_selftest"}, "actor", "did you mean diagnostics.run_self_test"),
        ({"actor": "os.system"}, "actor", "there is no actor"),
        ({"params": {"step": 1}}, "params.step", "did you mean 'steps'?"),
        ({"params": {"steps": 0}}, "params.steps", "greater than or equal to 1"),
        ({"trigger": {"kind": "cron", "minute": "0--100000000"}}, "minute", "expected"),
        ({"trigger": {"kind": "crontab", "expression": "61 * * * *"}}, "expression", "0–59"),
        ({"trigger": {"kind": "sometimes"}}, "kind", "expected"),
        ({"trigger": {}}, "kind", "expected"),
        ({"trigger": "* * * * *"}, "trigger", "valid dictionary"),
        ({"time_zone": "Mars/Olympus"}, "time_zone", "IANA"),
        ({"priority": 11}, "priority", "less than or equal to 10"),
        ({"priority": "9"}, "priority", "valid integer"),
        ({"enabled": "no"}, "enabled", "valid boolean"),
        ({"misfire": "never"}, "misfire", "'skip', 'run_once' or 'run_all'"),
        ({"start_at": "yesterday"}, "start_at", "expected"),
        ({"name": "a\nb"}, "name", "printable"),
        ({"origin": "declared"}, "origin", "no such field"),
        ({"run_count": 5}, "run_count", "no such field"),
        ({"next_run_at": "2020-01-01T00:00:00Z"}, "next_run_at", "no such field"),
    ],
)  # fmt: skip
def test_a_wrong_schedule_is_refused_with_the_field(
    api: httpx2.Client, changes: dict[str, Any], field: str, mend: str
) -> None:
    add(api)

    answer = api.post(BASE, json={"id": "other", "actor": SELF_TEST, "trigger": EVERY} | changes)

    found = problem_of(answer, 422)
    assert found["field"] == field
    assert mend in str(found["detail"])
    assert api.get(BASE).json()["total_count"] == 1


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=1001", "limit"), ("before=yesterday", "before"), ("before=2026-01-01", "before"),
     ("before=0001-01-01T00:00:00%2B23:59", "before"), ("before=9999-12-31T23:59:59-23:59", "before")],
)  # fmt: skip
def test_a_wrong_page_of_runs_is_refused(api: httpx2.Client, query: str, field: str) -> None:
    add(api)

    assert problem_of(api.get(f"{BASE}/often/runs?{query}"), 422)["field"] == field


@actor(task_type=TaskType.JOB, name="schedules.with_a_secret")
def with_a_secret(password: str, note: str) -> None:
    """Only scheduled here."""


def test_parameters_that_are_sent_back_as_they_were_shown_keep_their_secrets(api: httpx2.Client) -> None:
    shown = add(api, actor="schedules.with_a_secret", params={"password": "hunter2", "note": "seen"})

    changed = api.patch(f"/api/schedules/{shown['id']}", json={"params": {**shown["params"], "note": "edited"}})

    assert changed.status_code == 200
    with database.reading() as session:
        assert session.get_one(Schedule, shown["id"]).params == {"password": "hunter2", "note": "edited"}


def test_secrets_among_its_parameters_are_stars(api: httpx2.Client) -> None:
    row = add(api, actor="schedules.with_a_secret", params={"password": "hunter2", "note": "seen"})

    for answer in (row, api.get(f"{BASE}/often").json(), api.get(BASE).json()["schedules"][0]):
        assert answer["params"]["note"] == "seen"
        assert "hunter2" not in str(answer)
    task = tasks.get_task(api.post(f"{BASE}/often/run").json()["task_id"])
    assert task is not None
    assert task.params["kwargs"]["password"] == "hunter2"


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
_FIELDS = st.sampled_from(["expression", "hour", "minute", "day_of_week", "minutes", "weeks", "run_date", "year", "x"])
_TRIGGERS = st.dictionaries(_FIELDS, _VALUES | st.sampled_from(["*", "1-5", "0--100000000", "*/0", "L"]), max_size=3)
_KINDS = st.sampled_from(["cron", "crontab", "interval", "date"])


@given(
    trigger=st.builds(lambda kind, fields: {"kind": kind, **fields}, _KINDS | _VALUES, _TRIGGERS) | _VALUES,
    more=st.dictionaries(st.sampled_from(sorted(ScheduleEdit.model_fields.keys() - {"trigger"})), _VALUES, max_size=3),
    preview=st.dictionaries(st.sampled_from(["time_zone", "start_at", "end_at", "count", "after"]), _VALUES),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_body_at_all_breaks_the_server(
    api: httpx2.Client, trigger: Any, more: dict[str, Any], preview: dict[str, Any]
) -> None:
    bodies = {
        BASE: {"id": "fuzzed", "actor": SELF_TEST, "trigger": trigger, **more},
        f"{BASE}/preview": {"trigger": trigger, **preview},
    }
    for path, body in bodies.items():
        answer = api.post(path, content=json.dumps(body).encode("ascii"), headers={"content-type": "application/json"})
        if answer.status_code not in (200, 201):
            problem_of(answer, 400, 422)
    answer = api.patch(f"{BASE}/fuzzed", content=json.dumps({"trigger": trigger, **more}).encode("ascii"),
                       headers={"content-type": "application/json"})  # fmt: skip
    if answer.status_code != 200:
        problem_of(answer, 400, 404, 422)
    if api.get(f"{BASE}/fuzzed").status_code == 200:
        assert api.delete(f"{BASE}/fuzzed").status_code == 204


@pytest.mark.usefixtures("system")
def test_nobody_adds_more_schedules_than_may_be(api: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callboard.settings, "schedules_max", 2)
    wanted = {"actor": "health.check_system", "trigger": {"kind": "interval", "days": 1}}

    answers = [api.post("/api/schedules", json=wanted | {"id": f"s{number}"}) for number in range(3)]

    assert [answer.status_code for answer in answers] == [201, 201, 422]
    assert "which is the most (CALLBOARD_SCHEDULES_MAX)" in answers[-1].json()["detail"]
