"""Mails as templates: one source a mail, rendered twice, as text and as HTML, so that both parts say the same.

    templates/mail/<name>.j2      {% extends "layout.j2" %}; block `subject`, block `body` put together of parts
    templates/mail/text|html/     `layout.j2` and `parts.j2` of each form: how a greeting, facts, a table, a link look

In HTML everything from outside is escaped. A fact is one line, whatever the record holds; text of several lines is set
apart, so that nobody's record can look like the mail's own words.

Must not: send anything, or know who gets it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workers.errors import PermanentError

if TYPE_CHECKING:
    import jinja2

TEMPLATES_DIR = Path(__file__).resolve().parent.parent / "templates" / "mail"
SUBJECT_MAX_CHARS = 300

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What may stand in no header: it could end it, or begin another one."""

Form = Literal["text", "html"]


@dataclass(frozen=True)
class Rendered:
    """A mail's subject and its two parts."""

    subject: str
    text: str
    html: str


def render(template: str, context: Mapping[str, Any]) -> Rendered:
    """Render a mail.

    Args:
        template: name below templates/mail.
        context: what it shows.

    Raises:
        PermanentError: a subject with control characters, or too long for a header.
    """
    text, html = (_environment(form).get_template(f"{template}.j2") for form in ("text", "html"))
    subject = "".join(text.blocks["subject"](text.new_context(dict(context)))).strip()
    if CONTROL.search(subject) or len(subject) > SUBJECT_MAX_CHARS:
        raise PermanentError(f"the subject has a control character or is longer than {SUBJECT_MAX_CHARS} characters: "
                             "clean the record")  # fmt: skip
    plain = re.sub(r"\n{3,}", "\n\n", text.render(context))
    return Rendered(subject, plain.strip() + "\n", html.render(context))


@lru_cache(maxsize=2)
def _environment(form: Form) -> "jinja2.Environment":
    import jinja2  # why: only processes that send mail pay for it.

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([TEMPLATES_DIR / form, TEMPLATES_DIR]),
        autoescape=form == "html",  # noqa: S701 - text must not be escaped
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"line": _line, "indented": _indented, "aligned": _aligned}
    return environment


def _line(value: object) -> Any:
    """The value on one line; what is safe in HTML stays so."""
    from markupsafe import Markup  # why: it comes with Jinja2, and this with a value of its.

    joined = " ".join(str(value).split())
    return Markup(joined) if isinstance(value, Markup) else joined  # noqa: S704 - it was markup before


def _indented(text: object) -> str:
    return "\n".join(f"    {line.strip()}".rstrip() for line in str(text).strip().splitlines())


def _aligned(rows: Sequence[Sequence[object]]) -> str:
    """Rows of text as columns, two spaces apart."""
    lines = [[_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
