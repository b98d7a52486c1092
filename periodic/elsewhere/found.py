"""What was found, and the comment that accepts it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

MAX_SHOWN_CHARS = 100
MARK = "# callboard: also-scheduled WHY"
_MARK = re.compile(r"(?:#|/\*|//)\s*callboard:\s*also-scheduled\b[\s:]*(?P<why>[^\s*}][^*}]*)?")
_COMMENT = re.compile(r"\s*(?:#|//|\{\{-?\s*/\*)")


@dataclass(frozen=True)
class Hit:
    """A job of another scheduler.

    Args:
        line: from 1.
        kind: what schedules it, for people.
        name: what it is called there, or what it runs.
        about: the text in which an actor's name may stand.
        path: as the tree was given.
        has_empty_mark: whether it is marked as accepted, but without a reason.
    """

    line: int
    kind: str
    name: str
    about: str
    path: str = ""
    has_empty_mark: bool = False

    @property
    def place(self) -> str:
        """`file:line`."""
        return f"{self.path}:{self.line}"


@dataclass
class Found:
    """hits: in the order of files and lines. warnings: what could not be looked at. problems: why the search is not
    complete. files: how many were considered."""

    hits: list[Hit] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    files: int = 0


def mark_of(lines: Sequence[str], line: int) -> str | None:
    """The reason in the mark on this line, or in the comments directly above it; "" for a mark without; else None."""
    above = line - 1
    candidates = [lines[above]] if above < len(lines) else []
    while above > 0 and _COMMENT.match(lines[above - 1]):
        above -= 1
        candidates.append(lines[above])
    for text in candidates:
        if found := _MARK.search(text):
            return (found["why"] or "").strip()
    return None


def shown(text: str) -> str:
    """Text of a stranger's file for a terminal: one line, printable, bounded."""
    clean = " ".join(_printable(text[: 2 * MAX_SHOWN_CHARS]).split())
    return clean if len(clean) <= MAX_SHOWN_CHARS else clean[: MAX_SHOWN_CHARS - 1] + "…"


def shown_path(path: PurePath) -> str:
    """A path for a terminal: whole, but printable."""
    return _printable(str(path))


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" if one > " " else " " for one in text)
