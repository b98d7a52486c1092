"""No secret that a task is given comes out in a view of the ledger, a log, an answer or the audit log."""

import json
import logging
from datetime import UTC, datetime

import dramatiq
import httpx2
import pytest
from pydantic import SecretStr

from models import database, task_query
from models.task import TERMINAL
from tests.servers import wait_until
from tests.workers import secret_probes
from tests.workers.cli.conftest import Run, run
from tests.workers.secret_probes import SECRET
from tests.workers.web.conftest import api, api_url
from workers import audit, callboard, tasks
from workers.alerts import watch

__all__ = ["api", "api_url", "run"]
GIVEN = {"card": SECRET, "password": SECRET, "settings": {"dsn": f"redis://:{SECRET}@h", "deep": [{"api_key": SECRET}]}}
LEAK = secret_probes.leak.actor_name


def ended(task_id: str) -> dict[str, object]:
    """The row as everybody sees it, with its attempts and log lines, once it has ended."""
    wait_until(lambda: (tasks.get_task_status(task_id) or {})["status"] in TERMINAL, within_s=30, what="the end")
    found = tasks.get_task_status(task_id)
    assert found is not None
    with database.reading() as session:
        found["attempts"] = [one.model_dump() for one in task_query.attempts(session, task_id)]
        found["logs"] = [one.model_dump() for one in task_query.logs(session, task_id)]
    return found


def test_a_failing_task_keeps_its_secrets(
    bus: object, ledger_database: str, worker: dramatiq.Worker, api: httpx2.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sent = api.post("/api/tasks/enqueue", json={"task_name": LEAK, "params": GIVEN})

    found = ended(sent.json()["task_id"])

    assert found["status"] == "failed"
    assert found["error_message"] == "cannot log in as '***' with *** and {'dsn': '***', 'deep': [{'api_key': ***}]}"
    shown = json.dumps(found, default=str) + sent.text + api.get("/api/tasks/").text
    assert SECRET not in shown
    assert shown.count("***") > 10
    assert "with ***" in str(found["progress_message"])
    assert SECRET not in "".join(record.getMessage() for record in caplog.records if "dramatiq" in record.name)


def test_no_answer_of_the_api_has_one(system: object, worker: dramatiq.Worker, api: httpx2.Client) -> None:
    schedule = {"id": "s", "actor": LEAK, "params": GIVEN, "trigger": {"kind": "interval", "days": 1}}
    api.post("/api/schedules", json=schedule)
    task_id = api.post("/api/tasks/enqueue", json={"task_name": LEAK, "params": GIVEN}).json()["task_id"]
    ended(task_id)
    watch.open_(callboard, "k", rule="x", message=f"no answer of redis://:{SECRET}@h", now=datetime.now(UTC))
    audit.record("x.y", f"redis://:{SECRET}@h", details={"password": SECRET})
    paths = [path for path, methods in api.get("/openapi.json").json()["paths"].items() if "get" in methods]

    shown = {
        path: api.get(path.format(task_id=task_id, schedule_id="s", queue="jobs", group_id="g")).text
        for path in paths if path != "/api/events"
    }  # fmt: skip

    assert len(shown) > 20
    assert {path for path, text in shown.items() if SECRET in text} == set()
    assert "***" in shown["/api/schedules/{schedule_id}"]
    assert "***" in shown["/api/alerts"]


def test_a_secret_in_a_result_is_stars_and_the_function_was_given_the_value(
    system: object, worker: dramatiq.Worker
) -> None:
    message = secret_probes.leak.send(SecretStr(SECRET), SECRET, {}, fails=False)

    found = ended(message.message_id)

    assert found["result"] == {"card": "***", "said": "it is ***", "shown": "**********"}
    assert found["params"] == {"card": "***", "password": "***", "settings": {}, "fails": False}


def test_an_isolated_child_keeps_them_too(
    system: object, worker: dramatiq.Worker, capfd: pytest.CaptureFixture[str]
) -> None:
    message = secret_probes.leak_from_a_child.send(SECRET, SECRET)

    found = ended(message.message_id)

    assert found["error_message"] == "cannot log in with *** or ***"
    assert SECRET not in json.dumps(found, default=str)
    assert SECRET not in "".join(capfd.readouterr())


def test_a_secret_inside_a_model_reaches_the_function_and_no_one_else(
    system: object, worker: dramatiq.Worker, api: httpx2.Client
) -> None:
    given = {"login": {"user": "bob", "word": SECRET}, "word": SECRET}
    body = {"task_name": secret_probes.log_in.actor_name, "params": given}
    task_id = api.post("/api/tasks/enqueue", json=body).json()["task_id"]

    row = tasks.get_task(task_id)
    found = ended(task_id)

    assert row is not None
    assert row.params["kwargs"] == given
    assert found["params"] == {"login": "***", "word": "***"}
    assert SECRET not in json.dumps(found, default=str)


@pytest.mark.usefixtures("system")
def test_the_command_line_shows_none(run: Run) -> None:
    task_id = run("enqueue", LEAK, "--params", json.dumps(GIVEN)).out.strip()

    shown = run("tasks", "show", task_id).out + run("tasks", "show", task_id, "--json").out + run("audit", "--json").out

    assert task_id in shown
    assert SECRET not in shown


@pytest.mark.parametrize("params", [
    {"card": {"word": SECRET}}, {"card": SECRET, "password": [SECRET]}, {"card": SECRET, "password": SECRET},
])  # fmt: skip
@pytest.mark.usefixtures("refusing_nothing")
def test_a_refusal_does_not_repeat_them(api: httpx2.Client, params: dict[str, object]) -> None:
    answer = api.post("/api/tasks/enqueue", json={"task_name": LEAK, "params": params})

    assert answer.status_code == 422
    assert SECRET not in answer.text


@pytest.fixture
def refusing_nothing(system: object) -> None:
    """A fresh database."""


@pytest.mark.usefixtures("system")
def test_the_audit_log_shows_none(caplog: pytest.LogCaptureFixture) -> None:
    audit.record("x.y", f"redis://:{SECRET}@h", details={"password": SECRET, "note": f"token={SECRET}"})

    (found,) = audit.entries()

    assert SECRET not in found.model_dump_json()


def test_what_dramatiq_writes_of_a_message_has_no_arguments(system: object, worker: dramatiq.Worker) -> None:
    seen: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("dramatiq").addHandler(handler)
    try:
        ended(secret_probes.leak.send(SECRET, SECRET, {}).message_id)
        wait_until(lambda: any("Failed to process message" in line for line in seen), within_s=5, what="the line")
    finally:
        logging.getLogger("dramatiq").removeHandler(handler)

    assert SECRET not in "".join(seen)
    assert f"Failed to process message {LEAK} " in "".join(seen)
