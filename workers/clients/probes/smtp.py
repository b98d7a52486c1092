"""SMTP: greeting, EHLO, QUIT (RFC 5321 §4.1.1). No mail, no login.

By streams and not by smtplib, whose time-out is of each read: a server that sends a byte now and then would hold it for
hours. Here the whole conversation has a deadline.
"""

import asyncio
from contextlib import suppress
from typing import Final

from workers.clients.probes.target import Down, host_and_port

_LINE_MAX_BYTES: Final = 4_096
_MOST_LINES: Final = 100


async def ask(target: str, timeout_s: float) -> None:
    """Raises Down, OSError, TimeoutError; PermanentError: the target is none."""
    host, port = host_and_port(target)
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(host, port, limit=_LINE_MAX_BYTES)
    try:
        await _expect(reader, "220", timeout_s)
        writer.write(b"EHLO callboard.localhost\r\n")
        await _expect(reader, "250", timeout_s)
        writer.write(b"QUIT\r\n")
        with suppress(OSError):  # why: it has answered; how it takes leave is its own affair.
            await writer.drain()
    finally:
        writer.close()


async def _expect(reader: asyncio.StreamReader, code: str, timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        for _ in range(_MOST_LINES):
            try:
                line = await reader.readline()
            except ValueError:
                break  # why: a line without end
            said = line.decode("ascii", "replace").strip()
            if not said.startswith(code):
                raise Down(f"it answered {said[:200]!a}, expected {code}")
            if said[3:4] != "-":
                return
    raise Down(f"its answer has no end, expected {code}")
