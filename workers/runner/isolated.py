"""Runs a task in a child process of its own, which can be killed: by its hard time limit, a cancellation, its memory.

The worker's thread waits in its window, masked: an interrupt does not land in it, it kills the child. What came first
counts: an outcome that the child has sent is the outcome, even if it is killed a moment later.

    ask the fork server     it forks; a server that is not there or has ended is started (again)
    request →               actor, arguments, task, limits
    ← log, progress         passed on to this process's sink
    ← result | error        one of them, or none
    ← status                the child has ended; only now does the thread go on

A crash of the child, whenever: the status comes without an outcome, ChildDied. Of the fork server: the same, and its
children die with it. Of the worker: `workers.runner.fork_server` says how the children end.

A worker that stops (`stop`) ends the children that have outlasted its drain. Their threads wait for the process's end,
as those of other tasks do that outlast it: the status middleware hands the tasks back, and there is no outcome to tell.

The server is started before the first task where an actor is declared isolated, else with the first suspect.
"""

import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime
from typing import Any

import dramatiq

from models import database
from workers.errors import ChildDied, Interrupt, TimeLimitExceeded
from workers.runner import current, wire
from workers.runner.current import CurrentTask
from workers.runner.orders import FORK, I32, KILL, ORDER
from workers.runner.window import Window, windows

HARD_GRACE_S = 30.0
"""A child is killed this long after its soft time limit if the actor does not say."""
START_LIMIT_S = 60.0
"""How long the fork server may take until a child is forked; its first one waits for the actors' import."""
END_GRACE_S = 5.0
"""How long a child may take to exit after its outcome."""
_FRAME_OVERHEAD_BYTES = 1024 * 1024
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from workers.runner.fork_server import main; main(int(sys.argv[1]))"
)

_logger = logging.getLogger(__name__)


