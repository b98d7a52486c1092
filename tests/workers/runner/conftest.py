"""Running an actor's function as a worker's thread does, without a broker."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import dramatiq
import pytest
from dramatiq.asyncio import get_event_loop_thread, set_event_loop_thread

from workers import callboard
from workers.middleware.event_loop import EventLoop
from workers.middleware.surround import Surround
from workers.runner import current
from workers.runner.current import CurrentTask
from workers.runner.isolated import Isolation


class Notes:
    """A sink that remembers."""

    waits = False

    def __init__(self) -> None:
        self.lines: list[tuple[str, int, str, str]] = []
        self.values: list[tuple[str, int, float, str | None]] = []

    def log(self, task_id: str, attempt: int, level: str, line: str, at: datetime) -> None:
        """Remember."""
        assert at.tzinfo is not None
        self.lines.append((task_id, attempt, level, line))

    def progress(self, task_id: str, attempt: int, value: float, message: str | None) -> None:
        """Remember."""
        self.values.append((task_id, attempt, value, message))


@pytest.fixture
def notes() -> Iterator[Notes]:
    """What tasks report during the test."""
    sink = Notes()
    before = current.report_to(sink)
    yield sink
    current.report_to(before)


@contextmanager
def as_task(task: CurrentTask) -> Iterator[CurrentTask]:
    """Inside, this is the current task: what the status middleware does for a claimed attempt."""
    token = current.enter(task)
    try:
        yield task
    finally:
        current.leave(token)


@pytest.fixture
def event_loop() -> Iterator[None]:
    """The event loop of a worker."""
    middleware = EventLoop()
    middleware.before_worker_boot(callboard.broker, dramatiq.Worker(callboard.broker))
    yield
    host = get_event_loop_thread()
    assert host is not None
    host.stop()
    set_event_loop_thread(None)


@pytest.fixture(scope="session")
def isolation() -> Iterator[Isolation]:
    """The process's isolation, its server warm for all tests."""
    middleware = next(one for one in callboard.broker.middleware if isinstance(one, Surround))
    middleware.isolation.start()
    yield middleware.isolation
    middleware.isolation.stop()
