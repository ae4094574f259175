"""Parts an output, while it arrives, into text for the user and calls. Knows no special tokens.

It works from the outside in. A call can begin only at the start of a line or after another call; whatever
begins there is held back until it is known to be a call or not. A call inside other JSON, inside a sentence
or inside a code fence that holds anything else is text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import Enum, auto

from agentkit.inference.formats.brackets import BracketScanner
from agentkit.inference.formats.calls import (
    CALL_KEYS,
    Reading,
    cut_off,
    looks_like_call,
    read_builtin,
    read_function,
    read_json,
    unclosed_function,
)

_FENCE = "```"
_FUNCTION = "<function="
_FUNCTION_END = "</function>"
_SPELT_TAG = "<|python_tag|>"
_CALL_FENCES = frozenset({"", "json", "python", "py", "tool_call", "tool_calls", "tool_code", "function"})
_BUILTIN_NAMES = ("brave_search", "wolfram_alpha")
_MAX_FENCE_INFO = 16
_MAX_FUNCTION_NAME = 128
_SEPARATORS = " \t\r\n;,"
_SPACE = re.compile(r"\s*")

Reader = Callable[[str, Sequence[str] | None], list[Reading] | None]


class _Fence(Enum):
    """What a code fence holds so far."""

    NOTHING = auto()
    CALLS = auto()
    TEXT = auto()


class CallScanner:
    """One output, fed in any pieces; `known` are the names of the tools, None if any name counts.

    The whitespace before a possible call is held back with it, and dropped with the call.
    """

    def __init__(self, known: Sequence[str] | None) -> None:
        self._known = known
        builtins = (f"{name}.call(" for name in {*_BUILTIN_NAMES, *(known or ())})
        self._openings = (_FENCE, _FUNCTION, _SPELT_TAG, *builtins)
        self._first = frozenset(opening[0] for opening in self._openings)
        # A handler reads on from a position of the text and returns where it stopped.
        self._handle: Callable[[str, int], int] = self._line_start
        self._visible: list[str] = []
        self._said = False  # whether the user was told anything
        self.readings: list[Reading] = []  # calls and issues, in their order
        self._held: list[str] = []  # from the point where a call may begin
        self._start = 0  # the index in `_held` where the possible call itself begins
        self._word = ""
        self._fence: _Fence | None = None
        self._brackets = BracketScanner()
        self._reader: Reader = read_json
        self._unfinished = False  # whether what is held has the beginning of a call
        self._pending: list[Reading] = []  # calls that still need their closing tag

    def read(self, text: str) -> None:
        """Take more output."""
        pos = 0
        while pos < len(text):
            pos = self._handle(text, pos)

    def take_visible(self) -> str:
        """Return the text that turned out to be for the user since this was last asked."""
        visible = "".join(self._visible)
        self._visible.clear()
        return visible

    def end(self, *, truncated: bool) -> None:
        """Decide about what is still held."""
        if self._unfinished and self._is_attempt():
            self.readings.append(cut_off(truncated=truncated))
            self._held.clear()
        elif self.readings and not "".join(self._held).strip(_SEPARATORS):
            self._held.clear()
        else:
            self._release()

    # Text for the user.

    # Text for the user.

    def _line(self, text: str, pos: int) -> int:
        newline = text.find("\n", pos)
        end = len(text) if newline < 0 else newline
        self._say(text[pos:end])
        if newline >= 0:
            self._handle = self._line_start
        return end

    def _line_start(self, text: str, pos: int) -> int:
        pos = self._hold_space(text, pos)
        if pos < len(text):
            if self._fence is _Fence.TEXT and text[pos] != "`":
                self._release()
            else:
                self._begin(text[pos])
        return pos

    def _other_json(self, text: str, pos: int) -> int:
        end = self._brackets.scan(text, pos)
        self._say(text[pos:end])
        if end is None:
            return len(text)
        self._handle = self._line
        return end

    # Where a call may begin.

    def _begin(self, char: str) -> None:
        """Choose how to read what begins with this character, which is not read yet."""
        self._start = len(self._held)
        self._word = ""
        if char in "{[":
            self._handle = self._json_head
        elif char in self._first:
            self._handle = self._opening
        else:
            self._release()

    def _opening(self, text: str, pos: int) -> int:
        word = self._word + text[pos]
        if not any(opening.startswith(word) for opening in self._openings):
            self._release()
            return pos
        self._word = word
        self._held.append(text[pos])
        if word == _FENCE:
            self._open_or_close_fence()
        elif word == _FUNCTION:
            self._word = ""
            self._handle = self._function_name
        elif word == _SPELT_TAG:
            self._handle = self._after_call
        elif word in self._openings:
            self._hold_body(read_builtin, BracketScanner(opening="{[(", closing="}])"), seen="(")
        return pos + 1

    def _json_head(self, text: str, pos: int) -> int:
        """Read up to the end of the first key; `_word` is what was read, without the whitespace."""
        char = text[pos]
        opening, quote, key = self._word.partition('"')
        if char.isspace() and not quote:
            return self._hold_space(text, pos)
        if quote and char == '"' and key in CALL_KEYS:
            self._hold_body(read_json, BracketScanner(), seen=self._word)
            return pos
        if quote:
            possible = any(name.startswith(key + char) for name in CALL_KEYS)
        else:
            possible = opening + char in ("{", "[", "[{", '{"', '[{"')
        if not possible:
            self._pass_other_json()
            return pos
        self._word += char
        self._held.append(char)
        return pos + 1

    def _pass_other_json(self) -> None:
        self._release()
        if self._fence is None:
            self._brackets = BracketScanner()
            self._brackets.scan(self._word, 0)
            self._handle = self._other_json

    def _function_name(self, text: str, pos: int) -> int:
        char = text[pos]
        if char in "<\n" or len(self._word) >= _MAX_FUNCTION_NAME:
            self._release()
            return pos
        self._held.append(char)
        if char == ">":
            self._handle = self._function_head
        else:
            self._word += char
        return pos + 1

    def _function_head(self, text: str, pos: int) -> int:
        pos = self._hold_space(text, pos)
        if pos < len(text):
            if text[pos] == "{":
                self._hold_body(read_function, BracketScanner(), seen="")
            else:
                self._release()
        return pos

    # Inside a call.

    def _hold_body(self, reader: Reader, brackets: BracketScanner, *, seen: str) -> None:
        """Hold everything up to the closing bracket; the scanner has to know of the brackets `seen`."""
        self._reader = reader
        self._brackets = brackets
        self._brackets.scan(seen, 0)
        self._unfinished = True
        self._handle = self._body

    def _body(self, text: str, pos: int) -> int:
        end = self._brackets.scan(text, pos)
        self._held.append(text[pos:end])
        if end is None:
            return len(text)
        readings = self._reader(self._held_call(), self._known)
        if readings is None:
            self._release()
        elif self._reader is read_function:
            self._pending = readings
            self._word = ""
            self._handle = self._function_end
        else:
            self._accept(readings)
        return end

    def _function_end(self, text: str, pos: int) -> int:
        if not self._word:
            pos = self._hold_space(text, pos)
            if pos == len(text):
                return pos
        word = self._word + text[pos]
        if not _FUNCTION_END.startswith(word):
            self._accept([unclosed_function()])
            return pos
        self._word = word
        if word == _FUNCTION_END:
            self._accept(self._pending)
        return pos + 1

    def _accept(self, readings: list[Reading]) -> None:
        self.readings += readings
        self._held.clear()
        self._unfinished = False
        if self._fence is _Fence.NOTHING:
            self._fence = _Fence.CALLS
        self._handle = self._after_call

    def _after_call(self, text: str, pos: int) -> int:
        pos = self._hold_space(text, pos)
        if pos == len(text):
            return pos
        if text[pos] in ";,":
            self._held.append(text[pos])
            return pos + 1
        self._begin(text[pos])
        return pos

    # Code fences.

    def _open_or_close_fence(self) -> None:
        if self._fence is None:
            self._word = ""
            self._handle = self._fence_info
        elif self._fence is _Fence.CALLS:
            self._fence = None
            self._held.clear()
            self._handle = self._after_call
        else:
            self._release()
            self._fence = None

    def _fence_info(self, text: str, pos: int) -> int:
        char = text[pos]
        if char == "`":  # code within a line
            self._release()
            return pos
        if char != "\n" and len(self._word) < _MAX_FENCE_INFO:
            self._word += char
            self._held.append(char)
            return pos + 1
        if char == "\n" and self._word.strip().lower() in _CALL_FENCES:
            self._fence = _Fence.NOTHING
            self._handle = self._line_start
        else:
            self._fence = _Fence.TEXT
            self._release()
        return pos

    # What is held.

    def _hold_space(self, text: str, pos: int) -> int:
        space = _SPACE.match(text, pos)
        if space is None:
            return pos
        self._held.append(space[0])
        return space.end()

    def _held_call(self) -> str:
        return "".join(self._held[self._start :])

    def _say(self, text: str) -> None:
        self._visible.append(text)
        self._said = self._said or bool(text)

    def _release(self) -> None:
        """Give what is held to the user: it was no call."""
        held = "".join(self._held)
        if self.readings and not self._said:
            held = held.lstrip()
        self._say(held)
        self._held.clear()
        self._unfinished = False
        if self._fence is not None:
            self._fence = _Fence.TEXT
        self._handle = self._line

    def _is_attempt(self) -> bool:
        return self._reader is not read_json or looks_like_call(self._held_call(), self._known)