class Isolation:
    """The isolated tasks of this process, and their fork server.

    Args:
        result_max_bytes: bound of a result as JSON.
        task_log_level: of Python's logging, from which records are kept with the task.
    """

    def __init__(self, *, result_max_bytes: int, task_log_level: int = logging.INFO) -> None:
        self._result_max_bytes = result_max_bytes
        self._task_log_level = task_log_level
        self._lock = threading.Lock()
        self.stopped = threading.Event()
        """Set when the children of now are ended with their worker; those of later have another."""
        self._control: socket.socket | None = None
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the fork server, if it is not there; does not wait for it."""
        with self._lock:
            self._start()

    def stop(self) -> None:
        """End the fork server and with it every child: their tasks are somebody else's from here on."""
        with self._lock:
            self.stopped.set()
            self.stopped = threading.Event()
            self._stop()

    def run(
        self,
        actor: "dramatiq.Actor[..., Any]",
        module: str,
        task: CurrentTask,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run the actor's function in a child and wait for its end.

        Args:
            module: where the actor is declared; imported by a child that does not know the actor.

        Returns:
            The function's result as JSON's own types.

        Raises:
            ResultNotStorable: it returned something else.
            TimeLimitExceeded: the soft limit was reached in the child, or the hard one and it was killed.
            Cancelled: it was killed for it.
            ChildDied: it ended otherwise, by itself.
            BaseException: what the function raised, with ChildTraceback as its cause.
        """
        assert task.id is not None
        options = actor.options
        memory_limit_mb = options.get("memory_limit_mb")
        request = wire.frame(
            actor=actor.actor_name,
            module=module,
            args=list(args),
            kwargs=kwargs,
            task={
                "id": task.id,
                "attempt": task.attempt,
                "retry_count": task.retry_count,
                "correlation_id": task.correlation_id,
                "time_limit_s": task.time_limit_s,
                "fencing_token": task.fencing_token,
            },
            memory_limit_mb=memory_limit_mb,
            result_max_bytes=self._result_max_bytes,
            database_url=database.bound_url(),
            log_level=logging.getLogger().level,
            task_log_level=self._task_log_level,
        )

        def body(window: Window) -> Any:
            task.window = window
            return _Run(self, task, window, hard_limit_s=_hard_limit_s(options, task)).outcome(request)

        return windows.run(task.id, body)

    def fork(self, data: socket.socket, status_fd: int) -> None:
        """Have a child forked that gets `data`; its pid and wait status come through the pipe `status_fd`."""
        with self._lock:
            for is_last in (False, True):
                control = self._start()
                try:
                    socket.send_fds(control, [ORDER.pack(FORK, 0)], [data.fileno(), status_fd])
                except OSError:
                    self._stop()
                    if is_last:
                        raise
                else:
                    return

    def kill(self, pid: int) -> None:
        """Have a child killed, if it still runs."""
        with self._lock, contextlib.suppress(OSError):
            if self._control is not None:
                self._control.sendall(ORDER.pack(KILL, pid))

    @property
    def frame_max_bytes(self) -> int:
        """Bound of what a child says at once."""
        return self._result_max_bytes * 6 + _FRAME_OVERHEAD_BYTES  # why 6: JSON's escapes

    def _start(self) -> socket.socket:
        if self._server is not None and self._server.poll() is not None:
            self._stop()
        if self._control is not None:
            return self._control
        ours, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs.fileno()), json.dumps(sys.path)],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._control = ours
        return ours

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._server is not None:
            try:
                self._server.wait(timeout=END_GRACE_S)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        self._control = self._server = None


class _Run:
    """One child and the thread that waits for it."""

    def __init__(self, isolation: Isolation, task: CurrentTask, window: Window, *, hard_limit_s: float | None) -> None:
        self._isolation = isolation
        self._task = task
        self._window = window
        self._hard_limit_s = hard_limit_s
        self._worker_stopped = isolation.stopped
        self._frames = wire.Frames(isolation.frame_max_bytes)
        self._pid = 0
        self._status: int | None = None
        self._answer: dict[str, Any] | None = None

    def outcome(self, request: bytes) -> Any:
        """Fork, ask, wait for the end, and say what came of it."""
        with windows.waiting(self._kill):
            killed_for = self._until_ended(request)
            killed_for = self._window.take_held() or killed_for
        answer = self._answer
        if answer is not None and "result" in answer:
            return answer["result"]
        if answer is not None:
            raise wire.rebuild(answer["error"])
        if killed_for is TimeLimitExceeded:
            raise TimeLimitExceeded(f"the child process was killed at the hard limit of {self._hard_limit_s:g} s")
        if killed_for is not None:
            raise killed_for("the task was cancelled while it ran: its child process was killed")
        if self._worker_stopped.is_set():
            _logger.info(
                "the isolated child of task %s ended with its worker, and the task is handed back", self._task.id
            )
            threading.Event().wait()  # why for ever: see the module's docstring; the thread is a daemon
        raise _died(self._status)

    def _until_ended(self, request: bytes) -> type[Interrupt] | None:
        """Returns for what the hard limit had it killed, if it did."""
        ours, theirs = socket.socketpair()
        status_read, status_write = os.pipe()
        deadline_s: float | None = time.monotonic() + START_LIMIT_S
        killed_for: type[Interrupt] | None = None
        try:
            with theirs:
                try:
                    self._isolation.fork(theirs, status_write)
                except OSError as error:
                    raise ChildDied(f"the fork server of isolated tasks cannot be started: {error}") from error
                finally:
                    os.close(status_write)
            with selectors.DefaultSelector() as selector:
                selector.register(status_read, selectors.EVENT_READ)
                while True:
                    wait_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
                    ready = {key.fd for key, _ in selector.select(wait_s)}
                    if ours.fileno() in ready:
                        if not self._listen(ours):
                            selector.unregister(ours)
                        elif self._answer is not None and killed_for is None:
                            deadline_s = min(deadline_s or 1e99, time.monotonic() + END_GRACE_S)
                    elif status_read in ready:
                        told = os.read(status_read, I32.size)
                        if not told or self._pid:
                            self._status = I32.unpack(told)[0] if told else None
                            return killed_for
                        (self._pid,) = I32.unpack(told)
                        deadline_s = None if self._hard_limit_s is None else time.monotonic() + self._hard_limit_s
                        selector.register(ours, selectors.EVENT_READ)
                        self._ask(ours, request)
                        if self._window.is_held:  # why: it came before there was a pid to kill
                            self._kill()
                    elif deadline_s is not None and time.monotonic() >= deadline_s:
                        if not self._pid:  # why not killed: one that is forked late finds its socket closed, and ends
                            raise ChildDied(f"the fork server of isolated tasks forked no child in {START_LIMIT_S:g} s")
                        deadline_s, killed_for = None, TimeLimitExceeded
                        self._kill()
        finally:
            ours.close()
            os.close(status_read)

    def _ask(self, ours: socket.socket, request: bytes) -> None:
        with contextlib.suppress(OSError):  # why: a child that is gone has a status, which says more
            ours.sendall(request)

    def _listen(self, ours: socket.socket) -> bool:
        """Take what the child says; False once it says nothing more."""
        try:
            data = ours.recv(65536)
            frames = self._frames.feed(data)
        except (OSError, ValueError) as error:
            _logger.error("the isolated child of task %s is killed: %s", self._task.id, error)
            self._kill()
            return False
        for said in frames:
            if "log" in said:
                level, line, at = said["log"]
                current.pass_on_log(self._task, level, line, datetime.fromisoformat(at))
            elif "progress" in said:
                current.pass_on_progress(self._task, *said["progress"])
            else:
                self._answer = said
        return bool(data)

    def _kill(self) -> None:
        if self._pid:
            self._isolation.kill(self._pid)


def _hard_limit_s(options: dict[str, Any], task: CurrentTask) -> float | None:
    if "hard_time_limit" in options:
        return float(options["hard_time_limit"]) / 1000
    return None if task.time_limit_s is None else task.time_limit_s + HARD_GRACE_S


def _died(status: int | None) -> ChildDied:
    if status is None:
        return ChildDied(
            "the fork server of isolated tasks ended, and the task's child process with it; or it could fork none, for "
            "want of processes, memory or file descriptors"
        )
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return ChildDied(f"the task's child process exited with code {code} in mid-task", exit_code=code)
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (perhaps the machine was out of memory)" if -code == signal.SIGKILL else ""
    return ChildDied(f"the task's child process was killed by {name} in mid-task{hint}", signal_number=-code)
