"""What a store is: the sessions it keeps and the promises it makes. Knows no database."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from agentkit.memory.audit import AuditEvent, AuditRecord
from agentkit.memory.journal import JournalRecord
from agentkit.memory.transcript import Entry, StoredEntry


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
class StoredSession:
    """A session as its last write left it. `journal` holds the records of a turn that has not ended."""

    id: str
    version: int
    header: SessionHeader
    entries: tuple[StoredEntry, ...]
    journal: tuple[JournalRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """One line of a list of sessions. The times are in UTC.

    `unfinished` says that its last turn has not ended: it runs, waits for an approval, or was interrupted.
    """

    id: str
    version: int
    turns: int
    entries: int
    created: datetime
    updated: datetime
    unfinished: bool = False


@runtime_checkable
class Store(Protocol):
    """Keeps sessions. Safe to call from many tasks of one event loop.

    Every operation happens as a whole or not at all, also when it is cancelled or its process is killed. What
    an operation that has returned wrote outlives a crash, where the store outlives its process at all.

    A session id has 1 to 200 of the characters `A-Z a-z 0-9 . _ : @ / -`, by custom `tenant/session`. Every
    method raises ConfigurationError for another one, and StoreError when the store cannot be read or written,
    or is closed.

    A write names the version that the caller last saw; 0 makes a new session. Versions rise over the whole
    store and are never given twice: a session that was deleted and made anew is not taken for the old one.
    """

    def hold(self, session_id: str) -> AbstractAsyncContextManager[None]:
        """Keep everybody else, in this process and in others, from holding the session inside the block.

        Whoever runs, resumes or changes a session holds it. A holder that dies lets go.

        Raises:
            SessionBusyError: at once, if somebody holds it.
        """

    async def load(self, session_id: str) -> StoredSession | None:
        """Return a session, or None where there is none."""

    async def version(self, session_id: str) -> int:
        """Return a session's version without reading it; 0 where there is none."""

    async def append(
        self,
        session_id: str,
        *,
        expected_version: int,
        header: SessionHeader,
        records: Sequence[JournalRecord],
    ) -> int:
        """Append records to the journal of the session's current turn; return the session's new version.

        The header is that of a session that is new: what is stored under another header stays under it until a
        commit.

        Raises:
            TypeError: if a message in a record was not cleared by the pipeline.
            SessionBusyError: if the session has another version by now; nothing changed.
            StoreError: if a record cannot be written as JSON.
        """

    async def commit(
        self,
        session_id: str,
        *,
        expected_version: int,
        header: SessionHeader,
        entries: Sequence[Entry],
        replace_from: int | None = None,
        archive: bool = False,
        event: AuditEvent | None = None,
    ) -> int:
        """End a turn, as one: append its entries, drop its journal; return the session's new version.

        `replace_from` first drops the stored entries from that index on; with `archive` what the session held
        until now stays readable by `archived`. The header replaces the stored one. The event goes to the
        tenant's audit log.

        Raises:
            TypeError: if an entry's message was not cleared by the pipeline.
            SessionBusyError: if the session has another version by now; nothing changed.
            StoreError: if a message cannot be written as JSON, or `replace_from` is beyond the last entry.
        """

    async def archived(self, session_id: str) -> tuple[tuple[StoredEntry, ...], ...]:
        """Return what a session held before each commit that archived, oldest first."""

    async def fork(self, source_id: str, target_id: str, *, num_entries: int | None = None) -> int:
        """Make a new session with the header and the first entries of another; return its version.

        None is all of them. The entries are shared, not copied. An unfinished turn is not part of a fork.

        Raises:
            StoreError: if there is no such source, it has fewer entries, or the target exists.
        """

    async def list(self, prefix: str = "") -> list[SessionInfo]:
        """Return the sessions whose id starts with the prefix, sorted by id. One tenant's have `tenant/`."""

    async def delete(self, session_id: str, *, expected_version: int | None = None) -> bool:
        """Forget a session, its journal and its archive; return whether there was one.

        Entries that a fork shares stay with the fork. The tenant's audit log keeps a record of the deletion.

        Raises:
            SessionBusyError: if the session has another version than the one expected, 0 where there is none.
        """

    async def note(self, session_id: str, event: AuditEvent) -> None:
        """Put an event of a session on its tenant's audit log and change nothing else.

        Raises:
            StoreError: if the event cannot be written as JSON.
        """

    async def audit(self, tenant: str) -> tuple[AuditRecord, ...]:
        """Return a tenant's audit log, oldest first; see `verify_chain`."""

    async def close(self) -> None:
        """Let go of the store. Closing twice is allowed."""
