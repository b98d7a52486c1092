"""Notices of shutdown land in the tasks that asked for them, and nowhere else."""

import threading
import time
from typing import Any

import dramatiq
import pytest
from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Shutdown

from workers import callboard
from workers.middleware.shutdown import ShutdownNotifications
from workers.runner import current
from workers.runner.current import CurrentTask
from workers.runner.window import Window, windows


@pytest.mark.parametrize("notified", [True, False])
def test_a_task_that_asked_is_interrupted_when_the_worker_stops(notified: bool) -> None:
    middleware = ShutdownNotifications()
    worker: Any = dramatiq.Worker(callboard.broker)
    message = MessageProxy(
        Message(queue_name="jobs", actor_name="probes.add", args=(), kwargs={}, options={"notify_shutdown": notified})
    )
    token = current.enter(CurrentTask(id="t-1"))
    middleware.before_process_message(callboard.broker, message)

    def run(window: Window) -> str:
        stopping = threading.Thread(target=middleware.before_worker_shutdown, args=(callboard.broker, worker))
        stopping.start()
        stopping.join()
        return "untouched"

    if notified:
        with pytest.raises(Shutdown):
            windows.run("t-1", run, deadline_s=time.monotonic() + 10)
    else:
        assert windows.run("t-1", run) == "untouched"
    middleware.after_process_message(callboard.broker, message)
    middleware.before_worker_shutdown(callboard.broker, worker)
    current.leave(token)
