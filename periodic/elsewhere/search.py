"""From paths to hits: reads each file once, asks the finders whose word it has, and applies the marks."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from periodic.elsewhere import apscheduler, celery, crontab, kubernetes, loops, tree
from periodic.elsewhere.found import Found, Hit, mark_of, shown, shown_path
from periodic.elsewhere.loops import Loop
from periodic.elsewhere.source import Source

MAX_FILE_BYTES = 4 * 1024 * 1024
"""Bigger files are not read: nobody writes such a source, crontab or manifest by hand."""
_YAML = re.compile(r"\.(?:ya?ml|json)(?:\.(?:j2|tpl|tmpl|template|in|erb))?$|\.tpl$", re.IGNORECASE)
_PYTHON_SUFFIXES = frozenset({".py", ".pyw"})
_FINDERS: tuple[tuple[Sequence[bytes], Callable[[Source], Iterator[Hit]]], ...] = (
    (celery.WORDS, celery.find),
    (apscheduler.WORDS, apscheduler.find),
)
_BROKEN = (ValueError, RecursionError, MemoryError)


def look(paths: Iterable[Path], *, max_files: int = tree.MAX_FILES) -> Found:
    """Find the jobs of other schedulers.

    Args:
        paths: folders and files.
        max_files: how many files to consider.

    Returns:
        What was found; jobs that are marked as accepted are left out.

    Raises:
        InvalidTask: a path does not exist.
    """
    search = _Search()
    for path in tree.files(paths, search.found, max_files=max_files):
        search.look_at(path)
    search.join_loops()
    search.found.hits.sort(key=lambda hit: (hit.path, hit.line))
    return search.found


class _Search:
    def __init__(self) -> None:
        self.found = Found()
        self._loops: list[tuple[Loop, list[str]]] = []
        """Loops that their own files do not start, with the lines of these files."""
        self._starters: list[Path] = []

    def look_at(self, path: Path) -> None:
        if (found := _kind_of(path)) is None:
            return
        if path.parent.name in crontab.RUN_PARTS:
            self._keep(path, [], [Hit(1, crontab.KIND, f"{path.parent.name}/{path.name}", path.name)])
            return
        if found == "unnamed" and (found := self._by_first_line(path)) is None:
            return
        data = self._read(path)
        if data is None:
            return
        if found == "python":
            self._look_at_python(path, data)
        elif found == "crontab":
            lines = _lines(data)
            self._keep(path, lines, crontab.find(lines))
            self._look_at_manifest(path, data, lines)  # _cron.tpl may be Helm's
        elif found == "shell" and _has(data, crontab.WORDS):
            lines = _lines(data)
            self._keep(path, lines, crontab.find_in_shell(lines))
        elif found == "manifest":
            self._look_at_manifest(path, data, _lines(data))

    def join_loops(self) -> None:
        """Report the loops that another file starts."""
        for path in self._starters:
            words = [loop.function.encode() for loop, _ in self._loops]
            data = self._read(path) if words else None
            if data is None or not _has(data, words):
                continue
            source = self._parsed(path, data)
            if source is None:
                continue
            names = loops.started(source)
            for loop, lines in list(self._loops):
                if loop.hit.path != str(path) and loops.is_started_from(loop, names, source):
                    self._loops.remove((loop, lines))
                    self._keep(Path(loop.hit.path), lines, [loop.hit])

    def _look_at_manifest(self, path: Path, data: bytes, lines: list[str]) -> None:
        if not _has(data, kubernetes.WORDS):
            return
        hits = list(kubernetes.find(lines))
        self._keep(path, lines, hits)
        for line in kubernetes.unread(lines, hits):
            if mark_of(lines, line) is None:
                self.found.warnings.append(
                    f"{shown_path(path)}:{line}: kind: CronJob, but no apiVersion and spec could be read beside it: "
                    "mend the file, or look at it yourself"
                )

    def _look_at_python(self, path: Path, data: bytes) -> None:
        if loops.may_start(data):
            self._starters.append(path)
        finders = [find for words, find in _FINDERS if _has(data, words)]
        may_loop = loops.may_have(data)
        source = self._parsed(path, data) if finders or may_loop else None
        if source is None:
            return
        lines = _lines(data)
        try:
            self._keep(path, lines, [hit for find in finders for hit in find(source)])
            for loop in loops.find(source) if may_loop else ():
                placed = dataclasses.replace(loop, hit=dataclasses.replace(loop.hit, path=str(path)))
                if loops.is_started_here(placed, loops.started(source)):
                    self._keep(path, lines, [placed.hit])
                elif placed.is_importable:
                    self._loops.append((placed, lines))
        except RecursionError:  # why: an expression of thousands of levels is a generated file's.
            self._warn(path, "is nested too deeply")

    def _parsed(self, path: Path, data: bytes) -> Source | None:
        try:
            return Source(data)
        except _BROKEN as error:
            self._warn(path, f"cannot be parsed ({shown(str(error)) or type(error).__name__})")
            return None

    def _by_first_line(self, path: Path) -> str | None:
        try:
            with path.open("rb") as opened:
                first = opened.readline(100)
        except OSError as error:
            self._warn(path, f"cannot be read ({error.strerror})")
            return None
        if first.startswith(b"#!") and b"python" in first:
            return "python"
        return "shell" if crontab.is_shell(path, first) else None

    def _read(self, path: Path) -> bytes | None:
        try:
            size = path.stat().st_size
            if size <= MAX_FILE_BYTES:
                return path.read_bytes()
        except OSError as error:
            self._warn(path, f"cannot be read ({error.strerror})")
            return None
        self._warn(path, f"has {size:,} bytes, more than {MAX_FILE_BYTES:,}")
        return None

    def _warn(self, path: Path, why: str) -> None:
        text = f"{shown_path(path)}: {why}, and was not looked at"
        if text not in self.found.warnings:
            self.found.warnings.append(text)

    def _keep(self, path: Path, lines: list[str], hits: Iterable[Hit]) -> None:
        seen = {(hit.line, hit.name) for hit in self.found.hits if hit.path == shown_path(path)}
        marks: dict[int, str | None] = {}  # why: a line of 4 MB with many hits is searched once.
        for hit in hits:
            if hit.line not in marks:
                marks[hit.line] = mark_of(lines, hit.line)
            why = marks[hit.line]
            name = shown(hit.name)
            if why or (hit.line, name) in seen:
                continue
            seen.add((hit.line, name))
            self.found.hits.append(dataclasses.replace(hit, name=name, path=shown_path(path), has_empty_mark=why == ""))


def _has(data: bytes, words: Iterable[bytes]) -> bool:
    return any(word in data for word in words)


def _kind_of(path: Path) -> str | None:
    """How to look at a file, by its name; `unnamed` if its first line decides, None for not at all."""
    if path.suffix.lower() in _PYTHON_SUFFIXES:
        return "python"
    if path.parent.name in crontab.RUN_PARTS or crontab.is_crontab(path):
        return "crontab"
    if _YAML.search(path.name):
        return "manifest"
    if crontab.is_shell(path, b""):
        return "shell"
    return "unnamed" if not path.suffix else None


def _lines(data: bytes) -> list[str]:
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    # why: not splitlines(), which also splits at form feeds and the like, where Python and editors count no line.
    return data.decode(encoding, "replace").replace("\r\n", "\n").replace("\r", "\n").split("\n")
