"""PDF pages by reportlab: title, a table of facts, tables of figures, sections of text. Text from outside is escaped,
never markup.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import reportlab
from reportlab.lib import colors
from reportlab.lib.enums import TA_LEFT, TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

_MARGIN = 20 * mm
_FRAME_PADDING = 6
"""Points, which reportlab keeps free within the margins."""
_BUILT_IN_FONT = Path(reportlab.__file__).parent / "fonts" / "Vera.ttf"
"""Latin scripts; other scripts need CALLBOARD_PDF_FONT_PATH."""


@dataclass(frozen=True)
class Page:
    """What is printed: a title with its reference, facts as a table, tables, then sections; empty ones are left out.

    Args:
        tables: heading → lines of cells, the head first; a first column is text, the others are figures.
        sections: heading → text; its lines are paragraphs.
    """

    title: str
    reference: str
    facts: Mapping[str, str]
    sections: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)


def render_pdf(page: Page, *, font_path: Path | None = None) -> tuple[bytes, int]:
    """The page as PDF bytes, and the number of its sheets. The same page gives the same bytes.

    Args:
        font_path: a TrueType font; None for the built-in one.
    """
    font = _register(font_path or _BUILT_IN_FONT)
    body = ParagraphStyle("body", fontName=font, fontSize=10, leading=14, alignment=TA_LEFT, splitLongWords=True)
    head = ParagraphStyle("head", parent=body, fontSize=13, leading=18, spaceBefore=12, spaceAfter=4)
    title = ParagraphStyle("title", parent=body, fontSize=20, leading=26, spaceAfter=2)
    muted = ParagraphStyle("muted", parent=body, textColor=colors.HexColor("#6b7280"))

    facts = Table(
        [[Paragraph(escape(name), muted), Paragraph(escape(value), body)] for name, value in page.facts.items()],
        colWidths=[42 * mm, None],
    )
    facts.setStyle(
        TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LINEBELOW", (0, 0), (-1, -1), 0.4, colors.HexColor("#e5e7eb")),
                ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ]
        )
    )
    story: list[Any] = [
        Paragraph(escape(page.title), title), Paragraph(escape(page.reference), muted), Spacer(1, 8), facts
    ]  # fmt: skip
    for name, lines in page.tables.items():
        story += [Paragraph(escape(name), head), _figures(lines, body, muted)]
    for name, text in page.sections.items():
        if text.strip():
            story.append(Paragraph(escape(name), head))
            story += [Paragraph(escape(part), body) for part in text.splitlines() if part.strip()]

    sheets = 0

    def number(canvas: Any, _document: Any) -> None:
        nonlocal sheets
        sheets += 1
        canvas.setFont(font, 8)
        canvas.setFillColor(colors.HexColor("#6b7280"))
        canvas.drawString(_MARGIN, 12 * mm, page.reference)
        canvas.drawRightString(A4[0] - _MARGIN, 12 * mm, f"Page {canvas.getPageNumber()}")

    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer, pagesize=A4, leftMargin=_MARGIN, rightMargin=_MARGIN, topMargin=_MARGIN, bottomMargin=_MARGIN,
        title=f"{page.title} {page.reference}", author="Callboard", invariant=1,
    )  # fmt: skip
    document.build(story, onFirstPage=number, onLaterPages=number)
    return buffer.getvalue(), sheets


def _figures(lines: Sequence[Sequence[str]], body: ParagraphStyle, muted: ParagraphStyle) -> Table:
    """A table whose head is repeated on each sheet; its first column takes three tenths of the width."""
    small = {"fontSize": 8, "leading": 11}
    head_left, left = ParagraphStyle("", parent=muted, **small), ParagraphStyle("", parent=body, **small)
    head_right, right = (ParagraphStyle("", parent=style, alignment=TA_RIGHT) for style in (head_left, left))
    cells = [
        [Paragraph(escape(line[0]), head_left if number == 0 else left)]
        + [Paragraph(escape(cell), head_right if number == 0 else right) for cell in line[1:]]
        for number, line in enumerate(lines)
    ]
    width = A4[0] - 2 * _MARGIN - 2 * _FRAME_PADDING
    columns = len(lines[0]) - 1
    table = Table(cells, colWidths=[width * 0.3, *[width * 0.7 / columns] * columns], repeatRows=1)
    table.setStyle(
        TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LINEBELOW", (0, 0), (-1, -1), 0.4, colors.HexColor("#e5e7eb")),
                ("LEFTPADDING", (0, 0), (0, -1), 0),
                ("RIGHTPADDING", (-1, 0), (-1, -1), 0),
            ]
        )
    )
    return table


@lru_cache(maxsize=8)
def _register(path: Path) -> str:
    name = f"callboard-{path.stem}"
    pdfmetrics.registerFont(TTFont(name, str(path)))
    return name
