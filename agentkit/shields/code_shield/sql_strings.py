"""Finds SQL statements that are built from values, in any language: by what stands in and around its strings."""

from __future__ import annotations

import re
from collections.abc import Iterator

from agentkit.shields.code_shield.masking import SourceView, StringSpan
from agentkit.shields.code_shield.sql import is_statement

_LONGEST_HEAD = 500
_GLUE = re.compile(r"\s*[+.&]?\s*")
# A value follows: `"..." + x`, PHP's `"..." . x`, `"...".format(x)`, JavaScript's `.concat(x)`.
_ADDED = re.compile(r"\s*(?:\+=?|\.(?!\w)|&)\s*(?![\s\"'])[$\w(]|\s*\.(?:format|formatted|concat)\(")
_FORMATTER = re.compile(
    r"(?:\bformat!|\w*[sS]printf|[Ss]tring\.[Ff]ormat|\bformat|[fF]mt|_f)\s*\(\s*(?:[\w.]+\s*,\s*){0,3}$"
)
_PLACE = re.compile(r"%[-+ 0#]*\d*(?:\.\d+)?[sdvqxuil@]|\{\w*\}")


def built_statements(view: SourceView) -> Iterator[int]:
    """Yield where a string begins an SQL statement that gets values put into its text."""
    index = 0
    while index < len(view.strings):
        last = _last_of_chain(view, index)
        chain = view.strings[index : last + 1]
        if is_statement(_content(view, chain)) and _gets_values(view, chain):
            yield chain[0].start
        index = last + 1


def _last_of_chain(view: SourceView, first: int) -> int:
    """Return the last of the strings that are only joined to each other."""
    last = first
    while last + 1 < len(view.strings):
        between = _GLUE.match(view.code, view.strings[last].end)
        if between is None or between.end() != view.strings[last + 1].start:
            break
        last += 1
    return last


def _content(view: SourceView, chain: list[StringSpan]) -> str:
    parts: list[str] = []
    length = 0
    for string in chain:
        parts.append(view.text[string.start + 1 : min(string.end - 1, string.start + _LONGEST_HEAD)])
        length += len(parts[-1])
        if length > _LONGEST_HEAD:
            break
    return "".join(parts).lstrip("\"'`@$#(RLr ")


def _gets_values(view: SourceView, chain: list[StringSpan]) -> bool:
    if any(string.filled for string in chain) or _ADDED.match(view.code, chain[-1].end):
        return True
    before = view.code[max(0, chain[0].start - 80) : chain[0].start]
    return _FORMATTER.search(before) is not None and any(
        _PLACE.search(view.text, string.start, string.end) is not None for string in chain
    )
