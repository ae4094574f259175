"""Cuts Python text, also broken Python, into logical lines, and tells code from strings and comments.

Knows quotes, comments and brackets; knows no grammar. One pass over the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PIECE = re.compile(
    r"(?P<comment>#[^\n]*)"
    r"|(?P<triple>\"\"\"|''')"
    r"|(?P<string>\"(?:[^\"\\\n]|\\.)*+\"|'(?:[^'\\\n]|\\.)*+')"
    r"|(?P<open>[(\[{])"
    r"|(?P<close>[)\]}])"
    r"|(?P<joined>\\\n)"
    r"|(?P<newline>\n)",
    re.DOTALL,
)
_CLOSING = {"(": ")", "[": "]", "{": "}"}
# A statement of more lines is a bracket that was never closed.
_LONGEST_STATEMENT = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalLine:
    """One statement: its text, its first line (1-based), and what it leaves open.

    `code` is the text with strings and comments blanked out; `unclosed` the quotes and brackets that are missing.
    """

    line: int
    text: str
    code: str
    unclosed: str


def logical_lines(text: str) -> list[LogicalLine]:
    """Cut a text into logical lines. An open triple quote ends with the text."""
    lines: list[LogicalLine] = []
    start, open_brackets = 0, ""
    blanked: list[tuple[int, int]] = []
    position = 0
    while match := _PIECE.search(text, position):
        position = match.end()
        if match["comment"] or match["string"]:
            blanked.append(match.span())
        elif match["triple"]:
            position, missing = _end_of_triple(text, match.end(), match["triple"])
            open_brackets = missing + open_brackets
            blanked.append((match.start(), position))
        elif match["open"]:
            open_brackets = _CLOSING[match["open"]] + open_brackets
        elif match["close"]:
            open_brackets = open_brackets[1:]
        elif match["newline"] and (
            not open_brackets or text.count("\n", start, position) > _LONGEST_STATEMENT
        ):
            lines.append(_line(text, start, match.start(), blanked, open_brackets))
            start, open_brackets, blanked = position, "", []
    lines.append(_line(text, start, len(text), blanked, open_brackets))
    return _numbered(lines)


def _end_of_triple(text: str, start: int, quote: str) -> tuple[int, str]:
    """Return where the string ends, and the quotes that it lacks."""
    end = text.find(quote, start)
    return (len(text), quote) if end < 0 else (end + 3, "")


def _line(text: str, start: int, end: int, blanked: list[tuple[int, int]], unclosed: str) -> LogicalLine:
    code: list[str] = []
    done = start
    for first, last in blanked:
        code += (text[done:first], " " * (last - first))
        done = last
    code.append(text[done:end])
    return LogicalLine(
        line=text.count("\n", start, end) + 1, text=text[start:end], code="".join(code), unclosed=unclosed
    )


def _numbered(lines: list[LogicalLine]) -> list[LogicalLine]:
    """Turn each line's height into its number, in one pass."""
    numbered: list[LogicalLine] = []
    number = 1
    for line in lines:
        numbered.append(LogicalLine(line=number, text=line.text, code=line.code, unclosed=line.unclosed))
        number += line.line
    return numbered
