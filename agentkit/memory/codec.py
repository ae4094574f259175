"""Entries as bytes, the same in every store: what goes in must be cleared, what comes back must be whole.

Knows no database.
"""

from __future__ import annotations

import json
import sys
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agentkit.cleared import require_cleared
from agentkit.errors import StoreError
from agentkit.memory.transcript import Entry, StoredEntry
from agentkit.messages import message_from_json, message_to_json

_ADVICE: Final = "restore a backup or delete the session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One entry as a store keeps it: JSON in UTF-8, int32 little-endian ids, and a CRC-32 over all of it.

    The JSON is the message with `message_id`, `decision_ids` and `pinned` beside its own fields.
    """

    turn: int
    generated: bool
    message: bytes
    ids: bytes
    checksum: int


def encode_entries(entries: Sequence[Entry]) -> list[Record]:
    """Return the entries as records. This is the door of every store.

    Raises:
        TypeError: if an entry's message was not cleared by the pipeline.
        StoreError: if a message cannot be written as JSON.
    """
    return [_encode(entry) for entry in entries]


def decode_entries(records: Sequence[Record], *, session_id: str) -> tuple[StoredEntry, ...]:
    """Return the records as entries, which are not cleared.

    Raises:
        StoreError: if a record is not what was written.
    """
    return tuple(
        _decode(record, f"entry {index} of session {session_id!r}") for index, record in enumerate(records)
    )


def _encode(entry: Entry) -> Record:
    require_cleared(entry.message)
    message = _message_bytes(entry)
    ids = _ids_bytes(entry.ids)
    return Record(
        turn=entry.turn,
        generated=entry.generated,
        message=message,
        ids=ids,
        checksum=_checksum(entry.turn, entry.generated, message, ids),
    )


def _decode(record: Record, name: str) -> StoredEntry:
    try:
        if record.checksum != _checksum(record.turn, record.generated, record.message, record.ids):
            raise StoreError(f"{name} is damaged: its checksum does not fit; {_ADVICE}")
        data = json.loads(record.message.decode("utf-8", "surrogatepass"))
        return StoredEntry(
            message=message_from_json(data),
            ids=_ids_from_bytes(record.ids),
            turn=record.turn,
            generated=record.generated,
            message_id=str(data.get("message_id", "")),
            decision_ids=tuple(str(decision_id) for decision_id in data.get("decision_ids", ())),
            pinned=bool(data.get("pinned", False)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise StoreError(f"{name} cannot be read; {_ADVICE}") from exc


def _message_bytes(entry: Entry) -> bytes:
    message = entry.message.value
    data = message_to_json(message) | {
        "message_id": entry.message_id,
        "decision_ids": list(entry.decision_ids),
        "pinned": entry.pinned,
    }
    try:
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as exc:
        raise StoreError(f"a message of role {message.role.value} cannot be written as JSON") from exc
    # A lone surrogate is not UTF-8, yet a tool call or a terminal can produce one: it must not cost the turn.
    return text.encode("utf-8", "surrogatepass")


def _ids_bytes(ids: Sequence[int]) -> bytes:
    return _little_endian(array("i", ids)).tobytes()


def _ids_from_bytes(data: bytes) -> tuple[int, ...]:
    ids = array("i")
    ids.frombytes(data)
    return tuple(_little_endian(ids))


def _little_endian(ids: array[int]) -> array[int]:
    if sys.byteorder == "big":
        ids.byteswap()
    return ids


def _checksum(turn: int, generated: bool, message: bytes, ids: bytes) -> int:
    head = f"{turn} {int(generated)} {len(message)} {len(ids)} ".encode()
    return zlib.crc32(ids, zlib.crc32(message, zlib.crc32(head)))
