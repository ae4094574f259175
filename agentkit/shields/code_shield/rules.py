"""The rules of Code Shield, read from `rules.yaml`, and the issue that a scan reports. Knows no code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files

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
    """What is wrong, how bad it is, and what to do instead. `calls` are dotted names; `when` names a condition."""

    name: str
    cwe: str
    severity: Severity
    message: str
    hint: str
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleBook:
    """All rules by name, and the call rules by the dotted name that they are about."""

    rules: dict[str, Rule]
    by_call: dict[str, tuple[Rule, ...]]

    def issue(self, name: str, line: int) -> Issue:
        """Return the issue of breaking the named rule at a line."""
        rule = self.rules[name]
        return Issue(
            rule=rule.name,
            cwe=rule.cwe,
            severity=rule.severity,
            line=line,
            message=rule.message,
            hint=rule.hint,
        )


@cache
def load_rules() -> RuleBook:
    """Return the rules that ship in the package."""
    rows = yaml.safe_load(files(__package__).joinpath("rules.yaml").read_text("utf-8"))
    rules = [
        Rule(
            name=row["name"],
            cwe=row["cwe"],
            severity=Severity(row["severity"]),
            message=row["message"],
            hint=row["hint"],
            when=row.get("when"),
            calls=tuple(row.get("calls", "").split()),
        )
        for row in rows
    ]
    by_call: dict[str, tuple[Rule, ...]] = {}
    for rule in rules:
        for call in rule.calls:
            by_call[call] = (*by_call.get(call, ()), rule)
    return RuleBook(rules={rule.name: rule for rule in rules}, by_call=by_call)
