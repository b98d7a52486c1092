"""The Lua scripts, read from the files beside this module. Holds no call; `line.py` makes them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


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
    source = (here / "prelude.lua").read_bytes() + b"\n" + (here / f"{name}.lua").read_bytes()
    # SHA-1 is what EVALSHA names scripts by; nothing is protected by it.
    return Script(name, source, hashlib.sha1(source, usedforsecurity=False).hexdigest())
