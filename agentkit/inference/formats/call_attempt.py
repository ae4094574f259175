"""One possible call while it arrives: ruled out, still possible, or read. Knows nothing of the text around it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from agentkit.inference.formats.brackets import BracketScanner
from agentkit.inference.formats.call_issues import Reading, cut_off, malformed_call, unclosed_function
from agentkit.inference.formats.calls import CALL_KEYS, looks_like_call, read_function, read_json
from agentkit.inference.formats.python_calls import read_builtin, read_python_list

_FUNCTION = "<function="
_FUNCTION_END = "</function>"
_SPELT_TAG = "<|python_tag|>"
_BUILTIN_NAMES = ("brave_search", "wolfram_alpha")
_MAX_NAME = 128
_SPACE = re.compile(r"\s*")
_JSON_HEADS = ("[", *(bracket + quote for bracket in ("{", "[{") for quote in ("", '"', "'")))

Reader = Callable[[str, Sequence[str] | None], list[Reading] | None]


@lru_cache(maxsize=64)
def openers(known: tuple[str, ...] | None) -> str:
    """Return the characters with which a call may begin."""
    return "".join(sorted({"{", "[", *(word[0] for word in _words(known))}))


class Attempt:
    """Begins at a character of `openers`. `readings` is None until the call is complete.

    A spelt python tag alone is complete, and calls nothing.
    """

    def __init__(self, known: tuple[str, ...] | None) -> None:
        self._known = known
        self._words = _words(known)
        self._prefixes = _prefixes(known)
        # A step reads on from a position of the text and returns where it stopped.
        self._step: Callable[[str, int], int] = self._opening
        self._seen: list[str] = []
        self._head = ""  # of JSON: the brackets and the quote before the first key
        self._word = ""  # the word or name that the present step reads
        self._brackets = BracketScanner()
        self._reader: Reader | None = None  # known once the head is complete
        self._pending: list[Reading] = []  # calls that still need their closing tag
        self.ruled_out = False
        self.readings: list[Reading] | None = None

    @property
    def text(self) -> str:
        """All that was read."""
        return "".join(self._seen)

    def read(self, text: str, pos: int) -> int:
        """Read on, up to where the call is complete or ruled out; the character that rules it out is not read."""
        while pos < len(text) and not self.ruled_out and self.readings is None:
            pos = self._step(text, pos)
        return pos

    def end(self, *, truncated: bool) -> list[Reading]:
        """Return the issue of an output that ends here, if the beginning of a call was meant."""
        if self._reader is None or (
            self._reader is read_json and not looks_like_call(self.text, self._known)
        ):
            return []
        if self._reader is read_python_list and self._known is not None and self._word not in self._known:
            return []
        return [cut_off(truncated=truncated)]

    # Heads.

    def _opening(self, text: str, pos: int) -> int:
        char = text[pos]
        if not self._word and char in "{[":
            self._step = self._json_head
            return pos
        word = self._word + char
        if word not in self._prefixes:
            self.ruled_out = True
            return pos
        self._take(char)
        if word not in self._words:
            return pos + 1
        if word == _FUNCTION:
            self._word = ""
            self._step = self._function_name
        elif word == _SPELT_TAG:
            self.readings = []
        else:
            self._hold_body(
                read_builtin, BracketScanner(opening="{[(", closing="}])", quotes="\"'"), seen="("
            )
        return pos + 1

    def _json_head(self, text: str, pos: int) -> int:
        """Read up to the end of the first key: `_head` are the brackets and the quote, `_word` is the key."""
        char = text[pos]
        is_quoted = self._head.endswith(("'", '"'))
        if char.isspace() and not is_quoted and not self._word:
            return self._take_space(text, pos)
        if self._word in CALL_KEYS and char == (self._head[-1] if is_quoted else ":"):
            quotes = '"' if self._head.endswith('"') else "\"'"
            self._hold_body(read_json, BracketScanner(quotes=quotes), seen=self._head + self._word)
            return pos
        if self._head == "[" and (char.isalpha() or char == "_"):
            self._step = self._listed_name
            return pos
        if not self._word and self._head + char in _JSON_HEADS:
            self._head += char
            self._seen.append(char)
        elif "{" in self._head and any(key.startswith(self._word + char) for key in CALL_KEYS):
            self._take(char)
        else:
            self.ruled_out = True
            return pos
        return pos + 1

    def _listed_name(self, text: str, pos: int) -> int:
        char = text[pos]
        if char == "(":
            self._hold_body(
                read_python_list, BracketScanner(opening="{[(", closing="}])", quotes="\"'"), seen="["
            )
        elif (char.isalnum() or char in "_.-") and len(self._word) < _MAX_NAME:
            self._take(char)
            return pos + 1
        else:
            self.ruled_out = True
        return pos

    def _function_name(self, text: str, pos: int) -> int:
        char = text[pos]
        if char in "<\n" or len(self._word) >= _MAX_NAME:
            self.ruled_out = True
            return pos
        if char == ">":
            self._seen.append(char)
            self._step = self._function_head
        else:
            self._take(char)
        return pos + 1

    def _function_head(self, text: str, pos: int) -> int:
        pos = self._take_space(text, pos)
        if pos < len(text):
            self._word = ""
            if text[pos] == "{":
                self._hold_body(read_function, BracketScanner(), seen="")
            elif text[pos] == "<":
                self._pending = [malformed_call("the function tag holds no JSON object of arguments")]
                self._step = self._empty_function
            else:
                self.ruled_out = True
        return pos

    # Bodies.

    def _hold_body(self, reader: Reader, brackets: BracketScanner, *, seen: str) -> None:
        """Read everything up to the closing bracket; the scanner has to know of the brackets `seen`."""
        self._reader = reader
        self._brackets = brackets
        self._brackets.scan(seen, 0)
        self._step = self._body

    def _body(self, text: str, pos: int) -> int:
        end = self._brackets.scan(text, pos)
        self._seen.append(text[pos:end])
        if end is None or self._reader is None:
            return len(text)
        readings = self._reader(self.text, self._known)
        if readings is None:
            self.ruled_out = True
        elif self._reader is read_function:
            self._pending = readings
            self._step = self._function_end
        else:
            self.readings = readings
        return end

    def _function_end(self, text: str, pos: int) -> int:
        if not self._word:
            pos = self._take_space(text, pos)
            if pos == len(text):
                return pos
        if not _FUNCTION_END.startswith(self._word + text[pos]):
            self.readings = [unclosed_function()]
            return pos
        return self._take_end(text[pos], pos)

    def _empty_function(self, text: str, pos: int) -> int:
        if not _FUNCTION_END.startswith(self._word + text[pos]):
            self.ruled_out = True
            return pos
        return self._take_end(text[pos], pos)

    def _take_end(self, char: str, pos: int) -> int:
        self._take(char)
        if self._word == _FUNCTION_END:
            self.readings = self._pending
        return pos + 1

    def _take(self, char: str) -> None:
        self._word += char
        self._seen.append(char)

    def _take_space(self, text: str, pos: int) -> int:
        space = _SPACE.match(text, pos)
        if space is None:
            return pos
        self._seen.append(space[0])
        return space.end()


@lru_cache(maxsize=64)
def _words(known: tuple[str, ...] | None) -> frozenset[str]:
    builtins = (f"{name}.call(" for name in {*_BUILTIN_NAMES, *(known or ())})
    return frozenset({_FUNCTION, _SPELT_TAG, *builtins})


@lru_cache(maxsize=64)
def _prefixes(known: tuple[str, ...] | None) -> frozenset[str]:
    return frozenset(word[:length] for word in _words(known) for length in range(1, len(word) + 1))
