"""A client that openapi-python-client generates from the document works against a real server with a real worker."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import httpx2
import openapi_python_client
import pytest
from dramatiq import Worker
from openapi_python_client.config import Config, ConfigFile, MetaType

from tests.servers import wait_until
from tests.workers.web.tokens import SECRETS, TOKENS
from workers import callboard

NAME = "generated_callboard_client"


@pytest.fixture(scope="module")
def package(api_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The package, generated from what the server says of itself while it wants tokens, importable."""
    folder = tmp_path_factory.mktemp("generated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callboard.settings, "api_tokens", TOKENS)
        (folder / "openapi.json").write_bytes(httpx2.get(f"{api_url}/openapi.json").content)
    config = Config.from_sources(
        ConfigFile(post_hooks=[]), MetaType.NONE, folder / "openapi.json", "utf-8", False, folder / NAME
    )

    complaints = openapi_python_client.generate(config=config)

    assert [(one.header, one.detail) for one in complaints] == []
    sys.path.insert(0, str(folder))
    yield NAME
    sys.path.remove(str(folder))


class Client:
    """The generated client: `client("tasks_show", task_id)` is what came back, `client.of` one of its shapes."""

    def __init__(self, package: str, url: str) -> None:
        self.of: Any = importlib.import_module(f"{package}.models")
        made: Any = importlib.import_module(f"{package}.client")
        self._package = package
        self._client = made.AuthenticatedClient(base_url=url, token=SECRETS["admin"])

    def __call__(self, operation: str, *arguments: object, **named: object) -> Any:
        tag = operation.partition("_")[0]
        module: ModuleType = importlib.import_module(f"{self._package}.api.{tag}.{operation}")
        return module.sync(*arguments, client=self._client, **named)

    def close(self) -> None:
        """Close its connections."""
        self._client.get_httpx_client().close()


@pytest.fixture
def client(package: str, api_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client of an API that wants a token."""
    monkeypatch.setattr(callboard.settings, "api_tokens", TOKENS)
    made = Client(package, api_url)
    yield made
    made.close()


def test_a_task_is_sent_shown_and_run(client: Client, sqlite_database: str, worker: Worker) -> None:
    params = client.of.EnqueueRequestParams.from_dict({"steps": 2, "seconds": 0})
    wanted = client.of.EnqueueRequest(task_name="diagnostics.run_self_test", params=params, priority=7, tags=["made"])

    sent = client("tasks_enqueue", body=wanted, x_correlation_id="order-4711")

    assert (sent.message, sent.delivery) == ("Task enqueued successfully with priority 7", "sent")
    wait_until(lambda: client("tasks_show", sent.task_id).status == "completed", within_s=20, what="its end")
    shown = client("tasks_show", sent.task_id)
    assert shown.params.to_dict() == {"steps": 2, "seconds": 0}
    assert (shown.tags, shown.correlation_id, shown.started_at < shown.completed_at) == (["made"], "order-4711", True)
    assert [one.outcome for one in client("tasks_attempts", sent.task_id).attempts] == ["completed"]
    assert len(client("tasks_logs", sent.task_id, limit=1).logs) == 1


@pytest.mark.usefixtures("system")
def test_tasks_are_listed_counted_and_cancelled(client: Client) -> None:
    one = client.of.BulkEnqueueRequestTasksItem.from_dict({"task_name": "diagnostics.run_self_test", "delay_s": 3600})
    bulk = client("tasks_enqueue_bulk", body=client.of.BulkEnqueueRequest(tasks=[one] * 3))
    first = bulk.results[0].task_id

    page = client("tasks_list", status=client.of.TaskStatus.PENDING, limit=2)
    rest = client("tasks_list", status=client.of.TaskStatus.PENDING, limit=2, cursor=page.next_cursor)
    cancelled = client("tasks_cancel", first)

    assert (bulk.accepted, page.total_count) == (3, 3)
    assert first in [task.task_id for task in page.tasks + rest.tasks]
    assert (cancelled.success, cancelled.outcome) == (True, "cancelled")
    assert client("tasks_count", status=client.of.TaskStatus.CANCELLED).count == 1
    assert "it has ended" in client("tasks_cancel", first).detail
    assert client("tasks_retry", first).success
    changed = client("tasks_change", first, body=client.of.ChangeRequest(priority=9))
    assert (changed.priority, changed.status) == (9, "pending")
    filtered = client.of.BulkRequest(filter_=client.of.BulkFilter(queue="health"))
    assert client("tasks_bulk_cancel", body=filtered).outcomes.to_dict() == {"cancelled": 3}


@pytest.mark.usefixtures("system")
def test_schedules_are_added_edited_run_and_deleted(client: Client) -> None:
    trigger = client.of.CrontabTrigger(kind="crontab", expression="10,50 9 * * *")
    wanted = client.of.ScheduleRequest(
        id="mornings", actor="diagnostics.run_self_test", trigger=trigger, time_zone="Europe/Berlin"
    )

    added = client("schedules_add", body=wanted)

    assert (added.id, added.origin, added.enabled) == ("mornings", "user", True)
    preview = client.of.PreviewRequest(trigger=trigger, time_zone="Europe/Berlin", count=2)
    assert len(client("schedules_preview", body=preview).next_) == 2
    every_week = client.of.IntervalTrigger(kind="interval", weeks=1)
    edited = client("schedules_edit", "mornings", body=client.of.ScheduleEdit(trigger=every_week))
    assert edited.words == "every week"
    assert client("schedules_pause", "mornings").enabled is False
    run = client("schedules_run", "mornings")
    assert client("tasks_show", run.task_id).schedule_id == "mornings"
    assert [one.task_id for one in client("schedules_runs", "mornings")] == [run.task_id]
    assert [one.id for one in client("schedules_list").schedules] == ["mornings"]
    assert client("schedules_delete", "mornings") is None
    assert "there is no schedule" in client("schedules_show", "mornings").detail


@pytest.mark.usefixtures("system")
def test_what_there_is_is_shown(client: Client) -> None:
    assert "diagnostics.run_self_test" in [one.name for one in client("actors_list")]
    assert {one.name for one in client("queues_list")} >= {"email", "health"}
    assert client("statistics_show").completed == 0
    assert client("workers_list").total_count == 0
    assert client("alerts_list").alerts == []
    assert client("health_live").status == "live"
    assert client("audit_list", limit=1).entries == []
    refused = client("tasks_enqueue", body=client.of.EnqueueRequest(task_name="diagnostics.run_selftest"))
    assert (refused.status, refused.field) == (422, "task_name")
    assert "did you mean diagnostics.run_self_test" in refused.detail
