"""What a child of the fork server does: one run of one isolated task.

It reads a request, runs the function in a window as a worker's thread does, and answers with frames: log lines and
progress while it runs, then one outcome, then it exits. A second thread watches the clock for the soft time limit, and
the socket: when the worker is gone, the child ends.

The memory limit is one of address space (RLIMIT_AS) beyond what the process has when the function starts.

Must not: decide anything about the task; the worker turns the outcome into an exception or a result.
"""

import contextlib
import gc
import importlib
import inspect
import logging
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from dramatiq.asyncio import EventLoopThread, set_event_loop_thread

from models import database
from workers import callboard
from workers.errors import ResultNotStorable
from workers.params import NotPlain, plain, secret_values
from workers.runner import current, log_format, wire
from workers.runner.surround import run_here, written_function
from workers.runner.task_logs import TaskLogHandler
from workers.runner.window import windows

REQUEST_MAX_BYTES = 256 * 1024 * 1024
_MIB = 1024 * 1024
_TICK_S = 0.1

_logger = logging.getLogger("callboard.isolated")


def run(connection: socket.socket) -> None:
    """Do it and exit; never returns."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        gc.enable()
        request = _read(connection)
        if request is not None:
            _serve(connection, request)
            code = 0
    except BaseException:  # why: nothing may return into the server's loop
        logging.getLogger("callboard.isolated").exception("an isolated child failed")
    finally:
        with contextlib.suppress(Exception):
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _read(connection: socket.socket) -> dict[str, Any] | None:
    frames = wire.Frames(REQUEST_MAX_BYTES)
    while data := connection.recv(65536):
        for request in frames.feed(data):
            return request
    return None


class _ToTheWorker:
    """The sink of a child."""

    waits = False

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, **content: Any) -> None:
        """Send a frame; a worker that is gone is no matter of ours."""
        data = wire.frame(**content)
        with self._lock, contextlib.suppress(OSError):
            self._connection.sendall(data)

    def log(self, task_id: str, attempt: int, level: str, line: str, at: datetime) -> None:
        """Pass it on."""
        self.send(log=[level, line, at.isoformat()])

    def progress(self, task_id: str, attempt: int, value: float, message: str | None) -> None:
        """Pass it on."""
        self.send(progress=[value, message])


def _serve(connection: socket.socket, request: dict[str, Any]) -> None:
    logging.basicConfig(level=request["log_level"])
    log_format.install(callboard.settings.log_format)
    logging.getLogger().addHandler(TaskLogHandler(request["task_log_level"]))
    sink = _ToTheWorker(connection)
    current.report_to(sink)
    if database.bound_url() != request["database_url"]:
        database.bind(request["database_url"])
    threading.Thread(target=_watch, args=(connection,), daemon=True).start()
    try:
        result = _result_of(request)
    except BaseException as error:  # why: whatever it is, the worker decides what it means
        if isinstance(error, MemoryError) and request["memory_limit_mb"] is not None:
            limit = request["memory_limit_mb"]
            mend = f"the task needed more than the {limit} MiB that memory_limit_mb allows it: raise it, or do less"
            error.args = (f"{mend} ({error})" if str(error) else mend,)
        sink.send(error=wire.describe(error))
        return
    sink.send(result=result)


def _result_of(request: dict[str, Any]) -> Any:
    if callboard.registry.find(request["actor"]) is None:
        importlib.import_module(request["module"])
    actor = callboard.registry.resolve(request["actor"])
    task = current.CurrentTask(**request["task"])
    current.enter(task)
    function = written_function(actor)
    task.log.hide(secret_values(function, tuple(request["args"]), request["kwargs"]))
    if inspect.iscoroutinefunction(function):
        loop = EventLoopThread(_logger)
        loop.daemon = True
        loop.start(timeout=5)
        set_event_loop_thread(loop)
    with _memory_limit(request["memory_limit_mb"]):
        result = run_here(task, function, tuple(request["args"]), request["kwargs"])
        try:
            return plain(result, what="the result", max_bytes=request["result_max_bytes"])
        except NotPlain as error:
            raise ResultNotStorable(str(error)) from None


@contextlib.contextmanager
def _memory_limit(megabytes: int | None) -> Iterator[None]:
    statm = Path("/proc/self/statm")
    if megabytes is None or not statm.exists():
        yield
        return
    present = int(statm.read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (present + megabytes * _MIB, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)  # why: to report a MemoryError takes memory


def _watch(connection: socket.socket) -> None:
    while True:
        ready, _, _ = select.select([connection], [], [], _TICK_S)
        try:
            gone = bool(ready) and not connection.recv(4096)
        except OSError:
            gone = True
        if gone:
            os._exit(1)
        windows.expire(time.monotonic())
