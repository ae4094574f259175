"""A session's transcript between the store and the loop: loaded, judged again, committed turn by turn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime

from agentkit.agent.runtime import Runtime
from agentkit.cleared import Cleared
from agentkit.errors import BlockedError, SessionBusyError, StoreError
from agentkit.inference.formats import format_for
from agentkit.inference.formats.base import Format
from agentkit.memory.store import SessionHeader, Store, StoredEntry, StoredSession
from agentkit.memory.transcript import Entry, Transcript
from agentkit.messages import Message, Role, ToolCall
from agentkit.shields.base import ShieldInput, Stage
from agentkit.shields.decision import Decision


class SessionHistory:
    """The transcript of one session, and what the store knows of it."""

    def __init__(self, runtime: Runtime, store: Store, session_id: str, header: SessionHeader) -> None:
        self._runtime = runtime
        self._store = store
        self._session_id = session_id
        self._header = header
        self._stored_entries = 0
        self._replace = False
        self._decisions: list[Decision] = []
        self._version = 0
        self.in_doubt = False
        """Whether the store may hold something else than this: a commit was interrupted, or another run won."""
        self.format: Format = format_for(runtime.engine.tokenizer, header.format, date=header.date)
        self.transcript = Transcript()

    @property
    def scope(self) -> str:
        """The tenant, whose sessions share cached key-value pairs: the part of the id before its last slash."""
        return self._session_id.rpartition("/")[0]

    @classmethod
    async def open(cls, runtime: Runtime, store: Store, session_id: str) -> SessionHistory:
        """Load a session, or begin a new one.

        A session continues with the very ids that the model saw, as long as its header still holds and shields
        change nothing; otherwise its messages are rendered again. Its date stays the day that it began.

        Raises:
            StoreError: if the store cannot be read.
            BlockedError: if stored content does not pass stage `memory`.
        """
        stored = await store.load(session_id)
        header = _header(runtime, date=stored.header.date if stored else None)
        history = cls(runtime, store, session_id, header)
        if stored is None:
            history._append_system()
        else:
            await history._restore(stored)
        return history

    @property
    def stored(self) -> bool:
        """Whether the store holds this session."""
        return self._version > 0

    def take_decisions(self) -> tuple[Decision, ...]:
        """Return, once, what shields decided about the stored conversation when it was loaded."""
        decisions, self._decisions = tuple(self._decisions), []
        return decisions

    async def commit(self) -> None:
        """Write what the last turn added, as one; a turn that left nothing writes nothing."""
        entries = self.transcript.entries
        if len(entries) == self._stored_entries or self.transcript.turn == 0:
            return
        self.in_doubt = True
        try:
            self._version = await self._store.commit(
                self._session_id,
                expected_version=self._version,
                header=self._header,
                entries=entries if self._replace else entries[self._stored_entries :],
                replace_from=0 if self._replace else None,
            )
        except SessionBusyError:
            raise
        except StoreError:
            self.in_doubt = False  # nothing was written: the next commit writes it
            raise
        self.in_doubt = False
        self._stored_entries = len(entries)
        self._replace = False

    def _append_system(self) -> None:
        """Begin with the instructions; with neither instructions nor tools there is nothing to say."""
        if self._runtime.instructions.value or self._runtime.tools.value:
            self._append(self._runtime.instructions.map(Message.system))

    def _append(self, message: Cleared[Message]) -> None:
        self.transcript.append(message, self._rendered((*self.transcript.messages, message.value)))

    async def _restore(self, stored: StoredSession) -> None:
        self._version = stored.version
        self._stored_entries = len(stored.entries)
        cleared = [(entry, await self._clear(entry.message)) for entry in stored.entries]
        unchanged = all(entry.message == message.value for entry, message in cleared)
        if unchanged and _same_ids(stored.header, self._header) and self._ids_say_the_same(stored):
            self.transcript = Transcript(
                Entry(message=message, ids=entry.ids, turn=entry.turn, generated=entry.generated)
                for entry, message in cleared
            )
            return
        self._replace = True
        self._append_system()
        for entry, message in cleared:
            if message.value.role is Role.SYSTEM:
                continue
            while self.transcript.turn < entry.turn:
                self.transcript.begin_turn()
            self._append(message)

    def _ids_say_the_same(self, stored: StoredSession) -> bool:
        """Whether the stored ids are those of the stored messages: shields judge the one, the model reads the other.

        What was rendered must be the same ids; what the model generated may be other ids of the same text.
        """
        messages = [entry.message for entry in stored.entries]
        ids = [token_id for entry in stored.entries for token_id in entry.ids]
        whole = self.format.render(messages, tools=self._runtime.tools.value, add_generation_prompt=False)
        return ids == whole or all(
            self._says_the_same(entry, self._rendered(messages[: index + 1]))
            for index, entry in enumerate(stored.entries)
        )

    def _says_the_same(self, entry: StoredEntry, rendered: list[int]) -> bool:
        if list(entry.ids) == rendered:
            return True
        tokenizer = self._runtime.engine.tokenizer
        special = frozenset(tokenizer.special_ids.values())
        same_specials = [i for i in entry.ids if i in special] == [i for i in rendered if i in special]
        return entry.generated and same_specials and tokenizer.decode(entry.ids) == tokenizer.decode(rendered)

    def _rendered(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of the last message, after the ones before it."""
        return self.format.render(
            messages, tools=self._runtime.tools.value, start=len(messages) - 1, add_generation_prompt=False
        )

    async def _clear(self, message: Message) -> Cleared[Message]:
        """Judge a stored message again; the policy may have changed, and the store is not ours alone."""
        if message.role is Role.SYSTEM:
            return self._runtime.instructions.map(Message.system)
        named = [message.tool_name] if message.tool_name is not None else []
        text = "\n".join([message.content, *(call.canonical() for call in message.tool_calls), *named])
        decision = await self._runtime.pipeline.judge(
            ShieldInput(text=text, stage=Stage.MEMORY, provenance=message.provenance)
        )
        self._decisions.append(decision)
        if decision.cleared is None:
            raise BlockedError(
                f"session {self._session_id} holds a message of role {message.role.value} that stage memory blocks "
                f"(shield {decision.shield}); delete the session, or run it under a policy that lets it through",
                stage=Stage.MEMORY.value,
                shield=decision.shield,
                category=decision.category,
            )
        if decision.cleared.value == text:
            return decision.cleared.map(lambda _: message)
        emptied = tuple(ToolCall(id=call.id, name=call.name, arguments={}) for call in message.tool_calls)
        return decision.cleared.map(
            lambda kept: replace(message, content=kept, tool_calls=emptied, tool_name=None)
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
        format=format_for(engine.tokenizer).name,
        instructions_digest=_digest(runtime.instructions.value),
        tools_digest=_digest(json.dumps([asdict(spec) for spec in runtime.tools.value], sort_keys=True)),
        policy_digest=runtime.setup.policy.digest,
        date=date or datetime.now(UTC).strftime("%d %b %Y"),
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
