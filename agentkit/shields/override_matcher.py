"""Runs the override rules over a folded text: which fired, and where. Knows how to match; the rules say what.

One pass finds the head words, then each rule's tail is tried where one of its heads stands. Tails look ahead a
bounded number of words, so the work is linear; `MAX_ATTEMPTS` bounds it for texts made of head words only.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from agentkit.errors import ShieldError
from agentkit.shields.override_rules import RULES, Category, Rule, Scope
from agentkit.shields.override_rules_languages import LANGUAGE_RULES, LANGUAGE_SEARCHES
from agentkit.shields.override_rules_untrusted import SEARCHES, UNTRUSTED_RULES, Search

MAX_ATTEMPTS = 400_000

_SUBJECT = re.compile(r"\b(?:we|i|they|he|she|it|who|which|that|will|would|can|could|may|might|not|cannot|won't)\W{1,3}$")
_WORD = re.compile(r"[^\W_]+(?:'[a-z]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One rule that fired, at `[start, end)` of the text that was searched."""

    rule: str
    category: Category
    weight: float
    start: int
    end: int


def _compile(rules: tuple[Rule, ...]) -> dict[str, list[tuple[Rule, re.Pattern[str]]]]:
    by_head: dict[str, list[tuple[Rule, re.Pattern[str]]]] = defaultdict(list)
    for rule in rules:
        tail = re.compile(rule.tail)
        for head in dict.fromkeys(rule.heads.split()):
            by_head[head].append((rule, tail))
    return dict(by_head)


_BY_HEAD = _compile((*RULES, *UNTRUSTED_RULES, *LANGUAGE_RULES))
_SEARCHES: tuple[Search, ...] = (*SEARCHES, *LANGUAGE_SEARCHES)

RULE_NAMES: tuple[str, ...] = tuple(
    dict.fromkeys(rule.name for rule in (*RULES, *UNTRUSTED_RULES, *LANGUAGE_RULES, *_SEARCHES))
)


def find_hits(text: str, *, untrusted: bool) -> list[Hit]:
    """Return the first hit of every rule that fires in a folded text.

    Raises:
        ShieldError: if the text holds so many head words that judging it would take too long.
    """
    hits: dict[str, Hit] = {}
    attempts = 0
    for word in _WORD.finditer(text):
        for rule, tail in _BY_HEAD.get(word[0], ()):
            if rule.name in hits or (rule.scope is Scope.UNTRUSTED and not untrusted):
                continue
            attempts += 1
            match = tail.match(text, word.end())
            if match and not (rule.imperative and _SUBJECT.search(text, max(0, word.start() - 12), word.start())):
                hits[rule.name] = Hit(
                    rule=rule.name, category=rule.category, weight=rule.weight, start=word.start(), end=match.end()
                )
        if attempts > MAX_ATTEMPTS:
            raise ShieldError(f"text of {len(text)} characters has too many trigger words to judge")
    for search in _SEARCHES:
        match = None if search.scope is Scope.UNTRUSTED and not untrusted else search.pattern.search(text)
        if match:
            hits[search.name] = Hit(
                rule=search.name, category=search.category, weight=search.weight, start=match.start(), end=match.end()
            )
    return list(hits.values())
