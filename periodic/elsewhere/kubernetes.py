"""Kubernetes `CronJob`s, read line by line.

Not by a YAML parser, because a Helm template is no YAML; and so a file of many documents, a `List`, a manifest within a
text block and JSON are all read alike. A `kind: CronJob` counts if `apiVersion` and `spec` stand beside it: a reference
to a CronJob (an owner, the target of a policy or a patch) has no `spec`.
"""

import re
from collections.abc import Iterator, Sequence

from periodic.elsewhere.found import Hit

WORDS = (b"CronJob",)
KIND = "Kubernetes CronJob"
_KIND = re.compile(r"""^(?P<lead>[\s\-]*)["']?kind["']?\s*:\s*(?:[!&]\S+\s+)*["']?CronJob["']?\s*,?\s*(?:\#.*)?$""")
_FLOW = re.compile(r"""\{.*["']?kind["']?\s*:\s*["']?CronJob\b""")
_KEY = re.compile(r"""^(?P<lead>[\s\-]*)["']?(?P<key>[\w.$/-]+)["']?\s*:(?:\s+(?P<value>.*))?$""")
_TEMPLATE = re.compile(r"^\s*\{\{.*\}\}\s*$")


def find(lines: Sequence[str]) -> Iterator[Hit]:
    """A CronJob each; the line is that of its `kind`."""
    for index, line in enumerate(lines):
        if found := _KIND.match(line):
            first, last = _mapping(lines, index, len(found["lead"]))
            beside = _keys(lines[first:last], len(found["lead"]))
            if {"apiVersion", "spec"} <= beside:
                yield _hit(index, lines[first:last])
        elif _FLOW.search(line) and "apiVersion" in line and "spec" in line:
            yield _hit(index, [line])


def _mapping(lines: Sequence[str], at: int, column: int) -> tuple[int, int]:
    """The first and, exclusive, the last line of the mapping whose key at `column` stands in line `at`."""
    first = at
    while first > 0 and "-" not in lines[first][:column] and _is_inside(lines[first - 1], column):
        first -= 1
    last = at + 1
    while last < len(lines) and _is_inside(lines[last], column) and "-" not in lines[last][:column]:
        last += 1
    return first, last


def _is_inside(line: str, column: int) -> bool:
    """Whether a line goes on with a mapping at this column: deeper, at it, empty, or a template's own line."""
    if line.startswith(("---", "...")):
        return False
    if not line.strip() or line.lstrip().startswith("#") or _TEMPLATE.match(line):
        return True
    return len(line) - len(line.lstrip(" -\t" if column else " \t")) >= column


def _keys(lines: Sequence[str], column: int) -> set[str]:
    return {found["key"] for line in lines if (found := _KEY.match(line)) and len(found["lead"]) == column}


def _hit(index: int, block: Sequence[str]) -> Hit:
    text = "\n".join(block)
    name = re.search(r"""metadata["']?\s*:.*?\bname["']?\s*:\s*["']?([^\s"',}]+)""", text, re.DOTALL)
    return Hit(index + 1, KIND, name[1] if name else "CronJob", text)
