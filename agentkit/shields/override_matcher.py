"""Runs the override rules over a folded text: which fired, and where. Knows how to match; the rules say what.

One pass finds the head words, then each rule's tail is tried where one of its heads stands. Tails look ahead a
bounded number of words, so the work is linear; `MAX_ATTEMPTS` bounds it for texts made of head words only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agentkit.errors import ShieldError
from agentkit.shields.override_rules import Category, Rule, Scope, Search, load_rules

MAX_ATTEMPTS = 150_000

_WORD = re.compile(r"[^\W_]+(?:'[a-z]+)?")
_SUBJECT = re.compile(
    r"\b(?:we|i|they|he|she|it|who|which|that|will|would|can|could|may|might|not|cannot|won't)\W{1,3}$"
)
_SUBJECT_REACH = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One rule that fired, at `[start, end)` of the text that was searched."""

    rule: str
    category: Category
    weight: float
    start: int
    end: int


def find_hits(text: str, *, untrusted: bool) -> list[Hit]:
    """Return the first hit of every rule that fires in a folded text.

    Raises:
        ShieldError: if the text holds so many head words that judging it would take too long.
    """
    rules = load_rules()
    hits: dict[str, Hit] = {}
    attempts = 0
    for word in _WORD.finditer(text):
        for rule in rules.by_head.get(word[0], ()):
            if rule.name in hits or (rule.scope is Scope.UNTRUSTED and not untrusted):
                continue
            attempts += 1
            match = rule.tail.match(text, word.end())
            if match and not (rule.imperative and _has_subject(text, word.start())):
                hits[rule.name] = _hit(rule, word.start(), match.end())
        if attempts > MAX_ATTEMPTS:
            raise ShieldError(f"text of {len(text)} characters has too many trigger words to judge")
    for search in rules.searches:
        match = search.pattern.search(text)
        if match:
            hits[search.name] = _hit(search, match.start(), match.end())
    return list(hits.values())


def _hit(sign: Rule | Search, start: int, end: int) -> Hit:
    return Hit(rule=sign.name, category=sign.category, weight=sign.weight, start=start, end=end)


def _has_subject(text: str, start: int) -> bool:
    return _SUBJECT.search(text, max(0, start - _SUBJECT_REACH), start) is not None
