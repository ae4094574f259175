"""Finds what content spells of Llama Guard's own prompt, and renders content so that it stays data.

Knows the prompt's frame, its role markers and Llama 3's special tokens; judges nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from agentkit.shields.base import Finding
from agentkit.shields.normalize import folded_view
from agentkit.shields.redaction import merge_findings

SPOOFED_FRAME: Final = "spoofed_frame"
SPOOFED_ROLE: Final = "spoofed_role"
SPOOFED_TOKEN: Final = "spoofed_token"  # noqa: S105  # a label

# Of folded text: lower case, look-alike and invisible characters seen through.
_SPOOFS: Final = (
    (SPOOFED_FRAME, re.compile(r"<\s*(?:begin|end)\s+(?:unsafe\s+content\s+categories|conversation)\s*>")),
    (SPOOFED_ROLE, re.compile(r"(?<=[\n\r\v\f])[ \t]{0,20}(?:user|agent)[ \t]{0,5}:")),
    (SPOOFED_TOKEN, re.compile(r"<\|[a-z0-9_]{1,40}\|>")),
)


def find_spoofing(text: str) -> tuple[Finding, ...]:
    """Return where a text imitates the prompt around it, in order, without overlap."""
    view = folded_view(text)
    found = []
    for label, pattern in _SPOOFS:
        for match in pattern.finditer(view.text):
            start, end = view.raw_span(*match.span())
            found.append(Finding(start=start, end=end, label=label))
    return merge_findings(found)


def as_data(text: str, spoofed: Sequence[Finding]) -> str:
    """Return the text with what it imitates out of form: a frame or a role in round brackets.

    Special tokens stay as they are: a tokenizer that is given text makes none of it.
    """
    parts: list[str] = []
    done = 0
    for finding in spoofed:
        parts += [text[done : finding.start], _out_of_form(text[finding.start : finding.end], finding.label)]
        done = finding.end
    return "".join([*parts, text[done:]])


def _out_of_form(span: str, label: str) -> str:
    return span if label == SPOOFED_TOKEN else f"({span.strip()[:-1].removeprefix('<')})"
