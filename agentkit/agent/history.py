"""A session's transcript between the store and the loop: loaded, judged again, journaled, committed turn by turn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import takewhile
from typing import Self

from agentkit.agent.open_turn import OpenTurn
from agentkit.agent.public_prefix import public_ids
from agentkit.agent.readmission import Readmission
from agentkit.agent.runtime import Runtime
from agentkit.agent.same_text import say_the_same
from agentkit.cleared import Cleared
from agentkit.inference.formats.base import Format
from agentkit.memory.audit import AuditEvent
from agentkit.memory.journal import JournalRecord
from agentkit.memory.rules import check_turn, tenant_of
from agentkit.memory.store import SessionHeader, Store, StoredSession
from agentkit.memory.transcript import Entry, StoredEntry, Transcript
from agentkit.messages import Message, Role
from agentkit.shields.decision import Decision
from agentkit.tools.state import SessionKey


class SessionHistory:
    """The transcript of one session, and what the store knows of it."""

    def __init__(self, runtime: Runtime, store: Store, session_id: str, header: SessionHeader) -> None:
        self._runtime = runtime
        self._store = store
        self._session_id = session_id
        self._header = header
        self._stored: tuple[Entry, ...] = ()
        self._stored_turns: tuple[int, ...] = ()
        self._has_journal = False
        self._trimmed = False
        self._decisions: list[Decision] = []
        self._version = 0
        self.in_doubt = False
        """Whether the store may hold something else than this: a write failed, or a turn was left open."""
        self.open_turn: OpenTurn | None = None
        """The turn that was loaded unfinished; its entries are in the transcript."""
        self.format: Format = runtime.setup.prompt_format.build(runtime.engine.tokenizer, date=header.date)
        self.transcript = Transcript()

    @property
    def key(self) -> SessionKey:
        """What tools know the session by."""
        return SessionKey(session_id=self._session_id, place=self._store)

    @property
    def scope(self) -> str:
        """The tenant, whose sessions share cached key-value pairs."""
        return tenant_of(self._session_id)

    @cached_property
    def public_ids(self) -> tuple[int, ...]:
        """The ids with which every session of this agent, dialect and day begins, whoever it belongs to."""
        return public_ids(self.format, self._runtime.instructions.value, self._runtime.tools.value)

    @property
    def version(self) -> int:
        """The version that the store gave the last write; 0 where it does not hold the session."""
        return self._version

    @classmethod
    async def open(cls, runtime: Runtime, store: Store, session_id: str) -> Self:
        """Load a session, or begin a new one.

        Raises:
            StoreError: if the store cannot be read.
            BlockedError: if stored content does not pass stage `memory`.
        """
        stored = await store.load(session_id)
        if stored is None:
            history = cls(runtime, store, session_id, _header(runtime, date=None))
            history._append_system()
            return history
        history = cls(runtime, store, session_id, _header(runtime, date=stored.header.date))
        history._version = stored.version
        history._has_journal = bool(stored.journal)
        history._stored_turns = tuple(entry.turn for entry in stored.entries)
        await history._readmit(stored)
        return history

    @classmethod
    async def of_import(cls, runtime: Runtime, store: Store, imported: StoredSession) -> Self:
        """Return the history of a session that no store holds yet; its content is judged as when it is loaded.

        Raises:
            BlockedError: if content does not pass stage `memory`.
        """
        history = cls(runtime, store, imported.id, _header(runtime, date=imported.header.date))
        await history._readmit(imported)
        return history

    def take_decisions(self) -> tuple[Decision, ...]:
        """Return, once, what shields decided about the stored conversation when it was loaded."""
        decisions, self._decisions = tuple(self._decisions), []
        return decisions

    def unsaved(self) -> tuple[Entry, ...]:
        """Return the entries that no commit has written, in order."""
        return self.transcript.entries[self._num_kept() :]

    def check_turn(self, turn: int) -> None:
        """Accept a turn that has ended and is in the context; 0 is the time before the first.

        Raises:
            ConfigurationError: otherwise.
        """
        last = self.open_turn.accepted.turn - 1 if self.open_turn else self.transcript.turn
        turns = (entry.turn for entry in self.transcript.entries if entry.turn <= last)
        check_turn(self._session_id, turn, turns=turns)

    def num_stored(self, *, until: int) -> int:
        """Return how many entries the store holds of the turns up to `until`, the instructions included."""
        return sum(turn <= until for turn in self._stored_turns)

    def forget_after(self, turn: int) -> None:
        """Drop every later turn from the transcript."""
        self.transcript.truncate(sum(entry.turn <= turn for entry in self.transcript.entries))

    def leave_open(self) -> None:
        """Leave the turn to whoever loads the session again."""
        self.in_doubt = True

    async def is_current(self) -> bool:
        """Whether the store still holds what this began from."""
        return await self._store.version(self._session_id) == self._version

    async def append(self, records: Sequence[JournalRecord]) -> None:
        """Write records to the journal of the current turn; on the disk when this returns.

        Raises:
            SessionBusyError: if somebody else wrote the session.
            StoreError: if the store cannot be written.
        """
        with self._doubting():
            self._version = await self._store.append(
                self._session_id, expected_version=self._version, header=self._header, records=records
            )
            self._has_journal = True

    def trim(self, entries: Sequence[Entry]) -> None:
        """Go on from what is left of the conversation in a full context; the next commit archives the whole."""
        self.transcript.replace(entries)
        self._trimmed = True

    async def commit(self, event: AuditEvent | None = None) -> None:
        """Write what changed since the last commit, as one, and end the journal; nothing changed, nothing written.

        A session without a turn is not kept. The event goes to the audit log in any case.

        Raises:
            SessionBusyError, StoreError: as `append`.
        """
        entries = self.transcript.entries
        kept, num_stored = self._num_kept(), len(self._stored_turns)
        nothing_new = kept == len(entries) == num_stored
        with self._doubting():
            if self.transcript.turn == 0 and not num_stored:
                await self._leave_nothing(event)
            elif nothing_new and not self._has_journal:
                if event is not None:
                    await self._store.note(self._session_id, event)
            else:
                self._version = await self._store.commit(
                    self._session_id,
                    expected_version=self._version,
                    header=self._header,
                    entries=entries[kept:],
                    replace_from=kept if kept < num_stored else None,
                    archive=self._trimmed,
                    event=event,
                )
                self._stored, self._stored_turns = entries, tuple(entry.turn for entry in entries)
                self._trimmed = False
            self._has_journal = False
            self.open_turn = None

    async def _readmit(self, stored: StoredSession) -> None:
        """Take what a store or a file holds of the session; every message is judged again at stage `memory`.

        It continues with the very ids that the model saw, as long as its header still holds and shields change
        nothing; otherwise its messages are rendered again. Its date stays the day that it began.
        """
        self.open_turn = OpenTurn.read(stored.journal, session_id=stored.id)
        entries = [*stored.entries, *(self.open_turn.entries if self.open_turn else ())]
        await self._restore(stored.header, entries)

    async def _leave_nothing(self, event: AuditEvent | None) -> None:
        if event is not None:
            await self._store.note(self._session_id, event)
        if self._version:
            await self._store.delete(self._session_id, expected_version=self._version)
            self._version = 0

    @contextmanager
    def _doubting(self) -> Iterator[None]:
        """Be in doubt while a write is on its way, and after one that failed, was cut short or lost a race."""
        self.in_doubt = True
        yield
        self.in_doubt = False

    def _num_kept(self) -> int:
        """Return how many stored entries the transcript still begins with."""
        pairs = zip(self._stored, self.transcript.entries, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] is pair[1], pairs))

    def _append_system(self) -> None:
        """Begin with the instructions; with neither instructions nor tools there is nothing to say."""
        if self._runtime.instructions.value or self._runtime.tools.value:
            self._append(self._runtime.instructions.map(Message.system))

    def _append(self, message: Cleared[Message], entry: StoredEntry | None = None) -> None:
        messages = (*self.transcript.messages, message.value)
        ids = self.format.render(
            messages, tools=self._runtime.tools.value, start=len(messages) - 1, add_generation_prompt=False
        )
        self.transcript.append(
            message,
            ids,
            message_id=entry.message_id if entry else None,
            decision_ids=entry.decision_ids if entry else (),
            pinned=entry.pinned if entry else False,
        )

    async def _restore(self, header: SessionHeader, entries: Sequence[StoredEntry]) -> None:
        readmission = Readmission(self._runtime, self._session_id)
        cleared = [await readmission.clear(entry) for entry in entries]
        self._decisions = readmission.decisions
        unchanged = all(
            entry.message == message.value for entry, message in zip(entries, cleared, strict=True)
        )
        key = self.open_turn.accepted.turn_key if self.open_turn else None
        if unchanged and _same_ids(header, self._header) and self._ids_say_the_same(entries):
            self.transcript = Transcript(map(_entry, entries, cleared), key=key)
            self._stored = self.transcript.entries[: len(self._stored_turns)]
            return
        self._render_again(entries, cleared)
        self.transcript = Transcript(self.transcript.entries, key=key)

    def _render_again(self, entries: Sequence[StoredEntry], cleared: Sequence[Cleared[Message]]) -> None:
        self._append_system()
        for entry, message in zip(entries, cleared, strict=True):
            if message.value.role is Role.SYSTEM:
                continue
            while self.transcript.turn < entry.turn:
                self.transcript.begin_turn()
            self._append(message, entry)

    def _ids_say_the_same(self, entries: Sequence[StoredEntry]) -> bool:
        """Whether the stored ids are those of the stored messages: shields judge the one, the model reads the other."""
        messages = [entry.message for entry in entries]
        ids = [token_id for entry in entries for token_id in entry.ids]
        rendered = self.format.render(messages, tools=self._runtime.tools.value, add_generation_prompt=False)
        return say_the_same(self._runtime.engine.tokenizer, ids, rendered)


def _entry(stored: StoredEntry, message: Cleared[Message]) -> Entry:
    return Entry(
        message=message,
        ids=stored.ids,
        turn=stored.turn,
        generated=stored.generated,
        message_id=stored.message_id,
        decision_ids=stored.decision_ids,
        pinned=stored.pinned,
    )


def _same_ids(stored: SessionHeader, current: SessionHeader) -> bool:
    """Whether ids written under one header may be continued under the other: names and policies do not matter."""
    return replace(stored, model="", policy_digest="") == replace(current, model="", policy_digest="")


def _header(runtime: Runtime, *, date: str | None) -> SessionHeader:
    engine = runtime.engine
    fingerprint = getattr(engine, "fingerprint", runtime.setup.model_name)
    return SessionHeader(
        model=runtime.setup.model_name,
        model_fingerprint=str(fingerprint),
        tokenizer_fingerprint=engine.tokenizer.fingerprint,
        format=runtime.setup.prompt_format.key(engine.tokenizer),
        instructions_digest=_digest(runtime.instructions.value),
        tools_digest=_digest(json.dumps([asdict(spec) for spec in runtime.tools.value], sort_keys=True)),
        policy_digest=runtime.setup.policy.digest,
        date=date or datetime.now(UTC).strftime("%d %b %Y"),
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
