"""The event loop that runs `async def` actors, in a thread that cannot keep a dead process alive.

Dramatiq's own AsyncIO starts a thread that is no daemon: a worker process whose main thread ends early (a second
SIGTERM, an error in its shutdown) then never exits, and its other threads go on taking tasks.
"""

import dramatiq
from dramatiq.asyncio import EventLoopThread, set_event_loop_thread
from dramatiq.broker import Broker
from dramatiq.middleware import AsyncIO

START_TIMEOUT_S = 5.0


class EventLoop(AsyncIO):
    """Dramatiq's AsyncIO with a daemon thread."""

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """Start the loop."""
        thread = EventLoopThread(self.logger)
        thread.daemon = True
        thread.start(timeout=START_TIMEOUT_S)
        set_event_loop_thread(thread)
