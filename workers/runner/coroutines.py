"""Runs an `async def` actor: on the process's event loop, while the actor's thread waits for its end.

An interrupt cancels the coroutine, and the thread goes on only when the coroutine has ended, however long its clean-up
takes (Dramatiq goes on after a second while the coroutine still runs: its outcome and a retry then overlap). What the
coroutine comes to counts: a CancelledError becomes the interrupt, a result or another exception stays what it is.

Concurrency is the number of worker threads: each holds one coroutine. The context (`current_task()`) goes along.
"""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from dramatiq.asyncio import get_event_loop_thread

from workers.runner.window import Window, windows


def run(coroutine: Coroutine[Any, Any, Any], window: Window) -> Any:
    """Run it to its end inside this thread's window.

    Raises:
        Interrupt: it was interrupted, and has ended.
        RuntimeError: the process has no event loop.
    """
    host = get_event_loop_thread()
    if host is None or not host.loop.is_running():
        coroutine.close()
        raise RuntimeError("an async actor needs the process's event loop: run it in a worker (`dramatiq workers`)")
    loop = host.loop
    running: list[asyncio.Task[Any]] = []
    ended = threading.Event()

    def start() -> None:
        running.append(loop.create_task(coroutine))
        running[0].add_done_callback(lambda _: ended.set())
        if window.is_held:  # why: the interrupt came before there was anything to cancel
            running[0].cancel()

    def cancel() -> None:
        if running:
            running[0].cancel()

    with windows.waiting(lambda: _on_loop(loop, cancel)):
        loop.call_soon_threadsafe(start)
        ended.wait()
        held = window.take_held()
    try:
        return running[0].result()
    except asyncio.CancelledError:
        # why requested: an interrupt that arrived twice may have been taken by `checkpoint` meanwhile.
        interrupt = held or window.requested
        if interrupt is None:
            raise RuntimeError("the coroutine cancelled itself") from None
        raise interrupt from None
    finally:
        running.clear()  # why: the exception's traceback would keep the task, and the task the exception.


def _on_loop(loop: asyncio.AbstractEventLoop, call: Any) -> None:
    if loop.is_running():
        loop.call_soon_threadsafe(call)
