"""Untrusted content on its way into a call: in the context of the turn, or word for word in the arguments.

Deterministic, and honest about its reach: it finds text that was copied, not text that was reworded. Decides nothing.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, Final

from agentkit.memory.transcript import Transcript
from agentkit.messages import Message, Role, ToolCall

MIN_WHOLE: Final = 6
"""An argument of at least so many characters is marked if all of it stands in untrusted content, as whole words."""

MIN_PART: Final = 24
"""An argument is marked if it shares a stretch of at least so many characters with untrusted content."""


class Taint:
    """What untrusted content the calls of a step may have come from, as the transcript stands.

    What the user or the developer said as well is theirs. The model's own words are nobody's: what it read and repeated
    stays untrusted.
    """

    def __init__(self, transcript: Transcript) -> None:
        self.context: Final = transcript.tainted
        """Whether untrusted content has come in since the user's last message."""
        self._messages = transcript.messages
        self._untrusted: tuple[str, ...] | None = None
        self._said = ""

    def arguments(self, call: ToolCall) -> tuple[str, ...]:
        """Return the names of the arguments that hold untrusted text word for word, in any turn so far.

        Case, spacing and compatible forms of characters make no difference. Numbers are not looked at.
        """
        return tuple(name for name, value in call.arguments.items() if self._holds_untrusted(value))

    def _holds_untrusted(self, value: Any) -> bool:
        texts = [text for text in map(_normalised, _texts(value)) if len(text) >= MIN_WHOLE]
        return any(self._is_copied(text) for text in texts)

    def _is_copied(self, text: str) -> bool:
        untrusted = self._untrusted_texts()
        if any(_stands_in(text, source) for source in untrusted) and not _stands_in(text, self._said):
            return True
        parts = {text[i : i + MIN_PART] for i in range(len(text) - MIN_PART + 1)}
        foreign = {part for part in parts if part not in self._said}
        return bool(foreign) and any(_shares(foreign, source) for source in untrusted)

    def _untrusted_texts(self) -> tuple[str, ...]:
        """Return what untrusted messages say; reads the conversation once."""
        if self._untrusted is None:
            self._untrusted = tuple(_contents(self._messages, trusted=False))
            self._said = "\n".join(_contents(self._messages, trusted=True))
        return self._untrusted


def _contents(messages: Sequence[Message], *, trusted: bool) -> Iterator[str]:
    for message in messages:
        if trusted is message.provenance.trusted and (
            not trusted or message.role in (Role.USER, Role.SYSTEM)
        ):
            yield _normalised(message.content)


def _texts(value: Any) -> Iterator[str]:
    """Give every text in a JSON value; the keys of objects too, for the model chose them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _stands_in(text: str, source: str) -> bool:
    """Return whether the source holds the text as words of its own: `paris` does not stand in `comparison`."""
    start = source.find(text)
    while start >= 0:
        before, after = source[start - 1 : start], source[start + len(text) : start + len(text) + 1]
        if not _joins(before, text[0]) and not _joins(text[-1], after):
            return True
        start = source.find(text, start + 1)
    return False


def _joins(left: str, right: str) -> bool:
    return left.isalnum() and right.isalnum()


def _shares(parts: set[str], source: str) -> bool:
    return any(source[i : i + MIN_PART] in parts for i in range(len(source) - MIN_PART + 1))
