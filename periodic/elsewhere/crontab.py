"""Crontab entries: in crontabs by their name or folder, and in shell scripts and Dockerfiles that write one."""

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from periodic.elsewhere.found import Hit

WORDS = (b"crontab", b"cron.d", b"spool/cron")
"""What a script has that writes a crontab."""
KIND = "crontab entry"
RUN_PARTS = frozenset({"cron.hourly", "cron.daily", "cron.weekly", "cron.monthly"})
"""Folders each of whose files is run."""
_FOLDERS = frozenset({"cron.d", "crontabs"})
_SUFFIXES = frozenset({"", ".cron", ".crontab", ".tab", ".txt", ".in", ".j2", ".tmpl", ".tpl", ".template"})
_NAMED = re.compile(r"(?:^|[._-])(?:crontabs?|cron)(?:$|[._-])")
_SHELL_SUFFIXES = frozenset({".sh", ".bash", ".zsh", ".ksh", ".dockerfile", ".mk"})
_SHELL_NAMES = re.compile(r"^(?:Dockerfile|Containerfile|Makefile)(?:[._-].*)?$", re.IGNORECASE)

_PART = r"(?:\*|\d{1,2}(?:-\d{1,2})?|[A-Za-z]{3}(?:-[A-Za-z]{3})?)(?:/\d{1,2})?"
_FIELD = rf"{_PART}(?:,{_PART})*"
_NUMBER = _FIELD.replace(r"|[A-Za-z]{3}(?:-[A-Za-z]{3})?", "")
_WHEN = (
    rf"(?:@(?:reboot|yearly|annually|monthly|weekly|daily|midnight|hourly|every\s+\w+)"
    rf"|(?:{_NUMBER}\s+){{3}}{_FIELD}\s+{_FIELD})"
)
_ENTRY = re.compile(rf"^\s*-?(?P<when>{_WHEN})\s+(?P<what>\S.*)$")
_IN_SHELL = re.compile(
    rf"(?:^\s*|(?P<quote>[\"'])|(?P<echo>\becho\s+(?:-\w+\s+)*))(?P<when>{_WHEN})\s+(?P<what>[^\s\"'].*)$"
)
_AFTER_ECHO = re.compile(r"\s*(?:[|>;)]|&&)")
"""What ends the words of an `echo` without quotes."""
_PLACEHOLDER = re.compile(r"\{\{.*?\}\}")


def is_crontab(path: PurePath) -> bool:
    """Whether a file is a crontab by its name (`crontab`, `app.cron`, `crontab.j2`) or folder (`cron.d`)."""
    name = path.name
    if path.suffix not in _SUFFIXES and path.parent.name not in _FOLDERS:
        return False
    return path.parent.name in _FOLDERS or _NAMED.search(name) is not None


def is_shell(path: PurePath, first: bytes) -> bool:
    """Whether a file is a shell script, Dockerfile or Makefile. first: its first line."""
    return (
        path.suffix.lower() in _SHELL_SUFFIXES
        or _SHELL_NAMES.match(path.name) is not None
        or (first.startswith(b"#!") and re.search(rb"\b(?:ba|z|k|da)?sh\b", first) is not None)
    )


def find(lines: Sequence[str]) -> Iterator[Hit]:
    """The entries of a crontab."""
    yield from _find(lines, _ENTRY)


def find_in_shell(lines: Sequence[str]) -> Iterator[Hit]:
    """The entries that a script writes: after a quote or an echo, or on lines of their own."""
    yield from _find([line.replace("\\*", "*") for line in lines], _IN_SHELL)


def _find(lines: Sequence[str], pattern: re.Pattern[str]) -> Iterator[Hit]:
    for index, line in enumerate(lines):
        if line.lstrip().startswith("#"):
            continue
        if found := pattern.search(_PLACEHOLDER.sub("*", line)):
            yield Hit(index + 1, KIND, f"{found['when']} {_entry_of(found)}", line)


def _entry_of(found: re.Match[str]) -> str:
    """What is run, without the rest of the script's line that writes it: `" > /etc/cron.d/app`, `") | crontab -`."""
    what, by = found["what"], found.groupdict()
    if by.get("echo"):
        what = _AFTER_ECHO.split(what)[0]
    elif quote := by.get("quote"):
        what = re.split(rf"(?<!\\){quote}", what)[0]
    elif "quote" in by:  # why: a line within quotes that were opened above, and are closed here if one has no partner.
        for quote in "\"'":
            if what.count(quote) % 2:
                what = what.rpartition(quote)[0]
    return what.removesuffix("\\n").rstrip()
