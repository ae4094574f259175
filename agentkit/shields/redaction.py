"""Cutting findings out of a text, and off a text that is still being written. Knows no policy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from agentkit.shields.base import Finding

_LONGEST_LABEL: Final = 40
# Groups of cards, of phone numbers and of IBANs, what was redacted of them so far, and how a private key begins.
# An IBAN in groups has 42 characters, and may follow `account=` without a blank.
_UNFINISHED: Final = re.compile(
    r"(?:(?<!\S)(?:\S{0,24}[^\w\s])?(?:[A-Za-z]{2}[0-9]{2}[A-Za-z0-9]{0,4}|[A-Z0-9]{4}|[0-9][0-9()./-]*|"
    r"\[REDACTED:[A-Za-z0-9 ._-]{1,40}\])\s+)++$|-----BEGIN[A-Z ]*$"
)
_LONGEST_UNFINISHED: Final = 96
# The letters of a key, spaced out.
_SPACED_OUT: Final = re.compile(r"(?:(?<!\S)[\w-]\s+)++$")
_LONGEST_SPACED_OUT: Final = 320


def merge_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the same spans in order, overlapping ones as one under the label of the first."""
    merged: list[Finding] = []
    for finding in sorted(findings, key=lambda found: (found.start, -found.end)):
        if merged and finding.start < merged[-1].end:
            last = merged[-1]
            merged[-1] = Finding(start=last.start, end=max(last.end, finding.end), label=last.label)
        else:
            merged.append(finding)
    return tuple(merged)


def redact(text: str, findings: Sequence[Finding]) -> str:
    """Return the text with every finding replaced by `[REDACTED:label]`.

    The findings are merged ones: in order, inside the text, not overlapping.
    """
    parts: list[str] = []
    kept_to = 0
    for finding in findings:
        parts += [text[kept_to : finding.start], f"[REDACTED:{_label(finding)}]"]
        kept_to = finding.end
    return "".join([*parts, text[kept_to:]])


def end_of_whole_words(text: str) -> int:
    """Return up to where an unfinished text may be shown: what would split a finding stays behind.

    That is the last word, and before it the groups of a number, letters that are spaced out or the header of a key,
    which go on after a blank.
    """
    end = next((end for end in range(len(text), 0, -1) if text[end - 1].isspace()), 0)
    going_on = (
        _UNFINISHED.search(text, max(0, end - _LONGEST_UNFINISHED), end),
        _SPACED_OUT.search(text, max(0, end - _LONGEST_SPACED_OUT), end),
    )
    return min((match.start() for match in going_on if match), default=end)


def _label(finding: Finding) -> str:
    """A label goes into the text that a model reads: plain words only."""
    return re.sub(r"[^A-Za-z0-9 ._-]", "_", finding.label)[:_LONGEST_LABEL]
