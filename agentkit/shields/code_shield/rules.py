"""What a rule of Code Shield says, the rules for Python, and the issue that a scan reports. Knows no code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any

import yaml


class Severity(StrEnum):
    """How bad an issue is, from the mildest to the worst."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """0 for `info`, rising to `error`."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is wrong, how bad it is, and what to do instead.

    `calls` are the names whose call the rule is about, and `when`, for Python, names a condition. Each text of
    `insecure` breaks the rule, and none of `sound` does.
    """

    name: str
    cwe: str
    severity: Severity
    message: str
    hint: str
    insecure: tuple[str, ...]
    sound: tuple[str, ...]
    when: str | None = None
    calls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """A rule that a piece of code breaks, at a 1-based line."""

    rule: str
    cwe: str
    severity: Severity
    line: int
    message: str
    hint: str

    @staticmethod
    def of(rule: Rule, line: int) -> Issue:
        """Return the issue of breaking a rule at a line."""
        return Issue(
            rule=rule.name,
            cwe=rule.cwe,
            severity=rule.severity,
            line=line,
            message=rule.message,
            hint=rule.hint,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleBook:
    """All rules for Python by name, and the call rules by the dotted name that they are about."""

    rules: dict[str, Rule]
    by_call: dict[str, tuple[Rule, ...]]

    def issue(self, name: str, line: int) -> Issue:
        """Return the issue of breaking the named rule at a line."""
        return Issue.of(self.rules[name], line)


@cache
def load_rules() -> RuleBook:
    """Return the rules for Python that ship in the package."""
    rules = [read_rule(row) for row in read_rows("python")]
    by_call: dict[str, tuple[Rule, ...]] = {}
    for rule in rules:
        for call in rule.calls:
            by_call[call] = (*by_call.get(call, ()), rule)
    return RuleBook(rules={rule.name: rule for rule in rules}, by_call=by_call)


def read_rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of one file of rules."""
    rows: list[dict[str, Any]] = yaml.safe_load(
        files(__package__).joinpath("rules", f"{name}.yaml").read_text("utf-8")
    )
    return rows


def read_rule(row: dict[str, Any]) -> Rule:
    """Return the rule that a row says."""
    return Rule(
        name=row["name"],
        cwe=row["cwe"],
        severity=Severity(row["severity"]),
        message=row["message"],
        hint=row["hint"],
        insecure=_examples(row["insecure"]),
        sound=_examples(row["sound"]),
        when=row.get("when"),
        calls=tuple(row.get("calls", "").split()),
    )


def _examples(value: str | list[str]) -> tuple[str, ...]:
    """Return a list as it is, and a text as one example a line."""
    return tuple(value) if isinstance(value, list) else tuple(value.strip().splitlines())
