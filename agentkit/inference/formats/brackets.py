"""Finds where a bracketed text ends while it is still arriving. Knows only strings, escapes and brackets."""

from __future__ import annotations

import re

_TOKENS = re.compile(r"""["'{}\[\]()]""")
_TOKENS_IN_STRING = {'"': re.compile(r'["\\]'), "'": re.compile(r"['\\]")}


class BracketScanner:
    """Reads text once, piece by piece, up to the bracket that closes the first one.

    Round brackets and single quotes count only if they are among those given. Kinds of brackets are not
    matched against each other: whoever reads the text finds that it is malformed.
    """

    def __init__(self, *, opening: str = "{[", closing: str = "}]", quotes: str = '"') -> None:
        self._opening = opening
        self._closing = closing
        self._quotes = quotes
        self._depth = 0
        self._quote = ""  # the one that ends the string that we are in
        self._escaped = False

    def scan(self, text: str, pos: int) -> int | None:
        """Return the position after the closing bracket, or None if all of the text was read without it."""
        while pos < len(text):
            if self._escaped:
                self._escaped = False
                pos += 1
            elif self._quote:
                pos = self._scan_string(text, pos)
            else:
                end, pos = self._scan_brackets(text, pos)
                if end is not None:
                    return end
        return None

    def _scan_string(self, text: str, pos: int) -> int:
        token = _TOKENS_IN_STRING[self._quote].search(text, pos)
        if token is None:
            return len(text)
        if token[0] == "\\":
            self._escaped = True
        else:
            self._quote = ""
        return token.end()

    def _scan_brackets(self, text: str, pos: int) -> tuple[int | None, int]:
        """Return the end of the bracketed text, if it is here, and else where to go on."""
        for token in _TOKENS.finditer(text, pos):
            kind = token[0]
            if kind in self._quotes:
                self._quote = kind
                return None, token.end()
            if kind in self._opening:
                self._depth += 1
            elif kind in self._closing:
                self._depth -= 1
                if self._depth <= 0:
                    return token.end(), token.end()
        return None, len(text)
