"""One connection to the server of one tag, with our own rule of repeating. Knows scripts, not messages.

A line is used by one thread at a time. A call goes out, and if the answer is lost (connection gone, time-out, server
loading, replica after a failover) the line reconnects and *the same call goes out again*: that is safe because every
script is idempotent (by call number, claim number, or fence). How long to go on is the caller's: a deadline for who
sends, for ever for a worker's threads, until they are told to stop.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from threading import Event
from typing import Any, Protocol, cast

import redis
from hiredis import pack_command
from redis.exceptions import NoPermissionError, NoScriptError

from .backoff import Backoff, is_full, is_transient
from .connect import RedisClient, first_words_within
from .errors import BusFull, BusRefused, BusUnavailable
from .generation import GenerationWatch
from .script import Script, script

log = logging.getLogger(__name__)

Argument = str | bytes | int | float


class _Wire(Protocol):
    """What a line uses of redis-py's connection."""

    socket_timeout: float | None

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def send_command(self, *args: Argument, check_health: bool = ...) -> None: ...
    def send_packed_command(self, command: Sequence[bytes], check_health: bool = ...) -> None: ...
    def read_response(
        self, disable_decoding: bool = ..., *, timeout: float = ..., disconnect_on_error: bool = ...
    ) -> Any: ...
    def can_read(self, timeout: float = ...) -> bool: ...


class _Pool(Protocol):
    def get_connection(self) -> _Wire: ...
    def release(self, connection: _Wire) -> None: ...


class Stopped(Exception):
    """The caller was told to stop while a call had no answer. It may or may not have been executed."""


def pool_of(client: RedisClient, prefix: str) -> _Pool:
    """Returns the connection pool of the server that keeps the keys with that prefix."""
    if isinstance(client, redis.RedisCluster):
        node = client.get_node_from_key(prefix)
        if node is None:
            raise redis.ConnectionError(f"no node of the cluster keeps {prefix!r} at present")
        return cast("_Pool", cast("object", client.get_redis_connection(node).connection_pool))
    return cast("_Pool", cast("object", client.connection_pool))


