"""The Lua scripts, read from the files beside this module. Holds no call; `line.py` makes them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

_BEFORE_PRELUDE: Final = {"enqueue": ("enqueue_one",)}
"""Script → a short way through it that does without the prelude, whose thirty functions are made anew in each call."""


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its name (the file's, without `.lua`), its source with the prelude in front, and its SHA-1."""

    name: str
    source: bytes
    sha: str


@cache
def script(name: str) -> Script:
    """Returns the script of that name. Raises FileNotFoundError if there is no such file."""
    here = files(__package__ or __name__)
    parts = [*_BEFORE_PRELUDE.get(name, ()), "prelude", name]
    source = b"\n".join((here / f"{part}.lua").read_bytes() for part in parts)
    # SHA-1 is what EVALSHA names scripts by; nothing is protected by it.
    return Script(name, source, hashlib.sha1(source, usedforsecurity=False).hexdigest())
