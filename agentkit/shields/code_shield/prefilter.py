"""What a regular expression cannot match without: words that a plain search rules most rules out by.

Knows the parts of Python's expressions. Where it is unsure it names no words, and the expression is always tried.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from typing import Any

# The standard library keeps its parser of expressions under this name.
_parser: Any = importlib.import_module("re._parser")
_SHORTEST = 2


def needed_words(expression: str, flags: re.RegexFlag) -> frozenset[str]:
    """Return words of which a text must hold at least one for the expression to match; none where nothing is sure.

    With `re.IGNORECASE` the words are in lower case.
    """
    words = _words(_parser.parse(expression, flags))
    return frozenset(word.lower() for word in words) if flags & re.IGNORECASE else words


def _words(parts: Iterable[tuple[Any, Any]]) -> frozenset[str]:
    """Return the most telling words of what must match one after the other."""
    candidates: list[frozenset[str]] = []
    run = ""
    for operation, value in parts:
        if str(operation) == "LITERAL":
            run += chr(value)
            continue
        candidates += (frozenset({run}), _words_of(str(operation), value))
        run = ""
    candidates.append(frozenset({run}))
    usable = [words for words in candidates if words and min(map(len, words)) >= _SHORTEST]
    return max(usable, key=lambda words: min(map(len, words)), default=frozenset())


def _words_of(operation: str, value: Any) -> frozenset[str]:
    match operation:
        case "SUBPATTERN":
            _, added_flags, _, parts = value
            return frozenset() if added_flags & re.IGNORECASE else _words(parts)
        case "BRANCH":
            branches = [_words(parts) for parts in value[1]]
            return frozenset().union(*branches) if all(branches) else frozenset()
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, _, parts = value
            return _words(parts) if least else frozenset()
        case "ATOMIC_GROUP":
            return _words(value)
        case "ASSERT":
            return _words(value[1])
    return frozenset()