class Line:
    """A connection that repeats.

    client, prefix: where the keys are.
    stop: when set, a call without an answer gives up (Stopped).
    backoff_cap_s: longest pause between two tries.
    watch: told the generation on every new connection; None: the line does not ask (who only sends needs not know).
    """

    def __init__(
        self,
        client: RedisClient,
        prefix: str,
        *,
        steps: tuple[int, int],
        stop: Event | None = None,
        watch: GenerationWatch | None = None,
        backoff_cap_s: float = 2.0,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._steps = steps  # clock offset and ageing: the first two arguments of every script
        self._stop = stop
        self._watch = watch
        self._backoff_cap_s = backoff_cap_s
        self._pool: _Pool | None = None
        self._wire: _Wire | None = None
        self._pid = os.getpid()
        self.is_idle = True
        """Whether no answer is awaited."""
        self.faults = 0
        self.tried_s = 0.0
        """When a call was last seen to be without an answer (monotonic clock): whoever waits for a server is alive."""

    def call(self, code: Script, *arguments: Argument, deadline_s: float | None = None) -> Any:
        """Runs a script, as often as it takes to get an answer.

        deadline_s: on the monotonic clock; None: no end but `stop`.

        Raises BusUnavailable past the deadline, BusFull and BusRefused at once, Stopped. Without a deadline (a worker's
        threads) a full server is waited for, and what redis-py raises comes through if waiting does not mend it.
        """
        backoff: Backoff | None = None
        while True:
            try:
                return self._evaluate(self._wire or self._ready_wire(deadline_s), code, arguments, deadline_s)
            except Exception as error:
                backoff = backoff or Backoff(cap_s=self._backoff_cap_s)
                self.faults += 1
                self.tried_s = time.monotonic()
                self._drop(error)
                if isinstance(error, redis.ResponseError) and "STALECALL" in str(error):
                    raise BusUnavailable("a later call of this thread was executed before this one") from error
                if deadline_s is not None:
                    if is_full(error):
                        raise BusFull(f"the Redis server is full and took nothing: {error}") from error
                    if not is_transient(error):
                        raise BusRefused(f"the Redis server refused {code.name}: {error}") from error
                elif not (is_transient(error) or is_full(error)):
                    raise
                pause_s = backoff.next_s()
                if pause_s == 0:
                    log.warning("No answer from the bus to %s, trying again: %s", code.name, error)
                if deadline_s is not None and time.monotonic() + pause_s >= deadline_s:
                    raise BusUnavailable(f"no answer from the Redis server in time: {error}") from error
                if self._stop is None:
                    time.sleep(pause_s)
                elif self._stop.wait(pause_s):
                    raise Stopped(f"told to stop while {code.name} had no answer: {error}") from error
            except BaseException as error:
                # An interrupt (time limit, shutdown) in the middle of a call: an answer may be on its way, and the next
                # call on this connection would take it for its own.
                self._drop(error)
                raise

    def ask(self, code: Script, *arguments: Argument) -> bool:
        """Sends a call and does not wait: `answer` reads what it brings. Only on a connection that is open.

        Returns whether it went out; if not, it may have all the same: repeat it, by `call`."""
        wire = self._wire
        if wire is None or self._pid != os.getpid():
            return False
        try:
            wire.send_packed_command([self._packed(code, arguments)], check_health=False)
        except BaseException as error:
            self._fail(error)
            if isinstance(error, Exception):
                return False
            raise
        self.is_idle = False
        return True

    def answer(self, patience_s: float | None) -> Any:
        """Reads the answer to `ask`. Returns None if it is not there in time: read again.

        patience_s: None: the connection's own; then an answer that does not come in time is lost.

        Raises what redis-py raises; the connection is given up then, and no answer is awaited any more."""
        try:
            wire = self._wire
            if wire is None:
                raise redis.ConnectionError("the connection was given up before there was an answer")
            if patience_s is None:
                answer = wire.read_response(disable_decoding=True)
            else:
                answer = wire.read_response(disable_decoding=True, timeout=patience_s, disconnect_on_error=False)
        except BaseException as error:
            if patience_s is not None and isinstance(error, redis.TimeoutError):
                return None
            self._fail(error)
            raise
        self.is_idle = True
        return answer

    def pop_token(
        self,
        keys: Sequence[str],
        timeout_s: float,
        abandoned: Callable[[], bool],
        *,
        due_s: float | None = None,
        poke: Callable[[], object] | None = None,
    ) -> tuple[bytes, bytes] | None:
        """Blocks until a token is in one of the lists `keys` (and takes it), or `timeout_s` have passed, or
        `abandoned()` is true (asked several times a second; the connection is then given up, and a token taken in that
        instant is lost: say `nudge` afterwards).

        due_s, poke: after so many seconds `poke()` is called, which must put a token into one of the lists.

        Returns the list that had a token, and the token; None if there was none. Raises what redis-py raises."""
        try:
            wire = self._ready_wire()
            wire.send_command("BLPOP", *keys, f"{max(timeout_s, 0.001):.3f}", check_health=False)
            now_s = time.monotonic()
            give_up_s = now_s + timeout_s + 5.0
            poke_s = give_up_s if due_s is None or poke is None else now_s + due_s
            while not wire.can_read(timeout=max(min(0.2, poke_s - now_s), 0.0)):
                self.tried_s = now_s = time.monotonic()
                if now_s >= poke_s and poke is not None:
                    poke()
                    poke_s = give_up_s
                if abandoned():
                    self._drop(None)
                    return None
                if now_s > give_up_s:
                    raise redis.TimeoutError(f"no answer to a blocking pop {timeout_s:.1f} s + 5 s after it was sent")
            answer = cast("list[bytes] | None", wire.read_response(disable_decoding=True))
            return None if answer is None else (answer[0], answer[1])
        except BaseException as error:
            self.faults += 1
            self._drop(error)
            raise

    def close(self) -> None:
        """Ends the connection. The line may be used again; it then opens another."""
        self._drop(None)

    def greet(self) -> None:
        """Asks which generation this is, on the present connection, and begins a new one if the data is gone."""
        wire = self._ready_wire()
        self._greet(wire)

    def _greet(self, wire: _Wire) -> None:
        if self._watch is None:
            return
        run_id = ""
        try:
            wire.send_command("INFO", "server", check_health=False)
            info = wire.read_response(disable_decoding=True)
            for row in cast("bytes", info).split(b"\r\n"):
                if row.startswith(b"run_id:"):
                    run_id = row[7:].decode()
        except NoPermissionError:
            pass  # then only an emptied server is noticed, not a restarted one
        code = script("generation")
        number, since_us = cast("tuple[int, int]", self._evaluate(wire, code, (run_id, self._watch.latest.number)))
        self._watch.seen(number, since_us)

    def _evaluate(
        self, wire: _Wire, code: Script, arguments: Sequence[Argument], deadline_s: float | None = None
    ) -> Any:
        wire.send_packed_command([self._packed(code, arguments)], check_health=False)
        try:
            if deadline_s is None:
                return wire.read_response(disable_decoding=True)
            # A server that hangs must not hold a sender for longer than it said, whatever the connection's patience.
            left_s = max(deadline_s - time.monotonic(), 0.001)
            patience_s = wire.socket_timeout
            timeout_s = left_s if patience_s is None else min(left_s, patience_s)
            return wire.read_response(disable_decoding=True, timeout=timeout_s)
        except NoScriptError:
            # A new server, or its scripts were flushed. EVAL runs and keeps the script in one trip.
            wire.send_command("EVAL", code.source, 1, self._prefix, *self._steps, *arguments, check_health=False)
            return wire.read_response(disable_decoding=True)

    def _packed(self, code: Script, arguments: Sequence[Argument]) -> bytes:
        # why not `send_command`: it looks at each argument twice, which takes longer than all else here.
        return pack_command(  # type: ignore[no-any-return]  # hiredis has no types
            ("EVALSHA", code.sha, 1, self._prefix, *self._steps, *arguments)  # type: ignore[arg-type]  # its stub says a tuple of one
        )

    def _ready_wire(self, deadline_s: float | None = None) -> _Wire:
        if self._pid != os.getpid():
            # Forked: the socket is the parent's. Forget it without a word on it.
            self._wire, self._pool, self._pid = None, None, os.getpid()
        if self._wire is not None:
            return self._wire
        if self._pool is None:
            self._pool = pool_of(self._client, self._prefix)
        with first_words_within(None if deadline_s is None else max(deadline_s - time.monotonic(), 0.001)):
            wire = self._pool.get_connection()
        try:
            self._greet(wire)
        except BaseException:  # why: an interrupt too must not leave a wire out of the pool.
            wire.disconnect()
            self._pool.release(wire)
            raise
        self._wire = wire
        return wire

    def _fail(self, error: BaseException) -> None:
        self.faults += 1
        self._drop(error)

    def _drop(self, error: BaseException | None) -> None:
        """Gives the connection up: after an error nobody knows which answer would come next."""
        self.is_idle = True
        wire, self._wire = self._wire, None
        if wire is not None and self._pool is not None:
            wire.disconnect()
            self._pool.release(wire)
        if isinstance(self._client, redis.RedisCluster):
            self._pool = None
            if error is not None:
                # The next connection asks again; while no node answers, that is what fails.
                with suppress(redis.RedisError, OSError):
                    self._client.nodes_manager.initialize()


class Lines:
    """Lines to be borrowed by whoever sends. As many as there are threads sending at the same time."""

    def __init__(self, client: RedisClient, prefix: str, *, steps: tuple[int, int]) -> None:
        self._make: Callable[[], Line] = lambda: Line(client, prefix, steps=steps)
        self._free: list[Line] = []
        self._pid = os.getpid()

    def take(self) -> Line:
        """A line for one thread, which gives it back."""
        if self._pid != os.getpid():
            self._free, self._pid = [], os.getpid()
        try:
            return self._free.pop()
        except IndexError:
            return self._make()

    def give_back(self, line: Line) -> None:
        """It is not used any more."""
        self._free.append(line)

    @contextmanager
    def borrow(self) -> Generator[Line]:
        """A line for the length of the block."""
        line = self.take()
        try:
            yield line
        finally:
            self.give_back(line)

    def close(self) -> None:
        """Ends all connections that nobody uses just now."""
        while self._free:
            self._free.pop().close()
