"""What is put around an actor's function: where it runs, and the window in which it may be interrupted.

    called directly, or from within a task     in place; an `async def` by asyncio.run
    by a worker                                in this thread, in a window; an `async def` on the event loop
    … declared isolated=True, or suspected     in a child process, while this thread waits in its window
      of killing workers (`alone`)

The function's exceptions, results and interrupts come through unchanged.
"""

import asyncio
import functools
import inspect
import time
from collections.abc import Callable
from typing import Any

import dramatiq

from workers.params import as_secrets
from workers.registry import CallboardActor
from workers.runner import coroutines
from workers.runner.current import CurrentTask, current_task
from workers.runner.isolated import Isolation
from workers.runner.window import Window, windows


class Surrounded:
    """Takes the place of an actor's `fn`.

    written: the function as it was written.
    """

    def __init__(self, actor: "dramatiq.Actor[..., Any]", isolation: Isolation) -> None:
        self._actor = actor
        self._isolation = isolation
        self.written = written_function(actor)
        self._is_coroutine_function = inspect.iscoroutinefunction(self.written)
        functools.update_wrapper(self, self.written)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function; see the module's docstring."""
        task = current_task()
        if task.id is None or task.window is not None:
            return _in_place(self.written, args, kwargs)
        try:
            return self._run(task, args, kwargs)
        finally:
            task.flush_log()

    def _run(self, task: CurrentTask, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if task.alone or self._actor.options.get("isolated"):
            return self._isolation.run(self._actor, self.written.__module__, task, args, kwargs)
        run = run_coroutine_here if self._is_coroutine_function else run_function_here
        return run(task, self.written, args, kwargs)


def written_function(actor: "dramatiq.Actor[..., Any]") -> Callable[..., Any]:
    """The function that was declared, with its own decorators, and without Dramatiq's and ours."""
    if isinstance(actor.fn, Surrounded):
        return actor.fn.written
    if isinstance(actor, CallboardActor):
        return actor.function
    awaited: Callable[..., Any] | None = getattr(actor.fn, "__wrapped__", None)
    is_bridge = getattr(actor.fn, "__code__", None) is _BRIDGE_CODE
    return awaited if is_bridge and awaited is not None else actor.fn


def run_here(task: CurrentTask, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run it in this thread's window, for the task, which is the current one."""
    run = run_coroutine_here if inspect.iscoroutinefunction(function) else run_function_here
    return run(task, function, args, kwargs)


def run_function_here(
    task: CurrentTask, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """As `run_here`, of a `def`."""
    args, kwargs = as_secrets(function, args, kwargs)

    def body(window: Window) -> Any:
        task.window = window
        return function(*args, **kwargs)

    return windows.run(_id_of(task), body, deadline_s=_deadline_s(task))


def run_coroutine_here(
    task: CurrentTask, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """As `run_here`, of an `async def`."""
    args, kwargs = as_secrets(function, args, kwargs)

    def body(window: Window) -> Any:
        task.window = window
        return coroutines.run(function(*args, **kwargs), window)

    return windows.run(_id_of(task), body, deadline_s=_deadline_s(task))


def _id_of(task: CurrentTask) -> str:
    assert task.id is not None
    return task.id


def _deadline_s(task: CurrentTask) -> float | None:
    return None if task.time_limit_s is None else time.monotonic() + task.time_limit_s


def _in_place(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    args, kwargs = as_secrets(function, args, kwargs)
    if not inspect.iscoroutinefunction(function):
        return function(*args, **kwargs)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(function(*args, **kwargs))
    raise RuntimeError("an async actor cannot be called from a coroutine: await its `function`, or send it")


async def _nothing() -> None: ...


_BRIDGE_CODE = dramatiq.asyncio.async_to_sync(_nothing).__code__
"""By it the wrapper is known that Dramatiq puts around an `async def`."""
