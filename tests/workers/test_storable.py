"""What tasks take, say and return, through the real worker and both databases and back through `workers.tasks`."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from models import database, task_query
from models.task import TERMINAL, TaskStatus
from tests import probes
from tests.servers import wait_until
from workers import callboard, tasks
from workers.errors import InvalidTask

pytestmark = pytest.mark.usefixtures("ledger_database", "worker")
HOSTILE = "a\x00b \ud800 \udfff \\u0000 🧯 ' \" ü"
ESCAPED = "a\\u0000b \\ud800 \\udfff \\u0000 🧯 ' \" ü"


@pytest.fixture(autouse=True)
def unlogged() -> Iterator[None]:
    """No log is captured: pytest-xdist cannot carry the lone surrogates that Dramatiq logs with the exception."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def ended(task_id: str) -> dict[str, Any]:
    """The task once it has ended."""

    def status() -> TaskStatus:
        found = tasks.get_task_status(task_id)
        assert found is not None
        return TaskStatus(found["status"])

    wait_until(lambda: status() in TERMINAL, within_s=20, what=f"the end of {task_id}")
    found = tasks.get_task_status(task_id)
    assert found is not None
    return found


def test_a_result_that_cannot_be_stored_fails_its_task_and_not_its_neighbours() -> None:
    """Trap 16: stock Dramatiq's Results only logs a line, and the sender waits for ever. Trap 28: a naive group commit
    fails its whole batch for one bad row."""
    kinds = [*probes.UNFIT, "endless"]
    bad = {kind: probes.unfit.send(kind).message_id for kind in kinds}
    good = [probes.echo.send(number).message_id for number in range(20)]

    found = {kind: ended(task_id) for kind, task_id in bad.items()}

    assert {(one["status"], one["reason"], one["result"]) for one in found.values()} == {
        ("failed", "result not storable", None)
    }
    assert "the result cannot be written as JSON at rows[0] (nan is not" in found["NaN"]["error_message"]
    assert "300,002 bytes as JSON, more than the 262,144 allowed" in found["too large"]["error_message"]
    assert "nested deeper than 100 levels" in found["endless"]["error_message"]
    assert [(one["status"], one["result"]) for one in map(ended, good)] == [("completed", n) for n in range(20)]


def test_typed_values_come_back_as_documented() -> None:
    found = ended(probes.order.send("2026-11-22T12:00:00+01:00").message_id)

    assert found["result"] == [
        {"number": "00000000-0000-0000-0000-000000000007", "price": "12.50", "at": "2026-11-22T12:00:00+01:00",
         "status": "job"},
    ]  # fmt: skip


def test_parameters_and_results_keep_nul_and_lone_surrogates() -> None:
    """Trap 21: PostgreSQL's jsonb and text refuse both, and the sender would get a driver's error."""
    value = {"text": HOSTILE, HOSTILE: [HOSTILE]}

    found = ended(probes.echo.send(value).message_id)

    assert (found["status"], found["result"]) == ("completed", value)
    assert found["params"] == {"value": value}


def test_what_a_task_says_is_kept_with_nul_and_lone_surrogates_escaped() -> None:
    """Trap 21, in columns of text: error, traceback, progress and log lines."""
    task_id = probes.speak.send(HOSTILE).message_id

    found = ended(task_id)
    with database.reading() as session:
        lines = [line.message for line in task_query.logs(session, task_id)]
        attempt = task_query.attempts(session, task_id)[0]

    assert (found["status"], found["error_message"], found["progress_message"]) == ("failed", ESCAPED, ESCAPED)
    assert lines == [ESCAPED]
    assert attempt.error_message == ESCAPED
    assert "a\\u0000b" in (attempt.traceback or "")


def test_an_error_that_no_server_can_store_as_it_is_holds_up_no_acknowledgement() -> None:
    ended(probes.speak.send(HOSTILE).message_id)
    ended(probes.echo.send("its neighbour").message_id)

    wait_until(lambda: callboard.broker.depth("jobs").live == 0, within_s=10, what="both to be acknowledged")


@pytest.mark.parametrize("option", [{"tags": [HOSTILE]}, {"correlation_id": HOSTILE}], ids=lambda one: next(iter(one)))
def test_tags_and_correlation_ids_are_text_that_people_can_type(option: dict[str, Any]) -> None:
    with pytest.raises(InvalidTask, match=f"^{next(iter(option))}: expected .*text") as raised:
        tasks.enqueue_task("probes.echo", params={"value": 1}, **option)

    assert raised.value.field == next(iter(option))
    assert str(raised.value).encode(), "the error itself can be shown"
    assert tasks.get_task_count() == 0


def test_tags_and_correlation_ids_of_any_language_are_kept() -> None:
    tags, correlation_id = ["Nächte 🧯", "\\u0000", "'\""], "Übung/1 🧯"

    found = ended(tasks.enqueue_task("probes.echo", params={"value": 1}, tags=tags, correlation_id=correlation_id))

    assert (found["tags"], found["correlation_id"]) == (tags, correlation_id)


def test_what_holds_nul_can_be_listed_and_cancelled() -> None:
    task_id = tasks.enqueue_task("probes.echo", params={"value": HOSTILE}, delay_s=600)

    assert tasks.list_tasks()[0]["params"] == {"value": HOSTILE}
    assert tasks.cancel_task(task_id, by=HOSTILE)
    assert ended(task_id)["status"] == "cancelled"


def test_an_error_whose_own_str_raises_fails_its_task_like_any_other() -> None:
    for actor in (probes.fall_silent, probes.fall_silent_alone):
        found = ended(actor.send().message_id)

        assert (found["status"], found["error_type"]) == ("failed", "Speechless")
        assert "cannot be shown" in found["error_message"]
    wait_until(lambda: callboard.broker.depth("jobs").live == 0, within_s=10, what="both to be acknowledged")
