"""The queue between hub and threads: each parcel reaches one thread, and no free thread sleeps while one waits."""

import random
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from queue import Empty
from threading import Barrier, Event, Thread, get_ident

import dramatiq

from tests.workers.broker.conftest import wait_until
from workers.broker.bell import Bell
from workers.broker.look_ahead import LookAhead
from workers.broker.parcel import Delivery, Parcel
from workers.broker.work_queue import WorkQueue

THREADS = 8
FOR_EVER_S = 60.0
"""A thread that misses its wake-up sleeps for so long, and the test fails."""


def parcel(number: int) -> Parcel:
    message = dramatiq.Message(queue_name="q", actor_name="a", args=(), kwargs={}, options={}, message_id=str(number))
    delivery = Delivery(str(number), b"", 1, 0, "0", "q", "me")
    now_s = time.monotonic()
    return Parcel(message, delivery, priority=5, attempt=0, arrived_us=0, got_s=now_s, held_until_s=now_s + FOR_EVER_S)


def queue(need: Callable[[bool], None] = lambda _: None) -> WorkQueue:
    return WorkQueue(THREADS, look_ahead=LookAhead(THREADS), need=need, dropped=lambda _: None)


def threads(work: WorkQueue, run: Callable[[Parcel], None]) -> list[Thread]:
    """Worker threads, as Dramatiq's: until the queue is closed."""

    def loop() -> None:
        while True:
            try:
                run(work.get(timeout=FOR_EVER_S))
            except Empty:
                return
            work.task_done()

    started = [Thread(target=loop, daemon=True) for _ in range(THREADS)]
    for thread in started:
        thread.start()
    return started


@contextmanager
def hub(work: WorkQueue) -> Generator[None]:
    """Wakes threads for what is late, as the hub does."""
    ending = Event()

    def tick() -> None:
        while not ending.wait(0.005):
            work.wake_for_all(older_than_s=time.monotonic() - 0.001)

    thread = Thread(target=tick)
    thread.start()
    yield
    ending.set()
    thread.join()


def test_as_many_threads_run_as_there_are_tasks_that_wait() -> None:
    together = Barrier(THREADS, timeout=20.0)
    work = queue()
    started = threads(work, lambda _: together.wait() and None)

    with hub(work):
        for first in range(0, 5 * THREADS, THREADS):
            work.deliver([parcel(number) for number in range(first, first + THREADS)])
        work.join()
    work.close()
    for thread in started:
        thread.join(20.0)

    assert not together.broken
    assert not any(thread.is_alive() for thread in started)


def test_each_parcel_reaches_one_thread_and_none_is_left() -> None:
    got: list[str] = []
    chance = random.Random(7)
    work = queue()

    def run(one: Parcel) -> None:
        got.append(one.message_id)
        if chance.random() < 0.05:
            time.sleep(0.002)  # why: some tasks wait, so that threads become free in all orders

    started = threads(work, run)
    number = 0
    with hub(work):
        while number < 20_000:
            count = chance.choice([1, 1, 2, 5, 32])
            work.deliver([parcel(one) for one in range(number, number + count)])
            number += count
            if chance.random() < 0.3:
                time.sleep(0.0002)  # why: as above
        began_s = time.monotonic()
        work.join()
        waited_s = time.monotonic() - began_s
    work.close()
    for thread in started:
        thread.join(20.0)

    assert Counter(got) == Counter(str(one) for one in range(number))
    assert waited_s < FOR_EVER_S, "a wake-up was lost"
    assert not any(thread.is_alive() for thread in started)


def test_what_was_revoked_is_not_run_and_wakes_nobody_for_long() -> None:
    got: list[str] = []
    work = queue()
    work.deliver([parcel(1), parcel(2)])
    assert [one.message_id for one in work.revoke()] == ["1", "2"]
    started = threads(work, lambda one: got.append(one.message_id))

    work.deliver([parcel(3)])
    work.join()
    work.close()
    for thread in started:
        thread.join(20.0)

    assert got == ["3"]


def quick(work: WorkQueue) -> None:
    """As after many tasks of a microsecond."""
    for _ in range(64):
        work.look_ahead.record(1e-6)
    work.look_ahead.size(time.monotonic(), [])


def test_quick_tasks_that_come_together_are_run_by_one_thread() -> None:
    ran_by: list[int] = []
    work = queue()
    started = threads(work, lambda _: ran_by.append(get_ident()))
    wait_until(lambda: len(work._parked) == THREADS)
    quick(work)

    work.deliver([parcel(number) for number in range(20)])
    wait_until(lambda: len(ran_by) == 20)
    work.close()
    for thread in started:
        thread.join(20.0)

    assert len(set(ran_by)) == 1


def test_what_comes_behind_a_task_that_blocks_is_run_by_others_when_it_is_late() -> None:
    release, got = Event(), list[str]()
    work = queue()

    def run(one: Parcel) -> None:
        if one.message_id == "0":
            release.wait(20.0)
        got.append(one.message_id)

    started = threads(work, run)
    wait_until(lambda: len(work._parked) == THREADS)
    quick(work)
    work.deliver([parcel(number) for number in range(5)])
    wait_until(lambda: work.qsize() == 4)

    work.wake_for_all(older_than_s=time.monotonic() - 60)  # nothing is as late as that
    assert work.qsize() == 4
    work.wake_for_all()
    wait_until(lambda: len(got) == 4)
    release.set()
    work.join()
    work.close()
    for thread in started:
        thread.join(20.0)

    assert sorted(got[:4]) == ["1", "2", "3", "4"]
    assert got[4] == "0"


def test_a_ring_ends_one_wait_whether_it_comes_before_or_in_it() -> None:
    bell, heard = Bell(), list[bool]()
    bell.ring()
    bell.ring()

    assert bell.wait(0.0)
    assert not bell.wait(0.0)

    thread = Thread(target=lambda: heard.append(bell.wait(FOR_EVER_S)))
    thread.start()
    bell.ring()
    thread.join(20.0)
    assert heard == [True]
