"""`workers.tasks`: enqueue by name, look up, list, count and cancel, from Python."""

import pytest
from sqlalchemy import update

from models import database
from models.task import TERMINAL, Task, TaskStatus
from tests.workers.refusing import migrated, refusing
from workers import tasks
from workers.actors.diagnostics import run_self_test
from workers.errors import InvalidTask, LedgerUnavailable, UnknownActor
from workers.tasks import TaskType

__all__ = ["migrated", "refusing"]

SELF_TEST = "diagnostics.run_self_test"


def test_the_interface_is_these_names() -> None:
    assert tasks.__all__ == [
        "CancelOutcome", "TaskFilter", "TaskStatus", "TaskType", "attempts", "cancel_task", "change_task",
        "count_tasks", "enqueue", "enqueue_task", "find_and_count", "find_tasks", "get_task", "get_task_count",
        "get_task_status", "is_duplicate", "list_tasks", "logs", "make_filter", "request_cancel", "retry_task",
        "send_many", "waiting_on",
    ]  # fmt: skip


@pytest.mark.usefixtures("ledger_database")
def test_a_task_is_found_by_the_id_that_its_send_returned(bus: object) -> None:
    task_id = tasks.enqueue_task(SELF_TEST, "health", {"steps": "2"}, 7, 1, tags=["nightly"], correlation_id="c-1")

    found = tasks.get_task_status(task_id)
    assert found is not None
    assert (found["task_name"], found["task_type"], found["status"]) == (SELF_TEST, "health", "pending")
    assert (found["params"], found["priority"], found["max_retries"]) == ({"steps": 2}, 7, 1)
    assert (found["tags"], found["correlation_id"]) == (["nightly"], "c-1")
    assert "options" not in found


def test_an_id_that_nobody_has_is_none_and_cannot_be_cancelled(ledger_database: str) -> None:
    for task_id in ("nobody", "", "a\0b", "\ud800", "x" * 10_000, "' OR 1=1--"):
        assert tasks.get_task(task_id) is None
        assert tasks.get_task_status(task_id) is None
        assert tasks.cancel_task(task_id) is False


@pytest.mark.parametrize(
    ("arguments", "field", "mend"),
    [
        ({"task_name": "diagnostics.self_test"}, "task_name", "did you mean diagnostics.run_self_test"),
        ({"task_type": "email"}, "task_type", "leave it out or correct it"),
        ({"task_type": "mail"}, "task_type", "expected one of email, report, analytics"),
        ({"params": {"step": 1}}, "params.step", "did you mean 'steps'"),
        ({"priority": 11}, "priority", r"expected a whole number from 1 \(last\) to 10 \(first\), got 11"),
        ({"priority": "5"}, "priority", "got '5'"),
        ({"priority": True}, "priority", "got True"),
        ({"max_retries": 1_001}, "max_retries", "expected 0–1000, got 1001"),
        ({"delay_s": -0.1}, "delay_s", "expected 0–316224000 seconds"),
        ({"delay_s": float("nan")}, "delay_s", "got nan"),
        ({"task_name": "email.send_alert", "params": {"alert_id": 10**30}}, "params.alert_id", "less than or equal"),
    ],
)
def test_what_is_wrong_is_named_and_leaves_no_row(
    refusing: None, arguments: dict[str, object], field: str, mend: str
) -> None:
    with pytest.raises(InvalidTask, match=mend) as caught:
        tasks.enqueue_task(**({"task_name": SELF_TEST} | arguments))  # type: ignore[arg-type]

    assert caught.value.field == field
    assert tasks.get_task_count() == 0


def test_an_unknown_name_is_its_own_kind_of_error(system: object) -> None:
    with pytest.raises(UnknownActor, match="see `callboard actors`"):
        tasks.enqueue_task("zzz")


def test_a_delay_of_zero_is_none(system: object) -> None:
    found = tasks.get_task(tasks.enqueue_task(SELF_TEST, delay_s=0.0))

    assert found is not None
    assert found.eta is None


def test_lists_and_counts_take_enums_and_text(system: object) -> None:
    first, second = (tasks.enqueue_task(SELF_TEST) for _ in range(2))
    tasks.cancel_task(first)

    for status in (TaskStatus.PENDING, "pending"):
        assert [row["task_id"] for row in tasks.list_tasks(status)] == [second]
    for task_type in (TaskType.HEALTH, "health"):
        assert tasks.get_task_count(task_type=task_type) == 2
    assert [row["task_id"] for row in tasks.list_tasks(limit=1, offset=1)] == [first]


@pytest.mark.parametrize(
    ("wanted", "mend"),
    [({"status": "done"}, "expected one of pending, running, completed, failed, cancelled; got 'done'"),
     ({"task_type": "mail"}, "expected one of email, report")],
)  # fmt: skip
def test_a_filter_that_does_not_exist_is_refused(system: object, wanted: dict[str, str], mend: str) -> None:
    for ask in (tasks.list_tasks, tasks.get_task_count):
        with pytest.raises(InvalidTask, match=mend):
            ask(**wanted)  # type: ignore[arg-type]


def test_a_running_task_is_asked_to_end(system: object) -> None:
    task_id = tasks.enqueue_task(SELF_TEST)
    with database.writing() as session:
        session.execute(update(Task).values(status=TaskStatus.RUNNING, attempt=1))

    assert tasks.request_cancel(task_id, by="Ada") is tasks.CancelOutcome.REQUESTED

    found = tasks.get_task(task_id)
    assert found is not None
    assert (found.status, found.reason) == (TaskStatus.RUNNING, "by Ada")
    assert found.cancel_requested_at is not None


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_a_task_that_has_ended_is_not_cancelled(system: object, status: TaskStatus) -> None:
    task_id = tasks.enqueue_task(SELF_TEST)
    with database.writing() as session:
        session.execute(update(Task).values(status=status))

    assert tasks.cancel_task(task_id) is False

    found = tasks.get_task(task_id)
    assert found is not None
    assert found.status == status


def test_with_the_database_gone_nothing_is_cancelled_and_it_says_so(system: object, tmp_path: object) -> None:
    task_id = tasks.enqueue_task(SELF_TEST)
    database.bind(f"sqlite:///{tmp_path}/nowhere/callboard.db")

    with pytest.raises(LedgerUnavailable, match=r"nothing was cancelled: .*set CALLBOARD_DATABASE_URL"):
        tasks.cancel_task(task_id)


def test_positional_parameters_are_shown_by_their_names(system: object) -> None:
    message = run_self_test.send(3, fail_at=2)

    found = tasks.get_task_status(message.message_id)
    assert found is not None
    assert found["params"] == {"steps": 3, "fail_at": 2}


def test_the_parameters_of_an_actor_that_is_gone_are_shown_by_position(system: object) -> None:
    message = run_self_test.send(3, fail_at=2)
    with database.writing() as session:
        session.execute(update(Task).values(task_name="retired.actor"))

    found = tasks.get_task_status(message.message_id)
    assert found is not None
    assert found["params"] == {"arg0": 3, "fail_at": 2}
