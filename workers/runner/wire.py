"""What a worker and its isolated child say to each other: frames of JSON, and exceptions as JSON.

A frame is four bytes of length and a JSON object. An exception travels as the names of its class and its bases, its
arguments and its attributes as far as JSON holds them, its text, and its traceback as text. It is made again from the
first of those classes that this process has loaded and that gives the same text; nothing is imported, no constructor of
it is called.

Must not: know processes or tasks.
"""

import json
import struct
import sys
import traceback
from typing import Any

from models.text import words_of

TRACEBACK_MAX_CHARS = 16 * 1024
TEXT_MAX_CHARS = 16 * 1024
ARGUMENTS_MAX_CHARS = 64 * 1024
_LENGTH = struct.Struct("!I")


class FrameTooBig(ValueError):
    """A frame that announces more bytes than the reader takes."""


def frame(**content: Any) -> bytes:
    """A frame with this content, which JSON must hold."""
    data = json.dumps(content, separators=(",", ":")).encode()
    return _LENGTH.pack(len(data)) + data


class Frames:
    """Puts frames together again from what a socket gives.

    Args:
        max_bytes: of one frame.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The frames that are complete now; raises FrameTooBig."""
        self._buffer += data
        found: list[dict[str, Any]] = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > self._max_bytes:
                raise FrameTooBig(f"a frame of {length:,} bytes, more than the {self._max_bytes:,} allowed")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            found.append(json.loads(bytes(self._buffer[_LENGTH.size : end])))
            del self._buffer[:end]
        return found


class ChildTraceback(Exception):
    """The traceback of an exception in an isolated child, as the cause of the one that was made from it."""


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as JSON's own types, bounded."""
    bases = [[one.__module__, one.__qualname__] for one in type(error).__mro__ if issubclass(one, BaseException)]
    lines = "".join(traceback.format_exception(error, limit=-30))
    # why reduce: an OSError keeps its file names beside its `args`.
    given = error.__reduce__()[1] if isinstance(error, OSError) else error.args
    arguments, state = [_kept(value) for value in given], {k: _kept(v) for k, v in vars(error).items()}
    if len(json.dumps([arguments, state])) > ARGUMENTS_MAX_CHARS:
        arguments, state = [_text(error)], {}
    return {
        "bases": bases,
        "args": arguments,
        "state": state,
        "text": _text(error),
        "traceback": lines[-TRACEBACK_MAX_CHARS:],
    }


def rebuild(described: dict[str, Any]) -> BaseException:
    """The exception again, its traceback as its cause."""
    name, text = described["bases"][0][1].rpartition(".")[2], described["text"]
    for number, (module, qualname) in enumerate(described["bases"]):
        found = _class(module, qualname)
        if found is None:
            continue
        error = _make(found, described["args"], described["state"], text)
        if error is None:
            said = text if number == 0 else f"{name}: {text}"
            error = _make(found, [said], {}, said)
        if error is not None:
            error.__cause__ = ChildTraceback("in the isolated child:\n" + described["traceback"])
            return error
    return RuntimeError(f"{name}: {text}")


def _make(kind: type[BaseException], args: list[Any], state: dict[str, Any], text: str) -> BaseException | None:
    try:
        error = kind.__new__(kind, *args)
        if not isinstance(error, OSError):
            error.args = tuple(args)
        error.__dict__.update(state)
        same = _text(error) == text
    except Exception:  # why: whatever a class of a task's own does in __new__ or __str__, its base is tried next
        return None
    return error if same else None


def _class(module: str, qualname: str) -> type[BaseException] | None:
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _kept(value: Any) -> Any:
    """The value if JSON gives it back unchanged, else its text."""
    try:
        return value if json.loads(json.dumps(value, allow_nan=False)) == value else repr(value)[:TEXT_MAX_CHARS]
    except (TypeError, ValueError, RecursionError):
        return repr(value)[:TEXT_MAX_CHARS]


def _text(error: BaseException) -> str:
    return words_of(error)[:TEXT_MAX_CHARS]
