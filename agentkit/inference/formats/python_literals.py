"""Reads Python and JSON literals from text, strictly and without evaluating anything. Knows no calls."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TypeVar

MAX_DEPTH = 64

_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?(?![\w.])")
_WORD = re.compile(r"[A-Za-z_]+")
_WORDS = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}
_STRINGS = {quote: re.compile(rf"{quote}((?:[^{quote}\\]|\\.)*+){quote}", re.DOTALL) for quote in "\"'"}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "b": "\b",
    "f": "\f",
    "a": "\a",
    "v": "\v",
    "/": "/",
    '"': '"',
    "'": "'",
    "\\": "\\",
    "\n": "",
}

Item = TypeVar("Item")


def read_literal(text: str, pos: int, *, depth: int = 0) -> tuple[object, int]:
    """Return the literal at the position, and where it ends.

    Strings may hold newlines; numbers are JSON's, so NaN and infinity are none.

    Raises:
        ValueError: if there is none, saying what is wrong without repeating the text.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
    opening = text[pos : pos + 1]
    if opening in _STRINGS:
        return _read_string(text, pos)
    if opening == "[":
        return read_items(text, pos + 1, "]", lambda at: read_literal(text, at, depth=depth + 1))
    if opening == "{":
        pairs, end = read_items(text, pos + 1, "}", lambda at: _read_pair(text, at, depth))
        return unique(pairs), end
    number = _NUMBER.match(text, pos)
    if number is not None:
        return _number(number), number.end()
    word = _WORD.match(text, pos)
    if word is not None and word[0] in _WORDS:
        return _WORDS[word[0]], word.end()
    raise ValueError(f"a value is missing or no literal at character {pos}")


def read_items(
    text: str, pos: int, closing: str, read_item: Callable[[int], tuple[Item, int]]
) -> tuple[list[Item], int]:
    """Return what stands between commas up to the closing bracket, and where that ends.

    Raises:
        ValueError: if a comma or the bracket is missing, or an item cannot be read.
    """
    items: list[Item] = []
    pos = skip_space(text, pos)
    while not text.startswith(closing, pos):
        item, pos = read_item(pos)
        items.append(item)
        pos = skip_space(text, pos)
        if text.startswith(",", pos):
            pos = skip_space(text, pos + 1)
        elif not text.startswith(closing, pos):
            raise ValueError(f'"," or "{closing}" is missing at character {pos}')
    return items, pos + 1


def skip_space(text: str, pos: int) -> int:
    """Return the position of what follows the whitespace."""
    space = _SPACE.match(text, pos)
    return pos if space is None else space.end()


def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the pairs as a mapping.

    Raises:
        ValueError: if a key appears twice.
    """
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a name appears twice")
    return mapping


def _read_pair(text: str, pos: int, depth: int) -> tuple[tuple[str, object], int]:
    key, pos = read_literal(text, pos, depth=depth + 1)
    if not isinstance(key, str):
        raise ValueError("a key is not a string")  # noqa: TRY004  # what is wrong is the text
    pos = skip_space(text, pos)
    if not text.startswith(":", pos):
        raise ValueError(f'":" is missing at character {pos}')
    value, pos = read_literal(text, skip_space(text, pos + 1), depth=depth + 1)
    return (key, value), pos


def _read_string(text: str, pos: int) -> tuple[str, int]:
    string = _STRINGS[text[pos]].match(text, pos)
    if string is None:
        raise ValueError(f"the string at character {pos} has no end")
    value = _ESCAPE.sub(_unescaped, string[1])
    # JSON writes characters beyond U+FFFF as two escapes: together they are one, alone they are none.
    return value.encode("utf-16", "surrogatepass").decode("utf-16"), string.end()


def _unescaped(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2] or escape[3]
    if code is not None:
        return chr(int(code, 16))
    if escape[4] in _ESCAPES:
        return _ESCAPES[escape[4]]
    if escape[4].isdigit() or escape[4] in "uUxN":
        raise ValueError("an escape in a string is incomplete, or of a kind that is not read")
    return escape[0]


def _number(number: re.Match[str]) -> int | float:
    if number[1] is None and number[2] is None:
        return int(number[0])
    value = float(number[0])
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value
