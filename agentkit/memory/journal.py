"""What a turn did so far, one record for each step, written before the next step begins.

A process that dies leaves these records; whoever resumes the session goes on after the last of them. Knows no
loop and no store.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, get_args

from agentkit.cleared import Cleared, require_cleared
from agentkit.errors import StoreError
from agentkit.memory.transcript import Entry, StoredEntry, entry_from_json, entry_to_json

_ADVICE: Final = "restore a backup or delete the session"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputAccepted:
    """A turn began: what the user said passed the shields.

    `entries` are all that the turn has put into the transcript so far. `turn_key` begins every id that the turn
    gives; `seed` is what all its draws follow from. `options` are the run's, as JSON.
    """

    entries: tuple[Entry | StoredEntry, ...]
    turn: int
    turn_key: str
    seed: int
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepGenerated:
    """The model wrote something that shields let through.

    It made calls, or tried to: an answer ends the turn and is committed instead. `withheld` are the ids of calls
    that shields changed beyond use. `corrections` are what the model is to be told about attempts that could
    not be read. `usage` counts tokens and seconds.
    """

    entry: Entry | StoredEntry
    withheld: tuple[str, ...]
    corrections: tuple[Cleared[str] | str, ...]
    usage: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallIntended:
    """A call is about to be made. Without a `CallFinished` its outcome is unknown."""

    call_id: str
    tool: str
    digest: str
    idempotency_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFinished:
    """A call or a correction was answered; `entry` is the answer as shields let it through.

    `blocked` says that the answer ends the turn.
    """

    entry: Entry | StoredEntry
    call_id: str
    status: str
    blocked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalAsked:
    """A person is to decide about a call; `digest` is that of its name and arguments."""

    call_id: str
    digest: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalGiven:
    """A person decided about exactly this call."""

    call_id: str
    digest: str
    approved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionMade:
    """Shields decided something: which, where and what, never the content."""

    decision: Mapping[str, Any]


JournalRecord = (
    InputAccepted | StepGenerated | CallIntended | CallFinished | ApprovalAsked | ApprovalGiven | DecisionMade
)

_KINDS: Final[Mapping[str, type[Any]]] = {kind.__name__: kind for kind in get_args(JournalRecord)}


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRow:
    """One record as a store keeps it: its kind, JSON in UTF-8, and a CRC-32 over both."""

    kind: str
    body: bytes
    checksum: int


def encode_journal(records: Sequence[JournalRecord]) -> list[JournalRow]:
    """Return the records as rows. Like `encode_entries`, this is a door of every store.

    Raises:
        TypeError: if a message was not cleared by the pipeline.
        StoreError: if a record cannot be written as JSON.
    """
    return [_encode(record) for record in records]


def decode_journal(rows: Sequence[JournalRow], *, session_id: str) -> tuple[JournalRecord, ...]:
    """Return the rows as records, whose entries are not cleared.

    Raises:
        StoreError: if a row is not what was written.
    """
    return tuple(
        _decode(row, f"journal record {index} of session {session_id!r}") for index, row in enumerate(rows)
    )


def _encode(record: JournalRecord) -> JournalRow:
    kind = type(record).__name__
    if _KINDS.get(kind) is not type(record):
        raise TypeError(f"a journal takes journal records, got {kind}")
    if isinstance(record, StepGenerated):
        for correction in record.corrections:
            require_cleared(correction)  # type: ignore[arg-type]  # one that was read back is text, and is refused
    values = {field.name: _to_json(getattr(record, field.name)) for field in fields(record)}
    try:
        body = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError, RecursionError) as exc:
        raise StoreError(f"a journal record of kind {kind} cannot be written as JSON") from exc
    return JournalRow(kind=kind, body=body, checksum=_checksum(kind, body))


def _to_json(value: Any) -> Any:
    if isinstance(value, Entry):
        require_cleared(value.message)
        return {"entry": entry_to_json(value)}
    if isinstance(value, Cleared):
        return str(value.value)
    if isinstance(value, StoredEntry):
        raise TypeError("a journal takes only cleared content, got StoredEntry")
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _decode(row: JournalRow, name: str) -> JournalRecord:
    try:
        if row.checksum != _checksum(row.kind, row.body):
            raise StoreError(f"{name} is damaged: its checksum does not fit; {_ADVICE}")
        kind = _KINDS[row.kind]
        values = json.loads(row.body.decode("utf-8", "surrogatepass"))
        record: JournalRecord = kind(**{key: _from_json(value) for key, value in values.items()})
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise StoreError(f"{name} cannot be read; {_ADVICE}") from exc
    return record


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_from_json(item) for item in value)
    if isinstance(value, dict) and value.keys() == {"entry"}:
        return entry_from_json(value["entry"])
    return value


def _checksum(kind: str, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(f"{kind} {len(body)} ".encode()))
