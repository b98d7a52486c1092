"""Notices of shutdown, for actors declared with `notify_shutdown`: Dramatiq's, inside the tasks' windows only."""

import threading

import dramatiq
from dramatiq.middleware import Shutdown
from dramatiq.middleware.shutdown import _ShutdownManager

from workers.runner.current import current_task
from workers.runner.window import windows


class _Tasks(_ShutdownManager):
    """The tasks that want to know."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_thread: dict[int, str] = {}

    def add_notification(self) -> None:
        task_id = current_task().id
        if task_id is not None:
            with self._lock:
                self._by_thread[threading.get_ident()] = task_id

    def remove_notification(self) -> None:
        if not self._by_thread:
            return
        with self._lock:
            self._by_thread.pop(threading.get_ident(), None)

    def shutdown(self) -> None:
        with self._lock:
            running = [*self._by_thread.values()]
        for task_id in running:
            windows.interrupt(task_id, Shutdown)


class ShutdownNotifications(dramatiq.middleware.ShutdownNotifications):
    """See the module's docstring."""

    def __init__(self) -> None:
        super().__init__(notify_shutdown=False)
        self.manager = _Tasks()
