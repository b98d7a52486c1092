"""What a message is when it goes to the bus: its queue, its bytes, its time. Pure functions; nothing is sent here."""

from __future__ import annotations

import contextlib
from typing import Any, Final

from dramatiq import Message, get_encoder
from dramatiq.common import current_millis, q_name

_LONGEST_DELAY_MS: Final = 100 * 365 * 86_400_000


def dated(message: Message[Any], delay_ms: int | None) -> Message[Any]:
    """Returns the message with its canonical queue and, if delayed, an `eta` option, for whoever looks at it."""
    if delay_ms is not None:
        if not 0 <= delay_ms <= _LONGEST_DELAY_MS:
            raise ValueError(f"expected delay to be 0 to {_LONGEST_DELAY_MS} ms (100 years), got {delay_ms!r}")
        return message.copy(queue_name=q_name(message.queue_name), options={"eta": current_millis() + delay_ms})
    if message.queue_name.endswith((".DQ", ".XQ")):
        return message.copy(queue_name=q_name(message.queue_name))
    return message


def sendable(options: dict[str, Any]) -> dict[str, Any]:
    """Those of a message's options that can be encoded."""
    kept = {}
    for name, value in options.items():
        with contextlib.suppress(Exception):
            get_encoder().encode({name: value})
            kept[name] = value
    return kept


def encoded(message: Message[Any]) -> bytes:
    """As `message.encode()`, which looks its own fields up anew for every message, at the cost of the encoding."""
    if type(message) is not Message:
        return message.encode()
    return get_encoder().encode(
        {
            "queue_name": message.queue_name,
            "actor_name": message.actor_name,
            "args": message.args,
            "kwargs": message.kwargs,
            "options": message.options,
            "message_id": message.message_id,
            "message_timestamp": message.message_timestamp,
        }
    )


def when(message: Message[Any], delay_ms: int | None, arrived_us: int | None) -> str:
    """Returns when a message is to run, as `enqueue.lua` reads it.

    delay_ms: from now; None: at its `eta`, if it has one. arrived_us: when it first arrived; None: now.
    """
    if delay_ms is not None:
        return f"d{delay_ms * 1000}" if delay_ms > 0 else ""
    eta_ms = message.options.get("eta")
    if isinstance(eta_ms, int | float) and eta_ms > 0 and (arrived_us is None or eta_ms * 1000 > arrived_us):
        return f"e{int(min(eta_ms, 9e12)) * 1000}"
    return "" if arrived_us is None else f"a{arrived_us}"
