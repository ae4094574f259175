"""The rules for languages other than Python, read from `rules/*.yaml`. Knows how a rule is written, not how it is run.

A rule is about calls of names (`calls`) or about a `pattern` in code without comments and strings; `see: text` leaves
the strings in. What follows narrows it:
    unknown: N      argument N (`any`: one of them; for a pattern: what follows) is not made of constants
    constant: N     it is made of constants
    with, unless    an expression that the call or statement must have, must not have; it sees the strings
    line            an expression that the line where it is broken must have; it sees the strings
    beside, without an expression that the whole code must have, must not have
A rule with neither is broken by what the analyser finds by itself, such as credentials.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from agentkit.shields.code_shield.languages import Language
from agentkit.shields.code_shield.prefilter import needed_words
from agentkit.shields.code_shield.rules import Rule, read_rows, read_rule

ANY = -1
_FILES: dict[Language, tuple[str, ...]] = {
    Language.C: ("c", "commands", "shared"),
    Language.CPP: ("c", "cpp", "commands", "shared"),
    Language.CSHARP: ("csharp", "commands", "shared"),
    Language.JAVA: ("java", "commands", "shared"),
    Language.JAVASCRIPT: ("javascript", "commands", "shared"),
    Language.PHP: ("php", "commands", "shared"),
    Language.RUST: ("rust", "commands", "shared"),
    Language.GO: ("go", "commands", "shared"),
    Language.SHELL: ("shell", "shared"),
    Language.SQL: ("sql", "commands", "shared"),
}
_IGNORING_CASE = frozenset({Language.PHP, Language.SQL})
# `<command>` in a pattern: where a shell reads the name of a program.
_COMMAND = (
    r"(?:^|[;&|({`!]|\b(?:then|do|else|exec|nohup|xargs|env|time)\b|-c[ \t]*[\"'])[ \t]{0,40}(?:\$[ \t]+)?"
    r"(?:sudo(?:[ \t]+-\w+){0,4}[ \t]+)?(?:/usr)?(?:/bin/|/sbin/)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """An expression to look for, and words of which the searched text must hold one for it to match."""

    expression: re.Pattern[str]
    words: frozenset[str]
    sees_strings: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternRule:
    """A rule, and what in the code breaks it, apart from its calls."""

    rule: Rule
    pattern: Pattern | None
    unknown: int | None
    constant: int | None
    having: re.Pattern[str] | None
    unless: re.Pattern[str] | None
    line: re.Pattern[str] | None
    beside: re.Pattern[str] | None
    without: re.Pattern[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageRules:
    """The rules of a language: by the last part of the name that is called, those with a pattern, and the others."""

    by_name: dict[str, tuple[tuple[str, PatternRule], ...]]
    patterns: tuple[tuple[Pattern, PatternRule], ...]
    others: dict[str, Rule]
    ignore_case: bool


@cache
def rules_of(language: Language) -> LanguageRules:
    """Return the rules that ship in the package for a language."""
    ignore_case = language in _IGNORING_CASE
    rules = [rule for name in _FILES[language] for rule in read_rules(name, ignore_case=ignore_case)]
    by_name: dict[str, tuple[tuple[str, PatternRule], ...]] = {}
    for rule in rules:
        for written in rule.rule.calls:
            call = written.lower() if ignore_case else written
            name = call.rpartition(".")[2]
            by_name[name] = (*by_name.get(name, ()), (call, rule))
    return LanguageRules(
        by_name=by_name,
        patterns=tuple((rule.pattern, rule) for rule in rules if rule.pattern is not None),
        others={rule.rule.name: rule.rule for rule in rules if rule.pattern is None and not rule.rule.calls},
        ignore_case=ignore_case,
    )


def read_rules(name: str, *, ignore_case: bool = False) -> list[PatternRule]:
    """Return the rules of one file."""
    flags = re.MULTILINE | (re.IGNORECASE if ignore_case else re.RegexFlag(0))
    return [_rule(row, flags) for row in read_rows(name)]


def _rule(row: dict[str, Any], flags: re.RegexFlag) -> PatternRule:
    def expression(key: str) -> re.Pattern[str] | None:
        return re.compile(row[key], flags) if key in row else None

    return PatternRule(
        rule=read_rule(row),
        pattern=_pattern(row, flags) if "pattern" in row else None,
        unknown=_argument(row.get("unknown")),
        constant=_argument(row.get("constant")),
        having=expression("with"),
        unless=expression("unless"),
        line=expression("line"),
        beside=expression("beside"),
        without=expression("without"),
    )


def _pattern(row: dict[str, Any], flags: re.RegexFlag) -> Pattern:
    written = row["pattern"].replace("<command>", _COMMAND)
    return Pattern(
        expression=re.compile(written, flags),
        words=needed_words(written, flags),
        sees_strings=row.get("see") == "text",
    )


def _argument(value: int | str | None) -> int | None:
    return ANY if value == "any" else value if isinstance(value, int) else None
