"""The queue between hub and threads: each parcel reaches one thread, and no free thread sleeps while one waits."""

import random
import time
from collections import Counter
from collections.abc import Callable
from queue import Empty
from threading import Barrier, Thread

import dramatiq

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


def test_as_many_threads_run_as_there_are_tasks_that_wait() -> None:
    together = Barrier(THREADS, timeout=20.0)
    work = queue()
    started = threads(work, lambda _: together.wait() and None)

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
    assert [one.message_id for one in work.revoke(time.monotonic() + 1)] == ["1", "2"]
    started = threads(work, lambda one: got.append(one.message_id))

    work.deliver([parcel(3)])
    work.join()
    work.close()
    for thread in started:
        thread.join(20.0)

    assert got == ["3"]
