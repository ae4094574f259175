"""How each language writes comments and strings: one expression a language that finds the next of them.

Where a language leaves two readings, the one that shows more code is taken: nothing that runs may be blanked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agentkit.shields.code_shield.languages import Language


@dataclass(frozen=True, slots=True, kw_only=True)
class Syntax:
    """`openers` finds the next comment or string, named by its kind; `fills` is what in a string puts in a value.

    Where `doubtful` is found, nothing is blanked: dialects differ in where strings end, or strings are run.
    """

    openers: re.Pattern[str]
    fills: re.Pattern[str] | None = None
    doubtful: re.Pattern[str] | None = None


def _syntax(*parts: str, fills: str | None = None, doubtful: str | None = None) -> Syntax:
    return Syntax(
        openers=re.compile("|".join(parts), re.DOTALL | re.MULTILINE),
        fills=re.compile(fills) if fills is not None else None,
        doubtful=re.compile(doubtful) if doubtful is not None else None,
    )


_LINE = r"(?P<line>//[^\n]*)"
_BLOCK = r"(?P<block>/\*)"
_DOUBLE = r'(?P<string>"(?:[^"\\\n]|\\.)*+(?P<shut>"?))'
_SINGLE = r"(?P<single>'(?:[^'\\\n]|\\.)*+(?P<single_shut>'?))"
# One character: a quote alone may begin a lifetime of Rust.
_CHARACTER = r"(?P<character>'(?:[^'\\\n]|\\.[^'\n]{0,8})')"
# C has constants of several characters, and C++ quotes between digits.
_CHARACTERS = r"(?P<character>(?<!\d)'(?:[^'\\\n]|\\.){1,6}+')"
_LONG = r'(?P<long>")'
_TRIPLE = r'(?P<triple>"{3})'

# From a slash to the next: a regular expression, or two divisions. What stands before it decides.
_SLASHED = r"(?P<slashed>/(?![/*])(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.){0,200}+\]){1,500}+/[a-z]{0,8})"
BEGINS_EXPRESSION = re.compile(r"[(,=:\[&|?{;][ \t]*\Z")
MAY_BEGIN_EXPRESSION = re.compile(
    r"(?:\A|[})!\n+\-*%<>~^/]|\b(?:return|typeof|case|do|else|in|of|void|delete|throw|new|await|yield))[ \t]*\Z"
)

_C_LIKE = _syntax(
    _LINE, _BLOCK, r'(?P<raw>\bu?8?[LU]?R"(?P<raw_tag>[^\s()\\"]{0,16})\()', _DOUBLE, _CHARACTERS
)
SYNTAX: dict[Language, Syntax] = {
    Language.C: _C_LIKE,
    Language.CPP: _C_LIKE,
    Language.CSHARP: _syntax(
        _LINE, _BLOCK, _TRIPLE, r'(?P<verbatim>(?:\$@|@\$?)")', _DOUBLE, _CHARACTER, fills=r"\{\w"
    ),
    Language.JAVA: _syntax(_LINE, _BLOCK, _TRIPLE, _DOUBLE, _CHARACTER),
    Language.JAVASCRIPT: _syntax(
        _LINE, _BLOCK, _DOUBLE, _SINGLE, _SLASHED, r"(?P<template>`)", r"(?P<brace>[{}])"
    ),
    Language.PHP: _syntax(
        r"(?P<html>\?>)",
        # A closing tag ends a comment too.
        r"(?P<line>(?://|#(?!\[))[^\n?]*+(?:\?(?!>)[^\n?]*+)*+)",
        _BLOCK,
        _LONG,
        r"(?P<long_single>')",
        r"(?P<heredoc><<<[ \t]*(?P<mark>[\"']?)(?P<tag>[A-Za-z_]\w*)(?P=mark)[ \t]*\n)",
        fills=r"\$\w|\{\$",
    ),
    Language.RUST: _syntax(_LINE, _BLOCK, r'(?P<hashes>\bb?r(?P<sharps>#{0,16})")', _LONG, _CHARACTER),
    Language.GO: _syntax(_LINE, _BLOCK, _DOUBLE, _CHARACTER, r"(?P<backtick>`)"),
    # In these two, quotes can be made to look closed when they are not: a comment must begin its line.
    Language.SHELL: _syntax(
        r"(?P<line>^[ \t]*+#[^\n]*)", r"(?P<escaped>\\.)", _LONG, r"(?P<bare>')", fills=r"[$`]"
    ),
    # MySQL runs what is in `/*! */`.
    Language.SQL: _syntax(
        r"(?P<line>^[ \t]*+--[^\n]*)",
        r"(?P<block>^[ \t]*+/\*(?!!))",
        r"(?P<doubled>')",
        r'(?P<identifier>"[^"\n]*+")',
        doubtful=r"(?i)\\['\"]|\bexec(?:ute)?\s{0,9}\(|\bimmediate\b|\bprepare\b|\bsp_executesql\b",
    ),
}
