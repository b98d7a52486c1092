"""The audit log: every action through REST and command line leaves an entry, and nothing takes one away but age."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from models import database
from models.audit import AuditEntry, AuditFilter
from models.database import DatabaseUnavailable
from models.retention import Retention
from tests.workers.cli.conftest import Run, run
from tests.workers.web.conftest import api, api_url, serving
from tests.workers.web.tokens import as_, with_tokens
from workers import audit, callboard, tasks
from workers.errors import InvalidTask, LedgerUnavailable
from workers.web.route import make_router

__all__ = ["api", "api_url", "run", "with_tokens"]
SELF_TEST = "diagnostics.run_self_test"


def entry(at: datetime, action: str = "tasks.cancel", **changes: str) -> AuditEntry:
    fields = {"who": "ci", "via": "REST", "from_address": "::1", "target": "t", "outcome": "done"} | changes
    made = AuditEntry(at=at, action=action, **fields)
    with database.writing() as session:
        session.add(made)
    return made


@pytest.mark.usefixtures("with_tokens", "bus")
def test_a_request_that_acts_is_recorded_with_its_token_address_target_and_outcome(
    api: httpx2.Client, ledger_database: str
) -> None:
    before = datetime.now(UTC)
    sent = api.post("/api/tasks/enqueue", json={"task_name": SELF_TEST}, headers=as_("operate")).json()["task_id"]
    api.post(f"/api/tasks/{sent}/cancel", headers=as_("admin"))
    api.post(f"/api/tasks/{sent}/cancel", headers=as_("read"))
    api.post("/api/tasks/nobody/cancel", headers=as_("admin"))
    api.get("/api/tasks/", headers=as_("admin"))

    found = audit.entries()

    assert [(one.who, one.action, one.target, one.outcome) for one in found] == [
        ("admin", "tasks.cancel", "nobody", "refused"),
        ("read", "tasks.cancel", sent, "refused"),
        ("admin", "tasks.cancel", sent, "done"),
        ("operate", "tasks.enqueue", SELF_TEST, "done"),
    ]
    assert {(one.via, one.from_address) for one in found} == {("REST", "127.0.0.1")}
    assert all(before <= one.at <= datetime.now(UTC) for one in found)
    assert [one.details for one in found[:2]] == [{"status": 404}, {"status": 403}]


@pytest.mark.usefixtures("system")
def test_a_command_that_acts_is_recorded_with_user_and_machine(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "meera")
    task_id = run("enqueue", SELF_TEST).out.strip()
    run("tasks", "cancel", task_id)
    run("tasks", "cancel", task_id)
    run("tasks", "list")

    found = audit.entries()

    assert [(one.who, one.via, one.action, one.outcome) for one in found] == [
        ("meera", "CLI", "tasks.cancel", "refused"), ("meera", "CLI", "tasks.cancel", "done"),
        ("meera", "CLI", "tasks.enqueue", "done"),
    ]  # fmt: skip
    assert found[1].target == task_id
    assert found[1].from_address


@pytest.mark.usefixtures("with_tokens", "system")
def test_the_log_is_read_in_pages_by_route_and_by_command(api: httpx2.Client, run: Run) -> None:
    start = datetime(2026, 11, 1, tzinfo=UTC)
    for day in range(5):
        entry(start + timedelta(days=day), target=f"t{day}")

    first = api.get("/api/audit?limit=3", headers=as_("read")).json()
    second = api.get(f"/api/audit?limit=3&before_id={first['next_before_id']}", headers=as_("read")).json()

    assert [one["target"] for one in first["entries"] + second["entries"]] == ["t4", "t3", "t2", "t1", "t0"]
    assert second["next_before_id"] is None
    assert run("audit", "--limit", "2", "--json").out.count('"target"') == 2
    assert "t4" in run("audit").out


@pytest.mark.parametrize(("wanted", "targets"), [
    (AuditFilter(), ["b", "a"]), (AuditFilter(who="ops"), ["b"]), (AuditFilter(action="tasks.cancel"), ["a"]),
    (AuditFilter(target="a"), ["a"]), (AuditFilter(since=datetime(2026, 11, 2, tzinfo=UTC)), ["b"]),
    (AuditFilter(until=datetime(2026, 11, 2, tzinfo=UTC)), ["a"]), (AuditFilter(who="' OR 1=1--"), []),
    (AuditFilter(who="%"), []), (AuditFilter(who="\x00\ud800"), []),
])  # fmt: skip
@pytest.mark.usefixtures("ledger_database")
def test_the_log_is_filtered(wanted: AuditFilter, targets: list[str]) -> None:
    entry(datetime(2026, 11, 1, tzinfo=UTC), target="a")
    entry(datetime(2026, 11, 2, tzinfo=UTC), "tasks.enqueue", target="b", who="ops")

    assert [one.target for one in audit.entries(wanted)] == targets


@pytest.mark.parametrize("limit", [0, -1, 1_001])
def test_a_page_out_of_bounds_is_refused(limit: int) -> None:
    with pytest.raises(InvalidTask, match="limit: expected 1–1000"):
        audit.entries(limit=limit)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/api/audit", "/api/audit/1"])
@pytest.mark.usefixtures("with_tokens", "system")
def test_no_route_writes_or_clears_it(api: httpx2.Client, method: str, path: str) -> None:
    entry(datetime(2026, 11, 1, tzinfo=UTC))

    answer = api.request(method, path, headers=as_("admin"), json={})

    assert answer.status_code in (404, 405)
    assert len(audit.entries()) == 1


@pytest.mark.usefixtures("ledger_database")
def test_only_age_takes_an_entry_away() -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    entry(now - timedelta(days=366))
    entry(now - timedelta(days=364))

    found = Retention(result_days=7, task_days=30, audit_days=365).turn(now)

    assert found["audit"] == 1
    assert len(audit.entries()) == 1


@pytest.mark.usefixtures("system")
def test_hostile_text_is_kept_as_text_and_cut(caplog: pytest.LogCaptureFixture) -> None:
    audit.record("tasks.cancel", "\x00\ud800\r\n<script>" + "x" * 500, who="y" * 500, details={"a": "\x00\ud800"})

    (found,) = audit.entries()
    assert found.target.startswith("\\u0000\\ud800\r\n<script>xxx")
    assert (len(found.target), len(found.who)) == (200, 100)
    assert not caplog.records


def test_an_entry_that_cannot_be_written_is_logged_and_the_action_stands(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    database.bind(f"sqlite:///{tmp_path / 'file' / 'callboard.db'}")
    try:
        audit.record("tasks.cancel", "t", who="ci")
    finally:
        database.bind(callboard.settings.database)

    assert "audit: tasks.cancel by ci from  on 't' (done) could not be written" in caplog.text


@pytest.mark.usefixtures("system")
def test_what_code_does_by_itself_is_its_own_affair() -> None:
    tasks.cancel_task(tasks.enqueue_task(SELF_TEST))

    assert audit.entries() == []


@pytest.mark.usefixtures("system")
def test_what_failed_for_want_of_the_database_does_not_wait_for_it_again_to_say_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, router = FastAPI(), make_router("orders")

    @router.post("/send")
    def send() -> None:
        raise LedgerUnavailable("nothing was sent") from DatabaseUnavailable("database is locked")

    app.include_router(router)
    with serving(app) as url:
        answer = httpx2.post(f"{url}/api/orders/send")

    assert answer.status_code == 503
    assert audit.entries() == []
    assert (
        "audit: orders.send by unknown from 127.0.0.1 on '' (failed) could not be written: database is" in caplog.text
    )
