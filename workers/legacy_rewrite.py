"""Rewrites old imports and task names in Python source into today's.

    from background_tasks.email_tasks import send_confirmation    from workers.actors.email import send_confirmation
    from background_tasks import health_check                     from workers.actors.health import check_system as …
    from app.services.background_jobs import BackgroundJobService    from workers import tasks as BackgroundJobService
    "afirgen_tasks.email.send_confirmation"                       "email.send_confirmation"
    enqueue_task("health_check")                                  enqueue_task("health.check_system")

A legacy name without a dot is an everyday word: it is rewritten only as the task that a call sends. What cannot be
rewritten for sure is told, with its place, and left: a name that no actor has, `import app.tasks` (whose uses are
elsewhere in the file), a statement with a comment inside, a text that is put together.

The file is parsed, its text is changed at just these places, and the outcome is parsed again; nothing of it is imported
or run. It is replaced as a whole, so a crash leaves each file either as it was or rewritten.

Must not: know the terminal; look for files.
"""

import ast
import importlib
import io
import os
import tempfile
import tokenize
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from workers import legacy
from workers.registry import Registry

MAX_BYTES: Final = 4_000_000
_SENDS: Final = {"enqueue": 0, "enqueue_task": 0, "send_task": 0, "Declaration": 1, "Message": 1}
"""Functions and methods of which an argument names a task: which one, where it is not given by a name of _NAMING."""
_NAMING: Final = frozenset({"task_name", "actor", "actor_name"})


@dataclass(frozen=True)
class Change:
    """A place that is rewritten. line: from 1."""

    line: int
    old: str
    new: str


@dataclass
class Rewriting:
    """What was found in a file: what changes, what a person has to mend (line, why), and the new text as bytes."""

    changes: list[Change] = field(default_factory=list)
    left: list[tuple[int, str]] = field(default_factory=list)
    content: bytes = b""


@dataclass(frozen=True)
class _Edit:
    start: int
    end: int
    new: str
    line: int


def rewrite(content: bytes, registry: Registry) -> Rewriting:
    """Find what is to be rewritten in a file's bytes; what is no Python is left, and said."""
    found = Rewriting(content=content)
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text = content.decode(encoding)
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError, LookupError) as error:
        found.left.append((getattr(error, "lineno", None) or 1, f"it cannot be parsed ({error})"[:200]))
        return found
    source = _Source(text)
    edits = _Finder(source, registry, found).edits(tree)
    if not edits:
        return found
    raw = source.raw
    for edit in sorted(edits, key=lambda one: one.start, reverse=True):
        old = raw[edit.start : edit.end].decode()
        found.changes.append(Change(edit.line, " ".join(old.split()), " ".join(edit.new.split())))
        raw = raw[: edit.start] + edit.new.encode() + raw[edit.end :]
    found.changes.reverse()
    found.content = raw.decode().encode(encoding)
    ast.parse(found.content)  # why: nobody is to get a file that is broken by this.
    return found


def replace(path: Path, content: bytes) -> None:
    """Write a file as a whole, with the rights that it has."""
    mode = path.stat().st_mode
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        part.chmod(mode)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


class _Source:
    """Text as UTF-8 bytes, which is what ast counts columns in."""

    def __init__(self, text: str) -> None:
        self.raw = text.encode()
        self._starts = [0]
        for line in self.raw.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def place(self, line: int, column: int) -> int:
        return self._starts[line - 1] + column

    def span(self, node: Any) -> tuple[int, int]:
        return self.place(node.lineno, node.col_offset), self.place(node.end_lineno, node.end_col_offset)

    def line_before(self, place: int) -> str:
        """What stands before a place on its line."""
        return self.raw[:place].decode().rpartition("\n")[2]

    def has_comment(self, start: int, end: int) -> bool:
        part = self.raw[start:end].decode()
        try:
            tokens = list(tokenize.generate_tokens(io.StringIO(part).readline))
        except (tokenize.TokenError, IndentationError):
            return True  # why: what cannot be read is left to a person.
        return any(token.type == tokenize.COMMENT for token in tokens)


class _Finder:
    def __init__(self, source: _Source, registry: Registry, found: Rewriting) -> None:
        self._source = source
        self._registry = registry
        self._found = found
        self._naming: set[int] = set()

    def edits(self, tree: ast.AST) -> list[_Edit]:
        edits: list[_Edit] = []
        nodes = list(ast.walk(tree))
        for node in nodes:
            if isinstance(node, ast.Call):
                self._note_names(node)
        for node in nodes:
            if isinstance(node, ast.ImportFrom):
                edits += self._import_from(node)
            elif isinstance(node, ast.Import):
                self._import(node)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                edits += self._text(node, node.value)
        return edits

    def _note_names(self, call: ast.Call) -> None:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        place = _SENDS.get(name)
        if place is not None:
            named = [one.value for one in call.keywords if one.arg in _NAMING]
            self._naming |= {id(one) for one in (*call.args[place : place + 1], *named)}

    def _import_from(self, node: ast.ImportFrom) -> list[_Edit]:
        module = node.module or ""
        if node.level or not legacy.is_legacy(module):
            return []
        start, end = self._source.span(node)
        by_module: dict[str, list[str]] = {}
        for alias in node.names:
            target = _target(self._registry, module, alias.name)
            if target is None:
                self._leave(node, f"{module}.{alias.name} is no known actor: `callboard actors` lists them")
                return []
            now_in, now = target
            kept = alias.asname or alias.name
            by_module.setdefault(now_in, []).append(now if now == kept else f"{now} as {kept}")
        if self._source.has_comment(start, end):
            self._leave(node, f"the import from {module} has a comment inside: rewrite it by hand")
            return []
        before = self._source.line_before(start)
        between = "; " if before.strip() else f"\n{before}"
        new = between.join(f"from {module} import {', '.join(names)}" for module, names in by_module.items())
        return [_Edit(start, end, new, node.lineno)]

    def _import(self, node: ast.Import) -> None:
        for alias in node.names:
            if legacy.is_legacy(alias.name):
                self._leave(node, f"import {alias.name}: import the actors that are used from workers.actors instead")

    def _text(self, node: ast.Constant, text: str) -> list[_Edit]:
        actor = self._registry.find(text) if text in self._registry.aliases else None
        if actor is None or ("." not in text and id(node) not in self._naming):
            return []
        start, end = self._source.span(node)
        literal = self._source.raw[start:end].decode()
        if literal[1:-1] != text:
            self._leave(node, f"{text!r} is now {actor.actor_name!r}")  # why: escaped, joined or within an f-string.
            return []
        return [_Edit(start, end, literal[0] + actor.actor_name + literal[-1], node.lineno)]

    def _leave(self, node: Any, why: str) -> None:
        self._found.left.append((node.lineno, why))


def _target(registry: Registry, module: str, name: str) -> tuple[str, str] | None:
    """Where a legacy attribute is today: module and name; None: nowhere."""
    if name in legacy.MANAGERS:
        return "workers", "tasks"
    actor = legacy.find(registry, module, name)
    if actor is None:
        return None
    home = actor.fn.__module__
    for attribute, value in vars(importlib.import_module(home)).items():
        if value is actor:
            return home, attribute
    return None
