"""Brackets and arguments in masked code: which bracket closes which, and what is between the commas.

Knows no language; one pass over the code, whatever it holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_MARK = re.compile(r"[()\[\]{},]")
_OPEN = "([{"
_FOLLOWING = re.compile(r"\s*+(?=\()")
# A string with values in it, or a name: it may be anything at run time, also where it is written in capitals. Names of
# fields (`cwd: x`) and prefixes of strings say nothing.
_UNKNOWN = re.compile(
    r"`|\$\w|(?<![\w$\"])(?!(?:null|NULL|nullptr|nil|None|undefined|true|false|new|const|char|static|return|typeof)\b)"
    r"(?![Ss]tring\s{0,4}\[)[A-Za-z_][\w$]*+(?!\"|\s{0,4}:(?!:))"
)


@dataclass(slots=True)
class _Bracket:
    start: int
    commas: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The arguments of a call as `[start, end)` spans, and where the call ends."""

    spans: list[tuple[int, int]]
    end: int


@dataclass(frozen=True, slots=True)
class CallTable:
    """Every bracketed list in a piece of masked code, by the offset of its bracket."""

    code: str
    lists: dict[int, Arguments]

    def arguments(self, after_name: int) -> Arguments | None:
        """Return the arguments of a call whose name ends here, or None if it is no call."""
        bracket = _FOLLOWING.match(self.code, after_name)
        return self.lists.get(bracket.end()) if bracket is not None else None

    def is_unknown(self, start: int, end: int) -> bool:
        """Say whether an expression holds something that is only known at run time."""
        return _UNKNOWN.search(self.code, start, end) is not None


def read_calls(code: str) -> CallTable:
    """Return the bracketed lists of masked code. A list that is never closed ends with the code."""
    lists: dict[int, Arguments] = {}
    open_brackets: list[_Bracket] = []
    for mark in _MARK.finditer(code):
        if mark[0] in _OPEN:
            open_brackets.append(_Bracket(mark.start()))
        elif not open_brackets:
            continue
        elif mark[0] == ",":
            open_brackets[-1].commas.append(mark.start())
        else:
            _close(open_brackets.pop(), mark.start(), lists, code)
    while open_brackets:
        _close(open_brackets.pop(), len(code), lists, code)
    return CallTable(code, lists)


def _close(bracket: _Bracket, end: int, lists: dict[int, Arguments], code: str) -> None:
    if code[bracket.start] != "(":
        return
    starts = [bracket.start + 1, *(comma + 1 for comma in bracket.commas)]
    ends = [*bracket.commas, end]
    is_empty = not bracket.commas and not code[bracket.start + 1 : min(end, bracket.start + 200)].strip()
    lists[bracket.start] = Arguments(spans=[] if is_empty else list(zip(starts, ends, strict=True)), end=end)
