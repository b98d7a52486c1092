"""Idempotency keys: while a task with one is pending or running, or for `unique_for`, the first task is returned."""

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dramatiq import Message, Worker
from sqlmodel import Session

from models import database, direct, task_moves
from models.task import new_task_id
from models.task_moves import NewTask
from tests import probes
from tests.servers import wait_until
from workers import tasks
from workers.errors import InvalidTask
from workers.registry import is_duplicate

pytestmark = pytest.mark.usefixtures("ledger_database", "bus")

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def send(key: str, **options: object) -> Message[object]:
    return probes.note.send_with_options(args=("/dev/null",), idempotency_key=key, **options)


def refuse(task_id: str) -> None:
    with direct.transaction() as to:
        assert task_moves.refuse(to, task_id, reason="r", error_type="E", error_message="m", now=NOW)


def test_a_second_send_returns_the_first_task_and_runs_nothing() -> None:
    first = send("order-1")

    second = send("order-1")

    assert (second.message_id, is_duplicate(second), is_duplicate(first)) == (first.message_id, True, False)
    assert tasks.get_task_count() == 1
    found = tasks.get_task(first.message_id)
    assert found is not None
    assert found.idempotency_key == "order-1"


def test_another_key_and_no_key_are_other_tasks() -> None:
    sent = {send("a").message_id, send("b").message_id, probes.note.send("/dev/null").message_id}

    assert len(sent) == 3


def test_once_its_task_has_ended_the_key_is_free_again() -> None:
    first = send("order-1")
    refuse(first.message_id)

    second = send("order-1")

    assert not is_duplicate(second)
    assert second.message_id != first.message_id
    assert is_duplicate(send("order-1"))


def test_a_key_is_held_for_unique_for_even_if_its_task_has_ended() -> None:
    first = send("order-1", unique_for=timedelta(hours=1))
    refuse(first.message_id)

    assert send("order-1", unique_for=3_600).message_id == first.message_id


def test_a_running_task_holds_its_key(worker: Worker, tmp_path: Path) -> None:
    paper = tmp_path / "evidence"
    first = probes.note.send_with_options(args=(str(paper), "ran", 1.0), idempotency_key="k")
    wait_until(lambda: probes.lines(paper), within_s=20, what="the start")

    assert is_duplicate(send("k"))
    wait_until(lambda: tasks.get_task_status(first.message_id)["status"] == "completed", within_s=20, what="end")  # type: ignore[index]  # it is there
    assert not is_duplicate(send("k"))


def test_after_unique_for_the_key_is_free() -> None:
    def made(at: datetime) -> NewTask:
        return NewTask(
            new_task_id(), "probes.note", "jobs", at, at, idempotency_key="k", unique_until=at + timedelta(hours=1)
        )

    first, soon, late = made(NOW), made(NOW + timedelta(minutes=59)), made(NOW + timedelta(minutes=61))
    with direct.transaction() as to:
        assert task_moves.accept_unique(to, first) == (True, first.task_id)
    refuse(first.task_id)

    with direct.transaction() as to:
        assert task_moves.accept_unique(to, soon) == (False, first.task_id)
        assert task_moves.accept_unique(to, late) == (True, late.task_id)
        assert task_moves.accept_unique(to, late) == (False, late.task_id)


def test_many_senders_of_one_key_get_one_task() -> None:
    keys = [f"key-{number}" for number in range(50)]
    barrier = threading.Barrier(8)
    answers: list[tuple[str, str, bool]] = []

    def sender() -> None:
        for key in keys:
            barrier.wait(30)
            message = send(key)
            answers.append((key, message.message_id, is_duplicate(message)))

    threads = [threading.Thread(target=sender) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert len(answers) == 8 * len(keys)
    assert len({(key, task_id) for key, task_id, _ in answers}) == len(keys)
    assert Counter(key for key, _, duplicate in answers if not duplicate) == dict.fromkeys(keys, 1)
    assert tasks.get_task_count() == len(keys)


def test_many_senders_that_take_over_the_key_of_an_ended_task_get_one_task() -> None:
    for number in range(15):
        refuse(send(f"key-{number}").message_id)
    barrier = threading.Barrier(8)
    fresh: list[str] = []

    def sender() -> None:
        for number in range(15):
            barrier.wait(30)
            message = send(f"key-{number}")
            if not is_duplicate(message):
                fresh.append(f"key-{number}")

    threads = [threading.Thread(target=sender) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert sorted(fresh) == sorted(f"key-{number}" for number in range(15))


def test_in_a_transaction_a_key_that_is_taken_breaks_nothing_and_one_rolled_back_is_free() -> None:
    first = send("taken")
    with Session(database.engine()) as session:
        second = probes.note.send_in_with_options(session, args=("/dev/null",), idempotency_key="taken")
        own = probes.note.send_in_with_options(session, args=("/dev/null",), idempotency_key="own")
        session.commit()
    with Session(database.engine()) as session:
        probes.note.send_in_with_options(session, args=("/dev/null",), idempotency_key="dropped")
        session.rollback()

    assert (second.message_id, is_duplicate(second)) == (first.message_id, True)
    assert is_duplicate(send("own"))
    assert tasks.get_task(own.message_id) is not None
    assert not is_duplicate(send("dropped"))


def test_among_many_those_with_a_taken_key_are_answered_in_their_place() -> None:
    first = send("a")
    many = [probes.note.message_with_options(args=("/dev/null",), idempotency_key=key) for key in ("b", "a", "b", "c")]

    sent = tasks.send_many([*many, probes.note.message("/dev/null")])

    assert sent[1] == first.message_id
    assert sent[2] == sent[0] == many[0].message_id
    assert sent[3] == many[3].message_id
    assert tasks.get_task_count() == 4


def test_enqueue_by_name_says_whether_it_is_a_duplicate() -> None:
    first = tasks.enqueue("probes.add", params={"left": 1, "right": 2}, idempotency_key="sum")
    second = tasks.enqueue("probes.add", params={"left": 1, "right": 2}, idempotency_key="sum", unique_for_s=60)

    assert [tasks.is_duplicate(first), tasks.is_duplicate(second)] == [False, True]
    assert tasks.enqueue_task("probes.add", params={"left": 1, "right": 2}, idempotency_key="sum") == first.message_id


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        ({"idempotency_key": ""}, "expected 1–200 storable characters"),
        ({"idempotency_key": "a\0"}, "expected 1–200 storable characters"),
        ({"idempotency_key": "x" * 201}, "expected 1–200 storable characters"),
        ({"idempotency_key": 7}, "expected 1–200 storable characters"),
        ({"unique_for": 5}, "expected an idempotency_key with it"),
        ({"idempotency_key": "k", "unique_for": 0}, "expected a timedelta or seconds, above 0"),
        ({"idempotency_key": "k", "unique_for": timedelta(days=400)}, "at most 31622400"),
    ],
)
def test_keys_that_are_none_are_refused(options: dict[str, object], mend: str) -> None:
    with pytest.raises(InvalidTask, match=mend):
        probes.note.send_with_options(args=("/dev/null",), **options)
