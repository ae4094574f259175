"""The languages that Code Shield reads: what they are called, and how code without a label gives itself away."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files

import yaml


class Language(StrEnum):
    """A language that has rules."""

    PYTHON = "python"
    C = "c"
    CPP = "cpp"
    CSHARP = "csharp"
    JAVA = "java"
    JAVASCRIPT = "javascript"
    PHP = "php"
    RUST = "rust"
    GO = "go"
    SHELL = "shell"
    SQL = "sql"


_CERTAIN_WEIGHT = 6
_MOST_CANDIDATES = 3
_READ = 6_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Traits:
    """How code in one language looks. A match of `certain` weighs as much as several of `looks`."""

    looks: re.Pattern[str]
    certain: re.Pattern[str] | None

    def score(self, code: str) -> int:
        """Return how much in a text looks like the language."""
        found = sum(1 for _ in self.looks.finditer(code))
        is_certain = self.certain is not None and self.certain.search(code) is not None
        return found + _CERTAIN_WEIGHT * is_certain


def known_language(name: str | None) -> Language | None:
    """Return the language that a fence or a caller names, or None where there are no rules for it."""
    return _languages()[0].get(name.strip().lower()) if name is not None else None


def likely_languages(code: str, *, least: int = 1) -> tuple[Language, ...]:
    """Return the languages that code without a label may be in, likeliest first; none without `least` signs.

    Python is not among them: whether a text is Python is asked of its parser.
    """
    scores = {language: traits.score(code[:_READ]) for language, traits in _languages()[1].items()}
    # Whatever looks like C is read as C++, which has the rules of both.
    scores[Language.CPP] = max(scores[Language.CPP], scores.pop(Language.C))
    best = max(scores.values())
    # Snippets are short and the languages are cousins: what is close behind is read too.
    likely = [language for language, score in scores.items() if score >= least and 2 * score >= best]
    return tuple(sorted(likely, key=lambda language: -scores[language])[:_MOST_CANDIDATES])


@cache
def _languages() -> tuple[dict[str, Language], dict[Language, _Traits]]:
    """Return the languages by their names, and their traits."""
    rows = yaml.safe_load(files(__package__).joinpath("languages.yaml").read_text("utf-8"))
    by_name = {name: Language(key) for key, row in rows.items() for name in row["names"].split()}
    traits = {Language(key): _traits(Language(key), row) for key, row in rows.items() if "looks" in row}
    return by_name, traits


def _traits(language: Language, row: dict[str, list[str]]) -> _Traits:
    flags = re.MULTILINE | (re.IGNORECASE | re.DOTALL if language is Language.SQL else re.RegexFlag(0))
    looks = re.compile("|".join(f"(?:{pattern})" for pattern in row["looks"]), flags)
    certain = "|".join(row.get("certain", []))
    return _Traits(looks=looks, certain=re.compile(certain, flags) if certain else None)
