"""Code in any language that has rules -> the issues in it. Knows which analyser reads which language."""

from __future__ import annotations

from agentkit.shields.code_shield.languages import Language, likely_languages
from agentkit.shields.code_shield.pattern_rules import rules_of
from agentkit.shields.code_shield.pattern_scan import scan_patterns
from agentkit.shields.code_shield.python_ast import scan_python
from agentkit.shields.code_shield.rules import Issue, load_rules


def scan_code(code: str, language: Language) -> list[Issue]:
    """Return the issues in a piece of code, by line.

    Raises:
        ShieldError: if the code is made so that judging it would take too long.
    """
    return scan_python(code) if language is Language.PYTHON else scan_patterns(code, language)


def load_all_rules() -> None:
    """Read all rules, so that the first check does not wait for it."""
    load_rules()
    likely_languages("")
    for language in Language:
        if language is not Language.PYTHON:
            rules_of(language)
