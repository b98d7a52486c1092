"""Notices of shutdown, for actors declared with `notify_shutdown`: Dramatiq's, inside the tasks' windows only."""

import threading

import dramatiq
from dramatiq.broker import Broker, MessageProxy
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
        self._actors_want = False

    def before_declare_actor(self, broker: Broker, actor: "dramatiq.Actor[..., object]") -> None:
        """Remember whether any actor wants to know."""
        self._actors_want = self._actors_want or bool(actor.options.get("notify_shutdown"))

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Note a task that wants to know; nearly always there is none."""
        if self._actors_want or "notify_shutdown" in message.options:
            super().before_process_message(broker, message)  # type: ignore[no-untyped-call]  # Dramatiq's
