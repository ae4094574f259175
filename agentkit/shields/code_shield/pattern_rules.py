"""The rules for languages other than Python, read from `rules/*.yaml`. Knows how a rule is written, not how it is run.

A rule is about calls of names (`calls`) or about a `pattern` in code without comments and strings; `see: text` leaves
the strings in. What follows narrows it:
    unknown: N      argument N (`any`: one of them; for a pattern: what follows) is not made of constants
    constant: N     it is made of constants
    with, unless    an expression that the call or statement must have, must not have; it sees the strings
    beside, without an expression that the whole code must have, must not have
Its examples are part of it: each line, or block, of `insecure` breaks the rule, and none of `sound` does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from agentkit.shields.code_shield.languages import Language
from agentkit.shields.code_shield.rules import Rule, Severity

ANY = -1
_FILES: dict[Language, tuple[str, ...]] = {
    Language.C: ("c", "shared"),
    Language.CPP: ("c", "cpp", "shared"),
    Language.CSHARP: ("csharp", "shared"),
    Language.JAVA: ("java", "shared"),
    Language.JAVASCRIPT: ("javascript", "shared"),
    Language.PHP: ("php", "shared"),
    Language.RUST: ("rust", "shared"),
    Language.GO: ("go", "shared"),
    Language.SHELL: ("shell", "shared"),
    Language.SQL: ("sql", "shared"),
}
_IGNORING_CASE = frozenset({Language.PHP, Language.SQL})
# `<command>` in a pattern: where a shell reads the name of a program.
_COMMAND = (
    r"(?:^|[;&|({`!]|\b(?:then|do|else|exec|nohup|xargs|env|time)\b|-c[ \t]*[\"'])[ \t]{0,40}(?:\$[ \t]+)?"
    r"(?:sudo(?:[ \t]+-\w+){0,4}[ \t]+)?(?:/usr)?(?:/bin/|/sbin/)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternRule:
    """A rule, and what in the code breaks it. Exactly one of `calls` and `pattern` is there."""

    rule: Rule
    calls: tuple[str, ...]
    pattern: re.Pattern[str] | None
    sees_strings: bool
    unknown: int | None
    constant: int | None
    having: re.Pattern[str] | None
    unless: re.Pattern[str] | None
    beside: re.Pattern[str] | None
    without: re.Pattern[str] | None
    insecure: tuple[str, ...]
    sound: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageRules:
    """The rules of a language: by the last part of the name that is called, and those with a pattern."""

    by_name: dict[str, tuple[tuple[str, PatternRule], ...]]
    patterns: tuple[PatternRule, ...]
    special: dict[str, Rule]
    ignore_case: bool


@cache
def rules_of(language: Language) -> LanguageRules:
    """Return the rules that ship in the package for a language."""
    ignore_case = language in _IGNORING_CASE
    rules = [rule for name in _FILES[language] for rule in read_rules(name, ignore_case=ignore_case)]
    by_name: dict[str, tuple[tuple[str, PatternRule], ...]] = {}
    for rule in rules:
        for call in rule.calls:
            name = call.rpartition(".")[2]
            by_name[name] = (*by_name.get(name, ()), (call, rule))
    return LanguageRules(
        by_name=by_name,
        patterns=tuple(rule for rule in rules if rule.pattern is not None),
        special={rule.rule.name: rule.rule for rule in rules if rule.pattern is None and not rule.calls},
        ignore_case=ignore_case,
    )


def read_rules(name: str, *, ignore_case: bool = False) -> list[PatternRule]:
    """Return the rules of one file."""
    rows = yaml.safe_load(files(__package__).joinpath("rules", f"{name}.yaml").read_text("utf-8"))
    flags = re.MULTILINE | (re.IGNORECASE if ignore_case else re.RegexFlag(0))
    return [_rule(row, flags) for row in rows]


def _rule(row: dict[str, Any], flags: re.RegexFlag) -> PatternRule:
    def expression(key: str) -> re.Pattern[str] | None:
        return re.compile(row[key].strip().replace("<command>", _COMMAND), flags) if key in row else None

    lowered = str.lower if flags & re.IGNORECASE else str
    return PatternRule(
        rule=Rule(
            name=row["name"],
            cwe=row["cwe"],
            severity=Severity(row["severity"]),
            message=row["message"],
            hint=row["hint"],
        ),
        calls=tuple(lowered(row.get("calls", "")).split()),
        pattern=expression("pattern"),
        sees_strings=row.get("see") == "text",
        unknown=_argument(row.get("unknown")),
        constant=_argument(row.get("constant")),
        having=expression("with"),
        unless=expression("unless"),
        beside=expression("beside"),
        without=expression("without"),
        insecure=_examples(row["insecure"]),
        sound=_examples(row["sound"]),
    )


def _argument(value: int | str | None) -> int | None:
    return ANY if value == "any" else value if isinstance(value, int) else None


def _examples(value: str | list[str]) -> tuple[str, ...]:
    """Return a list as it is, and a text as one example a line."""
    return tuple(value) if isinstance(value, list) else tuple(value.strip().splitlines())
