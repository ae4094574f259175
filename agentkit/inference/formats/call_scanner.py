"""Parts an output, while it arrives, into text for the user and calls. Knows no special tokens.

It works from the outside in. A call can begin at the start of a line or after another call, or after a space
within a line if nothing but calls follows it there; whatever begins there is held back until it is known to be a
call or not. A call inside other JSON, in quotes, within a sentence or in a code fence that holds anything else is
text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto

from agentkit.inference.formats.brackets import BracketScanner
from agentkit.inference.formats.call_attempt import Attempt, openers
from agentkit.inference.formats.call_issues import Reading

_FENCE = "```"
_CALL_FENCES = frozenset({"", "json", "python", "py", "tool_call", "tool_calls", "tool_code", "function"})
_MAX_FENCE_INFO = 16
_SEPARATORS = " \t\r\n;,"
_SPACE = re.compile(r"\s*")
_SPACE_IN_LINE = re.compile(r"[^\S\n]*")


class _Fence(Enum):
    """What a code fence holds so far."""

    NOTHING = auto()
    CALLS = auto()
    TEXT = auto()


class CallScanner:
    """One output, fed in any pieces; `known` are the names of the tools, None if any name counts.

    The whitespace before a possible call is held back with it, and dropped with the call.
    """

    def __init__(self, known: tuple[str, ...] | None) -> None:
        self._known = known
        self._openers = openers(known)
        # Where a line goes on to: its end, or a space before what may be a call, or the end of what is here.
        self._stops = re.compile(rf"\n|[^\S\n]+(?=[{re.escape(self._openers)}]|\Z)")
        # A handler reads on from a position of the text and returns where it stopped.
        self._handle: Callable[[str, int], int] = self._line_start
        self._visible: list[str] = []
        self._said = False  # whether the user was told anything
        self.readings: list[Reading] = []  # calls and issues, in their order
        self._held: list[str] = []  # from the point where a call may begin
        self._attempt: Attempt | None = None
        self._is_within_line = False  # whether that point is within a line
        self._line_calls: list[Reading] = []  # calls within a line: they count if nothing else follows on it
        self._num_held = 0  # how many pieces of what is held are theirs
        self._is_prose = False  # whether the present line can hold no more calls
        self._open_quotes: set[str] = set()
        self._word = ""
        self._fence: _Fence | None = None
        self._brackets = BracketScanner()

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
        unfinished = [] if self._attempt is None else self._attempt.end(truncated=truncated)
        if unfinished:
            self.readings += [*self._line_calls, *unfinished]
            self._held.clear()
            return
        if self._attempt is not None:
            self._held.append(self._attempt.text)
        if not "".join(self._held[self._num_held :]).strip(_SEPARATORS):
            self._count_line_calls()
        if self.readings and not "".join(self._held).strip(_SEPARATORS):
            self._held.clear()
        else:
            self._release()

    # Text for the user.

    def _line(self, text: str, pos: int) -> int:
        stop = self._stops.search(text, pos)
        if stop is None or stop[0] == "\n":
            end = len(text) if stop is None else stop.start()
            self._say(text[pos:end])
            if stop is not None:
                self._handle = self._line_start
            return end
        self._say(text[pos : stop.start()])
        self._held.append(stop[0])
        self._handle = self._gap
        return stop.end()

    def _gap(self, text: str, pos: int) -> int:
        """Look at what follows a space within a line."""
        pos = self._hold(_SPACE_IN_LINE, text, pos)
        if pos == len(text):
            return pos
        is_text = self._is_prose or self._open_quotes or self._fence is not None
        if is_text or text[pos] not in self._openers:
            self._release()
        else:
            self._is_within_line = True
            self._begin(text[pos])
        return pos

    def _line_start(self, text: str, pos: int) -> int:
        self._begin_line()
        pos = self._hold(_SPACE, text, pos)
        if pos < len(text):
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

    def _begin_line(self) -> None:
        self._is_within_line = False
        self._is_prose = False
        self._open_quotes.clear()

    def _begin(self, char: str) -> None:
        """Choose how to read what begins with this character, which is not read yet."""
        if char == "`" and not self._is_within_line:
            self._word = ""
            self._handle = self._backticks
        elif char in self._openers and self._fence is not _Fence.TEXT:
            self._attempt = Attempt(self._known)
            self._handle = self._possible_call
        else:
            self._release()
            self._is_prose = self._is_prose or char == ">"

    def _possible_call(self, text: str, pos: int) -> int:
        attempt = self._attempt
        if attempt is None:
            return pos
        pos = attempt.read(text, pos)
        if attempt.ruled_out or attempt.readings is not None:
            self._attempt = None
            self._held.append(attempt.text)
        if attempt.readings is not None:
            self._accept(attempt.readings)
        elif attempt.ruled_out:
            self._release()
            if self._fence is None:
                self._pass_other_json(attempt.text)
        return pos

    def _pass_other_json(self, begun: str) -> None:
        """Pass JSON to its end, if this is the beginning of some: calls inside it are text."""
        if begun[:1] in ("{", "[") and ('"' in begun or not self._is_within_line):
            self._brackets = BracketScanner()
            if self._brackets.scan(begun, 0) is None:
                self._handle = self._other_json

    def _accept(self, readings: list[Reading]) -> None:
        if self._is_within_line:
            self._line_calls += readings
            self._num_held = len(self._held) if self._line_calls else 0
        elif readings:
            self.readings += readings
            self._held.clear()
            if self._fence is _Fence.NOTHING:
                self._fence = _Fence.CALLS
        self._handle = self._after_call

    def _after_call(self, text: str, pos: int) -> int:
        start = pos
        pos = self._hold(_SPACE, text, pos)
        if "\n" in text[start:pos]:
            self._count_line_calls()
            self._begin_line()
        if pos == len(text):
            return pos
        if text[pos] in ";,":
            self._held.append(text[pos])
            return pos + 1
        self._begin(text[pos])
        return pos

    def _count_line_calls(self) -> None:
        """Count the calls within a line that turned out to end with them."""
        self.readings += self._line_calls
        del self._held[: self._num_held]
        self._line_calls, self._num_held = [], 0

    # Code fences.

    def _backticks(self, text: str, pos: int) -> int:
        if text[pos] != "`":
            self._release()
            return pos
        self._word += "`"
        self._held.append("`")
        if self._word == _FENCE:
            self._open_or_close_fence()
        return pos + 1

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

    def _hold(self, space: re.Pattern[str], text: str, pos: int) -> int:
        match = space.match(text, pos)
        if match is None:
            return pos
        self._held.append(match[0])
        return match.end()

    def _say(self, text: str) -> None:
        self._visible.append(text)
        self._said = self._said or bool(text)
        _, newline, line = text.rpartition("\n")
        if newline:
            self._open_quotes.clear()
        self._open_quotes ^= {quote for quote in '"`' if line.count(quote) % 2}

    def _release(self) -> None:
        """Give what is held to the user: it was no call."""
        held = "".join(self._held)
        if self.readings and not self._said:
            held = held.lstrip()
        self._say(held)
        self._held.clear()
        self._is_prose = self._is_prose or bool(self._line_calls)
        self._line_calls, self._num_held = [], 0
        if self._fence is not None:
            self._fence = _Fence.TEXT
        self._handle = self._line
