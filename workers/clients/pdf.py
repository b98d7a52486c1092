"""PDF pages by reportlab: title, a table of facts, charts, tables of figures, sections of text. Text from outside is
escaped, never markup.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import reportlab
from reportlab.graphics.charts.barcharts import VerticalBarChart
from reportlab.graphics.charts.legends import Legend
from reportlab.graphics.shapes import Drawing
from reportlab.lib import colors
from reportlab.lib.enums import TA_LEFT, TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

_MARGIN = 20 * mm
_FRAME_PADDING = 6
"""Points, which reportlab keeps free within the margins."""
_BUILT_IN_FONT = Path(reportlab.__file__).parent / "fonts" / "Vera.ttf"
"""Latin scripts; other scripts need CALLBOARD_PDF_FONT_PATH."""
_COLOURS = tuple(colors.HexColor(code) for code in ("#2f7d4f", "#c2410c", "#9ca3af"))
"""Of a chart's series: what went well, what did not, the rest."""


@dataclass(frozen=True)
class Chart:
    """Stacked bars: one for each label; series: name → a value for each label, at least 0. At most as many series as
    there are _COLOURS."""

    labels: Sequence[str]
    series: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Page:
    """What is printed: a title with its reference, facts as a table, tables, then sections; empty ones are left out.

    Args:
        tables: heading → lines of cells, the head first; a first column is text, the others are figures.
        sections: heading → text; its lines are paragraphs.
        charts: heading → chart.
    """

    title: str
    reference: str
    facts: Mapping[str, str]
    sections: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    charts: Mapping[str, Chart] = field(default_factory=dict)


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
    for name, chart in page.charts.items():
        story += [KeepTogether([Paragraph(escape(name), head), _bars(chart, font)])]
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


def _bars(chart: Chart, font: str) -> Drawing:
    """A chart as wide as the page, its legend below it."""
    width, height, small = A4[0] - 2 * _MARGIN - 2 * _FRAME_PADDING, 60 * mm, {"fontName": font, "fontSize": 8}
    drawing = Drawing(width, height)
    bars = VerticalBarChart()
    bars.x, bars.y, bars.width, bars.height = 12 * mm, 14 * mm, width - 12 * mm, height - 18 * mm
    bars.data = [list(values) for values in chart.series.values()]
    bars.categoryAxis.style = "stacked"
    bars.categoryAxis.categoryNames = list(chart.labels)
    bars.categoryAxis.labels.setProperties({**small, "dy": -2})
    bars.valueAxis.labels.setProperties(small)
    bars.valueAxis.labelTextFormat = lambda value: f"{value:,.0f}"
    bars.valueAxis.valueMin, bars.valueAxis.forceZero = 0, 1
    highest = max((sum(values) for values in zip(*chart.series.values(), strict=True)), default=0)
    bars.valueAxis.valueMax = max(4, highest)  # why: reportlab cannot scale an axis from 0 to 0.
    bars.valueAxis.gridStrokeColor, bars.valueAxis.visibleGrid = colors.HexColor("#e5e7eb"), 1
    bars.groupSpacing, bars.bars.strokeColor = 3, None
    legend = Legend()
    legend.x, legend.y, legend.alignment, legend.boxAnchor = 12 * mm, 2 * mm, "right", "sw"
    legend.columnMaximum, legend.deltax, legend.dxTextSpace, legend.dx, legend.dy = 1, 70, 4, 7, 7
    legend.fontName, legend.fontSize, legend.strokeColor, legend.strokeWidth = font, 8, None, 0
    legend.colorNamePairs = list(zip(_COLOURS, chart.series, strict=False))
    for number in range(len(chart.series)):
        bars.bars[number].fillColor = _COLOURS[number]
    drawing.add(bars)
    drawing.add(legend)
    return drawing


@lru_cache(maxsize=8)
def _register(path: Path) -> str:
    name = f"callboard-{path.stem}"
    pdfmetrics.registerFont(TTFont(name, str(path)))
    return name
