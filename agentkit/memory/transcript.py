"""The session as token ids with provenance. Knows no tokenizer, no format and no store.

The ids are the state: what the model read and wrote is kept as it was, so the next prompt begins with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agentkit.cleared import Cleared, require_cleared
from agentkit.messages import Message, Role

MAX_ID: Final = 2**31 - 1
"""The largest token id: stores keep ids as 32-bit integers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One cleared message and the ids that put it into the context.

    `ids` may include what stands between messages, such as a header or an end of turn. `generated` says that
    the model wrote them; otherwise a format rendered them. `turn` counts from 1; 0 is before the first turn.
    """

    message: Cleared[Message]
    ids: tuple[int, ...]
    turn: int
    generated: bool = False

    def __post_init__(self) -> None:
        message = require_cleared(self.message)
        if not isinstance(message, Message):
            raise TypeError(f"an entry holds a Message, got {type(message).__name__}")
        if self.turn < 0:
            raise ValueError(f"turn must be at least 0, got {self.turn}")
        if self.ids and not (min(self.ids) >= 0 and max(self.ids) <= MAX_ID):
            raise ValueError(f"token ids must be in [0, {MAX_ID}], got {min(self.ids)} to {max(self.ids)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point of a transcript to come back to. Valid while the transcript has not been cut below it."""

    num_entries: int
    turn: int


class Transcript:
    """What has been said so far, in order. Grows at the end, is cut at the end, never changes in between.

    `entries` are an earlier conversation to go on from: a session loaded and judged again, or a fork.

    Raises:
        ValueError: if the turns of `entries` do not rise.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: list[Entry] = []
        self._ids: list[int] = []
        self._turn = 0
        for entry in entries:
            self._add(entry)

    def __len__(self) -> int:
        """The number of entries."""
        return len(self._entries)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The entries, oldest first."""
        return tuple(self._entries)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages, oldest first."""
        return tuple(entry.message.value for entry in self._entries)

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of all entries, in order."""
        return tuple(self._ids)

    @property
    def turn(self) -> int:
        """The number of the current turn; 0 before the first."""
        return self._turn

    @property
    def tainted(self) -> bool:
        """Whether untrusted content has come in since the last user message."""
        for entry in reversed(self._entries):
            message = entry.message.value
            if not message.provenance.trusted:
                return True
            if message.role is Role.USER:
                return False
        return False

    def prompt(self) -> Cleared[tuple[int, ...]]:
        """Return the ids of all entries as cleared content: each belongs to a cleared message."""
        return Cleared.all(entry.message for entry in self._entries).map(lambda _: self.ids)

    def begin_turn(self) -> int:
        """Count one turn more and return its number: what is appended from now on belongs to it."""
        self._turn += 1
        return self._turn

    def append(self, message: Cleared[Message], ids: Sequence[int], *, generated: bool = False) -> None:
        """Add a message to the current turn.

        Raises:
            TypeError: if the message was not cleared by the pipeline.
            ValueError: if an id is out of range.
        """
        self._add(Entry(message=message, ids=tuple(ids), turn=self._turn, generated=generated))

    def truncate(self, num_entries: int) -> None:
        """Keep the first `num_entries` entries; the current turn is then that of the last one kept.

        Raises:
            ValueError: if there are fewer.
        """
        if not 0 <= num_entries <= len(self._entries):
            raise ValueError(f"cannot keep {num_entries} of {len(self._entries)} entries")
        num_ids = sum(len(entry.ids) for entry in self._entries[num_entries:])
        del self._ids[len(self._ids) - num_ids :]
        del self._entries[num_entries:]
        self._turn = self._entries[-1].turn if self._entries else 0

    def mark(self) -> Mark:
        """Return the current end, for `rewind`."""
        return Mark(num_entries=len(self._entries), turn=self._turn)

    def rewind(self, mark: Mark) -> None:
        """Drop what was appended after the mark, turns included: a turn that failed leaves nothing.

        Raises:
            ValueError: if the transcript has been cut below the mark.
        """
        self.truncate(mark.num_entries)
        self._turn = mark.turn

    def _add(self, entry: Entry) -> None:
        if entry.turn < self._turn:
            raise ValueError(f"entry {len(self._entries)} is of turn {entry.turn}, after turn {self._turn}")
        self._entries.append(entry)
        self._ids.extend(entry.ids)
        self._turn = entry.turn
