"""Finds phone numbers in a text. What is one, and how it is grouped, `phonenumbers` knows; this knows where to ask.

Its matcher is slow on prose, so it is shown only runs that have the form of a number.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

from phonenumbers import Leniency, NumberParseException, PhoneNumberMatcher, is_valid_number, parse

_RUN: Final = re.compile(r"(?<![\w.,@/-])(?:\+|\(?[0-9])[0-9 ()./-]{5,60}[0-9]")
_GROUP: Final = re.compile(r"[0-9]+")
_LONGEST: Final = 28
# The matcher tells a date from a number by the time that follows it.
_CONTEXT: Final = 8
_ANNOUNCED: Final = re.compile(
    r"\b(?:phone|tel|telephone|telefon|call|mobile|cell|handy|fax|whatsapp|sms|text|ring|reach|contact|number)\b"
    r"[^0-9\n]{0,24}$"
)
_WORD_REACH: Final = 40


def find_phones(text: str, regions: Collection[str]) -> Iterator[tuple[int, int]]:
    """Yield the places of phone numbers in a folded text; those of two regions may overlap.

    A number with its country code is found wherever it is from. One without is read by the rules of each region: it
    has to be grouped as it is written there, or to follow a word that announces a number.
    """
    for run in _RUN.finditer(text):
        start = run.start() + run[0].find("+")
        end = _end_of_international(text, start, run.end()) if "+" in run[0] else None
        if end is not None:
            yield start, end
        window = text[run.start() : run.end() + _CONTEXT]
        for region in regions:
            for match in PhoneNumberMatcher(window, region, leniency=Leniency.VALID):
                start, end = run.start() + match.start, run.start() + match.end
                if end <= run.end() and _is_meant(text, start, end, region):
                    yield start, end


def _end_of_international(text: str, start: int, run_end: int) -> int | None:
    """Return where the number ends that begins with this `+`: other digits may follow it after a blank."""
    groups = [group.end() for group in _GROUP.finditer(text, start, min(run_end, start + _LONGEST))]
    for end in reversed(groups):
        try:
            if is_valid_number(parse(text[start:end])):
                return end
        except NumberParseException:
            continue
    return None


def _is_meant(text: str, start: int, end: int, region: str) -> bool:
    if _ANNOUNCED.search(text[max(0, start - _WORD_REACH) : start]):
        return True
    number = text[start:end]
    if number.isdecimal():
        return False  # bare digits may count anything
    return PhoneNumberMatcher(number, region, leniency=Leniency.EXACT_GROUPING).has_next()
