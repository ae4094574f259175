"""The session as token ids with provenance. Knows no tokenizer, no format and no store.

The ids are the state: what the model read and wrote is kept as it was, so the next prompt begins with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agentkit.cleared import Cleared, require_cleared
from agentkit.messages import Message, Provenance, Role, message_from_json, message_to_json

MAX_ID: Final = 2**31 - 1
"""The largest token id: stores keep ids as 32-bit integers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One cleared message and the ids that put it into the context.

    `ids` may include what stands between messages, such as a header or an end of turn. `generated` says that
    the model wrote them; otherwise a format rendered them. `turn` counts from 1; 0 is before the first turn.
    `message_id` names the message for good; `decision_ids` name the shields' decisions that let it through.
    A pinned message stays in the context when others have to leave it.
    """

    message: Cleared[Message]
    ids: tuple[int, ...]
    turn: int
    generated: bool = False
    message_id: str = ""
    decision_ids: tuple[str, ...] = ()
    pinned: bool = False

    def __post_init__(self) -> None:
        message = require_cleared(self.message)
        if not isinstance(message, Message):
            raise TypeError(f"an entry holds a Message, got {type(message).__name__}")
        if self.turn < 0:
            raise ValueError(f"turn must be at least 0, got {self.turn}")
        if self.ids and not (min(self.ids) >= 0 and max(self.ids) <= MAX_ID):
            raise ValueError(f"token ids must be in [0, {MAX_ID}], got {min(self.ids)} to {max(self.ids)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry:
    """An entry as it was stored: no longer cleared. It must be judged again before it becomes an `Entry`."""

    message: Message
    ids: tuple[int, ...]
    turn: int
    generated: bool
    message_id: str = ""
    decision_ids: tuple[str, ...] = ()
    pinned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Which ids of a transcript, `start` to `end`, belong to which message, and who stands behind it."""

    start: int
    end: int
    role: Role
    provenance: Provenance
    message_id: str
    decision_ids: tuple[str, ...]
    turn: int
    generated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point of a transcript to come back to. Valid while the transcript has not been cut below it."""

    num_entries: int
    turn: int


class Transcript:
    """What has been said so far, in order. Grows at the end, is cut at the end, never changes in between.

    `entries` are an earlier conversation to go on from: a session loaded and judged again, or a fork. Where their
    last turn goes on, `key` is that turn's, as `begin_turn` takes it.

    Raises:
        ValueError: if the turns of `entries` do not rise.
    """

    def __init__(self, entries: Iterable[Entry] = (), *, key: str | None = None) -> None:
        self._entries: list[Entry] = []
        self._ids: list[int] = []
        self._turn = 0
        for entry in entries:
            self._add(entry)
        self._key = str(self._turn) if key is None else key

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
    def spans(self) -> tuple[Span, ...]:
        """What each stretch of `ids` is, in order and without gaps."""
        spans: list[Span] = []
        start = 0
        for entry in self._entries:
            end = start + len(entry.ids)
            spans.append(_span(entry, start, end))
            start = end
        return tuple(spans)

    @property
    def turn(self) -> int:
        """The number of the current turn; 0 before the first."""
        return self._turn

    @property
    def tainted(self) -> bool:
        """Whether untrusted content has come in since the current turn began."""
        return any(
            not entry.message.value.provenance.trusted for entry in self._entries[self._turn_start() :]
        )

    def prompt(self) -> Cleared[tuple[int, ...]]:
        """Return the ids of all entries as cleared content: each belongs to a cleared message."""
        return Cleared.all(entry.message for entry in self._entries).map(lambda _: self.ids)

    def begin_turn(self, key: str | None = None) -> int:
        """Count one turn more and return its number: what is appended from now on belongs to it.

        `key` begins the ids of the turn's messages; without one that is the turn's number.
        """
        self._turn += 1
        self._key = str(self._turn) if key is None else key
        return self._turn

    def append(
        self,
        message: Cleared[Message],
        ids: Sequence[int],
        *,
        generated: bool = False,
        message_id: str | None = None,
        decision_ids: Sequence[str] = (),
        pinned: bool = False,
    ) -> Entry:
        """Add a message to the current turn and return its entry; None gives the message an id of its own.

        Raises:
            TypeError: if the message was not cleared by the pipeline.
            ValueError: if an id is out of range.
        """
        entry = Entry(
            message=message,
            ids=tuple(ids),
            turn=self._turn,
            generated=generated,
            message_id=message_id or f"{self._key}.{len(self._entries) - self._turn_start()}",
            decision_ids=tuple(decision_ids),
            pinned=pinned,
        )
        self._add(entry)
        return entry

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
        turn = self._entries[-1].turn if self._entries else 0
        if turn != self._turn:
            self._turn, self._key = turn, str(turn)

    def replace(self, entries: Iterable[Entry]) -> None:
        """Go on from other entries, such as what is left of the conversation in a full context, in the same turn."""
        kept = Transcript(entries)
        self._entries, self._ids = kept._entries, kept._ids

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

    def _turn_start(self) -> int:
        """Return the index of the current turn's first entry; the number of entries where it has none yet."""
        start = len(self._entries)
        while start > 0 and self._entries[start - 1].turn == self._turn:
            start -= 1
        return start

    def _add(self, entry: Entry) -> None:
        if entry.turn < self._turn:
            raise ValueError(f"entry {len(self._entries)} is of turn {entry.turn}, after turn {self._turn}")
        self._entries.append(entry)
        self._ids.extend(entry.ids)
        self._turn = entry.turn


def entry_to_json(entry: Entry | StoredEntry) -> dict[str, Any]:
    """Return an entry as plain JSON values; `entry_from_json` reads it back."""
    message = entry.message.value if isinstance(entry, Entry) else entry.message
    return {
        "message": message_to_json(message),
        "ids": list(entry.ids),
        "turn": entry.turn,
        "generated": entry.generated,
        "message_id": entry.message_id,
        "decision_ids": list(entry.decision_ids),
        "pinned": entry.pinned,
    }


def entry_from_json(data: Mapping[str, Any]) -> StoredEntry:
    """Read an entry written by `entry_to_json`.

    Raises:
        KeyError, ValueError, TypeError: if the data is not such an entry.
    """
    return StoredEntry(
        message=message_from_json(data["message"]),
        ids=tuple(_id(token_id) for token_id in data["ids"]),
        turn=int(data["turn"]),
        generated=bool(data["generated"]),
        message_id=str(data["message_id"]),
        decision_ids=tuple(str(decision_id) for decision_id in data["decision_ids"]),
        pinned=bool(data["pinned"]),
    )


def _id(token_id: Any) -> int:
    if type(token_id) is not int or not 0 <= token_id <= MAX_ID:
        raise ValueError(f"a token id must be an integer in [0, {MAX_ID}]")
    return token_id


def _span(entry: Entry, start: int, end: int) -> Span:
    message = entry.message.value
    return Span(
        start=start,
        end=end,
        role=message.role,
        provenance=message.provenance,
        message_id=entry.message_id,
        decision_ids=entry.decision_ids,
        turn=entry.turn,
        generated=entry.generated,
    )
