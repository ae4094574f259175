"""What a store is: the sessions it keeps and the promises it makes. Knows no database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from agentkit.memory.transcript import Entry
from agentkit.messages import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionHeader:
    """What the ids of a session depend on. A session may go on from its ids only where these still hold.

    `model` is a name for people; the fingerprints decide. Ids mean something to one tokenizer and one format
    only. Instructions, tools and the date stand at the head of the prompt: where one changed, the head must
    be rendered again. The policy's digest says under which rules the content was cleared.
    """

    model: str
    model_fingerprint: str
    tokenizer_fingerprint: str
    format: str
    instructions_digest: str
    tools_digest: str
    policy_digest: str
    date: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry:
    """An entry as it was stored: no longer cleared. It must be judged again before it becomes an `Entry`."""

    message: Message
    ids: tuple[int, ...]
    turn: int
    generated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSession:
    """A session as its last commit left it."""

    id: str
    version: int
    header: SessionHeader
    entries: tuple[StoredEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """One line of a list of sessions. The times are in UTC."""

    id: str
    version: int
    turns: int
    entries: int
    created: datetime
    updated: datetime


@runtime_checkable
class Store(Protocol):
    """Keeps sessions. Safe to call from many tasks of one event loop.

    Every operation happens as a whole or not at all, also when it is cancelled or its process is killed. What
    a commit that has returned wrote outlives a crash, where the store outlives its process at all.

    A session id has 1 to 200 of the characters `A-Z a-z 0-9 . _ : @ / -`, by custom `tenant/session`. Every
    method raises ConfigurationError for another one, and StoreError when the store cannot be read or written,
    or is closed.
    """

    async def load(self, session_id: str) -> StoredSession | None:
        """Return a session, or None where there is none."""

    async def commit(
        self,
        session_id: str,
        *,
        expected_version: int,
        header: SessionHeader,
        entries: Sequence[Entry],
        replace_from: int | None = None,
    ) -> int:
        """Append entries to a session, as one, and return the session's new version.

        `expected_version` is the version that the caller last saw; 0 makes a new session. Versions rise over
        the whole store and are never given twice: a session that was deleted and made anew is not taken for
        the old one. `replace_from` first drops the stored entries from that index on. The header replaces the
        stored one.

        Raises:
            TypeError: if an entry's message was not cleared by the pipeline.
            SessionBusyError: if the session has another version by now; nothing changed.
            StoreError: if a message cannot be written as JSON, or `replace_from` is beyond the last entry.
        """

    async def fork(self, source_id: str, target_id: str) -> None:
        """Make a new session with the header and the entries of another.

        Raises:
            StoreError: if there is no such source, or the target exists.
        """

    async def list(self, prefix: str = "") -> list[SessionInfo]:
        """Return the sessions whose id starts with the prefix, sorted by id. One tenant's have `tenant/`."""

    async def delete(self, session_id: str) -> bool:
        """Forget a session; return whether there was one."""

    async def close(self) -> None:
        """Let go of the store. Closing twice is allowed."""
