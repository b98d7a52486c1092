"""Kubernetes `CronJob`s in YAML, JSON and templates of them.

Two readers, neither of which needs the file to be valid, because a Helm template is neither YAML nor JSON:

    braces   JSON and YAML's `{…}`, however it is laid out: what stands beside `kind` in the same pair of braces
    lines    YAML's blocks: what stands beside `kind` in the same column; lists and text blocks within too

A `kind: CronJob` counts if `apiVersion` and `spec` stand beside it: a reference to a CronJob (an owner, the target of a
policy or a patch) has no `spec`. One that begins a line or a file, where no reference stands, and whose `apiVersion` or
`spec` is not found, is in a file that is broken: a warning. What a hostile file can cost is bounded.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from periodic.elsewhere.found import Hit

WORDS = (b"CronJob",)
KIND = "Kubernetes CronJob"
MAX_IN_BRACES = 1_000
"""So many of a file are named: one is enough to fail a check, and each costs time."""
MAX_CHARS = 64 * 1024
"""So much of a manifest is searched for its name and an actor's."""
MAX_COLUMN = 200
"""Nobody indents further by hand."""
_KIND = re.compile(r"""^(?P<lead>[\s\-]*)["']?kind["']?\s*:\s*(?:[!&]\S+\s+)*["']?CronJob["']?\s*,?\s*(?:\#.*)?$""")
_KEY = re.compile(r"""^(?P<lead>[\s\-]*)(?:(["'])(?P<quoted>[\w.$/-]+)\2\s*:|(?P<key>[\w.$/-]+)\s*:(?:\s|$))""")
_TEMPLATE = re.compile(r"^\s*\{\{.*\}\}\s*$")
_NAME = re.compile(
    r"""metadata["']?\s*:.*?\bname["']?\s*:\s*["']?(?P<name>(?:\{\{[^\n}]*\}\}|[^\s"',{}])+)""", re.DOTALL
)
_NEEDED = frozenset({"apiVersion", "spec"})
_TOKEN = re.compile(
    r"""^[ \t]*\#.*$
      | ^(?P<document>---|\.\.\.)
      | (?P<open>\{)
      | (?P<close>\})
      | (?P<kind>(?<![\w.$/-])(?P<q>["']?)kind(?P=q)\s*:\s*(?P<r>["']?)CronJob(?P=r)(?![\w-]))
      | (?P<key>(?<![\w.$/-])(?P<s>["']?)(?:apiVersion|spec)(?P=s)(?=\s*:))
      | "(?:[^"\\\n]|\\.)*"
    """,
    re.MULTILINE | re.VERBOSE,
)


@dataclass
class _Braces:
    """An open pair: where it begins, which of the needed keys and which `kind: CronJob` (line, from 0) are in it."""

    start: int
    keys: set[str] = field(default_factory=set)
    kinds: list[int] = field(default_factory=list)


def find(lines: Sequence[str]) -> Iterator[Hit]:
    """A CronJob each; the line is that of its `kind`."""
    in_braces = list(islice(_in_braces(lines), MAX_IN_BRACES))
    found = {hit.line for hit in in_braces}
    yield from in_braces
    for index, first, last, lead in _blocks(lines):
        if index + 1 not in found and _keys(lines[first:last], lead) >= _NEEDED:
            yield _hit(index, "\n".join(lines[first:last]))


def unread(lines: Sequence[str], hits: Sequence[Hit]) -> list[int]:
    """The lines (from 1) at which a manifest of a CronJob begins that `find` could not read."""
    found = {hit.line for hit in hits}
    is_json = _is_json("\n".join(lines))
    return [
        index + 1
        for index, line in enumerate(lines)
        if (kind := _KIND.match(line)) and index + 1 not in found and (not kind["lead"].strip("\t") or is_json)
    ]


def _in_braces(lines: Sequence[str]) -> Iterator[Hit]:
    text = "\n".join(lines)
    waiting: list[_Braces] = []
    line, counted = 0, 0
    for token in _TOKEN.finditer(text):
        if token["document"]:
            waiting.clear()
        elif token["open"]:
            waiting.append(_Braces(token.start()))
        elif token["close"] and waiting:
            done = waiting.pop()
            if done.keys >= _NEEDED and done.kinds:
                yield _hit(done.kinds[0], text[done.start : min(token.end(), done.start + MAX_CHARS)])
        elif waiting and token["key"]:
            waiting[-1].keys.add(token["key"].strip("\"'"))
        elif waiting and token["kind"]:
            line, counted = line + text.count("\n", counted, token.start()), token.start()
            waiting[-1].kinds.append(line)
    for cut in waiting if _is_json(text) else ():  # why: a file that ends too early says what it is all the same.
        if cut.keys >= _NEEDED and cut.kinds:
            yield _hit(cut.kinds[0], text[cut.start : cut.start + MAX_CHARS])


def _is_json(text: str) -> bool:
    return re.match(r"\s*\{(?!\{)", text) is not None


def _blocks(lines: Sequence[str]) -> Iterator[tuple[int, int, int, int]]:
    """Each `kind: CronJob` that has a line to itself: its index, the mapping it is in, and its column."""
    ends: dict[int, int] = {}
    for index, line in enumerate(lines):
        if found := _KIND.match(line):
            column = len(found["lead"])
            if column > MAX_COLUMN or index < ends.get(column, 0):
                continue  # why: said twice in one mapping; to look at that again for each would take squared time.
            first, last = _mapping(lines, index, column)
            ends[column] = last
            yield index, first, last, column


def _mapping(lines: Sequence[str], at: int, column: int) -> tuple[int, int]:
    """The first and, exclusive, the last line of the mapping whose key at `column` stands in line `at`."""
    first = at
    while first > 0 and not _begins(lines[first], column) and _is_inside(lines[first - 1], column):
        first -= 1
    last = at + 1
    while last < len(lines) and _is_inside(lines[last], column) and not _begins(lines[last], column):
        last += 1
    return first, last


def _begins(line: str, column: int) -> bool:
    """Whether a line begins another entry of the list that the mapping at this column is in."""
    return "-" in line[:column] and not _TEMPLATE.match(line)


def _is_inside(line: str, column: int) -> bool:
    """Whether a line goes on with a mapping at this column: deeper, at it, empty, or a template's own line."""
    if line.startswith(("---", "...")):
        return False
    if not line.strip() or line.lstrip().startswith("#") or _TEMPLATE.match(line):
        return True
    return len(line) - len(line.lstrip(" -\t" if column else " \t")) >= column


def _keys(lines: Sequence[str], column: int) -> set[str]:
    return {
        found["quoted"] or found["key"]
        for line in lines
        if (found := _KEY.match(line)) and len(found["lead"]) == column
    }


def _hit(index: int, text: str) -> Hit:
    name = _NAME.search(text)
    return Hit(index + 1, KIND, name["name"] if name else "CronJob", text)
