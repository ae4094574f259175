"""The figures as an SVG: one panel for each question, one bar for each engine, coloured by precision."""

from __future__ import annotations

from xml.sax.saxutils import escape

from benchmarks.engines.figures import Question, short
from benchmarks.engines.lineup import REFERENCE, engine_and_precision
from benchmarks.engines.run import Run

COLOURS = {"fp32": "#4878a8", "bf16": "#6aa56a", "int8": "#d08c3c"}
_BAR, _GAP, _TITLE = 16, 4, 26
_LABELS, _BARS, _VALUES = 130, 190, 60
_PANEL = _LABELS + _BARS + _VALUES
_COLUMNS = 2
_MARGIN = 14


def plot(run: Run) -> str:
    """Return an SVG document."""
    questions, figures = run.questions, run.figures
    asked = [question for question in questions if figures[question.name]]
    most = max((len(figures[question.name]) for question in asked), default=0)
    panel_height = _TITLE + most * (_BAR + _GAP) + _MARGIN
    rows = -(-len(asked) // _COLUMNS)
    width = _COLUMNS * _PANEL + 2 * _MARGIN
    height = rows * panel_height + _TITLE + 2 * _MARGIN
    panels = [
        _panel(
            question,
            figures[question.name],
            x=_MARGIN + (index % _COLUMNS) * _PANEL,
            y=_MARGIN + _TITLE + (index // _COLUMNS) * panel_height,
        )
        for index, question in enumerate(asked)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            'font-family="sans-serif" font-size="11">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            f'<text x="{_MARGIN}" y="{_MARGIN + 6}">{escape(run.caption)}</text>',
            *panels,
            "</svg>\n",
        ]
    )


def _panel(question: Question, of: dict[str, float], *, x: int, y: int) -> str:
    better = "higher" if question.higher_is_better else "lower"
    title = f"{question.name} ({question.unit}, {better} is better)"
    lines = [f'<text x="{x}" y="{y + 10}" font-weight="bold">{escape(title)}</text>']
    longest = max(of.values())
    for index, (name, value) in enumerate(of.items()):
        top = y + _TITLE - 8 + index * (_BAR + _GAP)
        length = _BARS * value / longest
        weight = "bold" if engine_and_precision(name)[0] == REFERENCE.engine else "normal"
        colour = COLOURS[engine_and_precision(name)[1]]
        lines += [
            f'<text x="{x}" y="{top + 12}" font-weight="{weight}">{escape(name)}</text>',
            f'<rect x="{x + _LABELS}" y="{top}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>',
            f'<text x="{x + _LABELS + length + 4:.1f}" y="{top + 12}">{short(value)}</text>',
        ]
    return "\n".join(lines)
