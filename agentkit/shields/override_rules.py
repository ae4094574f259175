"""The rules of the instruction-override detector, read from `override_data/*.yaml`. Matching is elsewhere.

A rule fires where one of its head words is followed by its tail; a search fires where its pattern is found. Both
are regular expressions on folded text (lower case, no accents, straight quotes), in which `{NAME}` stands for a
macro; one that is too long for a line is a list of its pieces. Searches may be written in any script. Weights are
logits: about `-BIAS` flags alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from agentkit.shields.glyphs import fold_character

BIAS = -5.0

_FOLDER = "override_data"
_COMMON = "common.yaml"
_MACRO = re.compile(r"\{([A-Z]\w*)\}")


class Scope(StrEnum):
    """Where a rule applies: to everything, or only to content whose author may not instruct the agent."""

    ANY = "any"
    UNTRUSTED = "untrusted"


class Category(StrEnum):
    """What kind of attack a rule is a sign of."""

    OVERRIDE = "override"
    JAILBREAK = "jailbreak"
    PROMPT_LEAK = "prompt_leak"
    ROLE_FORGERY = "role_forgery"
    INDIRECT_INSTRUCTION = "indirect_instruction"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One sign of an attack: any of the `heads`, right before what `tail` matches.

    An `imperative` rule does not fire where the head has a subject before it (`we include`).
    """

    name: str
    category: Category
    weight: float
    heads: tuple[str, ...]
    tail: re.Pattern[str]
    imperative: bool
    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A sign that is not made of words. Its pattern starts with a literal, so that looking for it is cheap."""

    name: str
    category: Category
    weight: float
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """All rules by head word, and all searches."""

    by_head: dict[str, tuple[Rule, ...]]
    searches: tuple[Search, ...]


@cache
def load_rules() -> RuleSet:
    """Return the rules that ship in the package."""
    folder = files(__package__).joinpath(_FOLDER)
    common = _read(folder.joinpath(_COMMON).read_text("utf-8"))["macros"]
    rules: list[Rule] = []
    searches: list[Search] = []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.endswith(".yaml") and path.name != _COMMON:
            data = _read(path.read_text("utf-8"))
            macros = _expanded({**common, **data.get("macros", {})})
            rules += (_rule(row, data, macros) for row in data.get("rules", ()))
            searches += (_search(row, data, macros) for row in data.get("searches", ()))
    by_head: dict[str, tuple[Rule, ...]] = {}
    for rule in rules:
        for head in dict.fromkeys(rule.heads):
            by_head[head] = (*by_head.get(head, ()), rule)
    return RuleSet(by_head=by_head, searches=tuple(searches))


def _read(text: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(text)
    return data


def _rule(row: dict[str, Any], file: dict[str, Any], macros: dict[str, str]) -> Rule:
    return Rule(
        name=row["name"],
        category=Category(row["category"] if "category" in row else file["category"]),
        weight=row["weight"],
        heads=tuple(row["heads"].split()),
        tail=re.compile(_expand(_joined(row.get("tail", "")), macros)),
        imperative=row.get("imperative", False),
        scope=Scope(row.get("scope", file.get("scope", Scope.ANY))),
    )


def _search(row: dict[str, Any], file: dict[str, Any], macros: dict[str, str]) -> Search:
    return Search(
        name=row["name"],
        category=Category(row["category"] if "category" in row else file["category"]),
        weight=row["weight"],
        pattern=re.compile(_folded(_expand(_joined(row["pattern"]), macros))),
    )


def _expanded(macros: dict[str, str | list[str]]) -> dict[str, str]:
    """Return the macros with those inside them expanded; each may use the ones before it."""
    expanded: dict[str, str] = {}
    for name, value in macros.items():
        expanded[name] = _expand(_joined(value), expanded)
    return expanded


def _joined(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)


def _folded(pattern: str) -> str:
    """Return the pattern with its letters of other scripts as they stand in folded texts."""
    return "".join(character if character.isascii() else fold_character(character) for character in pattern)


def _expand(pattern: str, macros: dict[str, str]) -> str:
    return _MACRO.sub(lambda match: macros[match[1]], pattern)
