"""A conversation that goes on: one turn at a time, kept in a store. Knows neither shields nor model files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import anyio

from agentkit import telemetry
from agentkit.agent.events import Event
from agentkit.agent.history import SessionHistory
from agentkit.agent.hosting import Host
from agentkit.agent.knowledge import judge_with
from agentkit.agent.open_turn import OpenTurn
from agentkit.agent.options import RunOptions, check_options
from agentkit.agent.pending import abandon, waiting_calls, waiting_requests
from agentkit.agent.result import RunResult
from agentkit.agent.run import Run, Send, TurnControl, streaming
from agentkit.agent.saved_kv import SavedKV, forget_kv
from agentkit.agent.turns import resume_turn, run_turn
from agentkit.errors import ConfigurationError, SessionBusyError, StoreError, UnfinishedTurnError
from agentkit.memory.audit import AuditEvent
from agentkit.memory.export import session_to_json
from agentkit.memory.journal import ApprovalGiven
from agentkit.memory.rules import check_same_tenant
from agentkit.messages import Message
from agentkit.tools.approval import ApprovalRequest
from agentkit.tools.state import SessionKey

if TYPE_CHECKING:
    from agentkit.agent.agent import Agent
    from agentkit.agent.runtime import Runtime
    from agentkit.memory.store import Store, StoredSession


class Session:
    """A conversation with one agent, made by `Agent.session`. Runs one turn at a time.

    What it does is on the disk before the next thing depends on it. A turn that a crash interrupts, or that waits
    for an approval, stays open: `resume` goes on with it, `abandon` ends it.
    """

    def __init__(self, agent: Agent, session_id: str, store: Store) -> None:
        self._agent = agent
        self._store = store
        self._history: SessionHistory | None = None
        self._running = False
        self._opening = anyio.Lock()
        self.id = session_id

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far, as the model knows it; empty until the first run or `load`."""
        return self._history.transcript.messages if self._history is not None else ()

    @property
    def unfinished(self) -> bool:
        """Whether the session was loaded in the middle of a turn."""
        return self._history is not None and self._history.open_turn is not None

    async def load(self) -> Self:
        """Read what the store holds of this session now: before the first run, or again after another's.

        Raises:
            StoreError: if the store cannot be read.
            BlockedError: if stored content does not pass stage `memory`.
        """
        if not self._running:
            self._history = None
        await self._open()
        return self

    async def run(self, text: str, **options: Unpack[RunOptions]) -> RunResult:
        """Run one turn and return its result; see `RunOptions`.

        Raises:
            UnfinishedTurnError: if the last turn has not ended; `resume` or `abandon` it first.
            SessionBusyError: if a turn of the session is running, here or elsewhere.
        """
        return await self._run(text, options, _ignore, TurnControl())

    async def run_for(self, host: Host, text: str) -> RunResult:
        """Run one turn for the turn of another agent; see `Agent.as_tool`."""
        return await self._run(text, {}, _ignore, TurnControl(), host=host)

    def stream(self, text: str, **options: Unpack[RunOptions]) -> AbstractAsyncContextManager[Run]:
        """Run one turn and give its events as they happen. Leaving the block early cancels the turn."""
        return streaming(lambda send, control: self._run(text, options, send, control))

    async def resume(self, **options: Unpack[RunOptions]) -> RunResult:
        """Go on with a turn that was interrupted, or that waited for an approval, where its journal ends.

        A call that has its result is not made again. One whose outcome is unknown is made again only if it reads
        or is idempotent; about any other a person is asked.

        Raises:
            StoreError: if there is no such turn.
        """
        return await self._resume(options, _ignore, TurnControl())

    def stream_resume(self, **options: Unpack[RunOptions]) -> AbstractAsyncContextManager[Run]:
        """Go on as `resume` does, and give the events from there on as they happen."""
        return streaming(lambda send, control: self._resume(options, send, control))

    async def abandon(self) -> None:
        """End an unfinished turn where its last finished step left it; calls that may have been made are kept.

        Raises:
            StoreError: if there is no such turn.
        """
        async with self._held() as (runtime, history):
            turn = _open_turn(self.id, history)
            await history.commit(abandon(runtime, history, turn))

    async def approvals(self) -> tuple[ApprovalRequest, ...]:
        """Return the calls of an unfinished turn that wait for a person."""
        async with self._held() as (runtime, history):
            knowledge = runtime.knowledge_of(history.scope, judge_with(runtime.pipeline, scope=history.scope))
            return waiting_requests(history, runtime.toolset_of(knowledge))

    async def approve(self, call_id: str) -> None:
        """Let a call run that waits for a person; `resume` then makes it. Needs no model.

        Raises:
            ConfigurationError: if no such call waits.
        """
        await self._answer(call_id, approved=True)

    async def deny(self, call_id: str) -> None:
        """Refuse a call that waits for a person; `resume` then tells the model. Needs no model.

        Raises:
            ConfigurationError: if no such call waits.
        """
        await self._answer(call_id, approved=False)

    async def fork(self, session_id: str, *, turn: int | None = None) -> Session:
        """Return a new session that begins with this one's conversation, up to the end of `turn`; None is all.

        It shares what it has in common: nothing is copied in the store, nor in the engine's cache.

        Raises:
            SessionBusyError: while a turn is running.
            StoreError: if the store holds a session of that id.
            ConfigurationError: if the id is another tenant's, or there is no such turn.
        """
        check_same_tenant(self.id, session_id)
        async with self._held() as (_, history):
            if history.open_turn is None:
                await history.commit()
            kept = None
            if turn is not None:
                history.check_turn(turn)
                kept = history.num_stored(until=turn)
            if history.version:
                await self._store.fork(self.id, session_id, num_entries=kept)
            elif await self._store.version(session_id):
                raise StoreError(
                    f"session {session_id!r} exists already; fork to another id, or delete it first"
                )
        return await Session(self._agent, session_id, self._store).load()

    async def rollback(self, turn: int) -> None:
        """Forget every turn after `turn`, an unfinished one included; 0 forgets all turns.

        Raises:
            ConfigurationError: if there is no such turn in the context.
        """
        async with self._held() as (_, history):
            history.check_turn(turn)
            await self.end_tools()
            history.forget_after(turn)
            await forget_kv(self._agent.kv_folder, self.id)
            await history.commit(AuditEvent(kind="session_rolled_back", details={"turn": turn}))

    async def export(self) -> dict[str, Any]:
        """Return the session as plain JSON values, versioned; `Agent.import_session` reads it.

        Raises:
            StoreError: if the store does not hold the session.
        """
        stored = await self._store.load(self.id)
        if stored is None:
            raise StoreError(f"there is no session {self.id!r} to export")
        return session_to_json(stored)

    async def begin_with(self, imported: StoredSession) -> None:
        """Keep what was exported elsewhere as this session, which must not exist; see `Agent.import_session`."""
        async with self._store.hold(self.id):
            runtime = await self._agent.start()
            history = await SessionHistory.of_import(runtime, self._store, imported)
            await history.commit(AuditEvent(kind="session_imported"))
            self._history = history

    async def close(self) -> None:
        """Save what the engine cached of the session, where the agent has a folder for it, and forget the rest.

        What tools keep for it, such as the variables of `code_interpreter`, is freed. The session goes on with its
        next run, then read from the store again.
        """
        async with self._held() as (runtime, history):
            await self.end_tools()
            await self._saved_kv(runtime).save(self.id, history.transcript.ids)
            self._history = None

    async def __aenter__(self) -> Self:
        return await self.load()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()

    async def delete(self) -> bool:
        """Forget the session; return whether there was one. Its tenant's audit log stays valid.

        Raises:
            SessionBusyError: while somebody runs it.
        """
        async with self._store.hold(self.id):
            self._history = None
            await self.end_tools()
            await forget_kv(self._agent.kv_folder, self.id)
            return await self._store.delete(self.id)

    async def end_tools(self) -> None:
        """Free what tools keep for the session, such as the variables of `code_interpreter`."""
        await self._agent.toolset.end_session(SessionKey(session_id=self.id, place=self._store))

    async def _answer(self, call_id: str, *, approved: bool) -> None:
        async with self._store.hold(self.id):
            stored = await self._store.load(self.id)
            waiting = waiting_calls(stored)
            if stored is None or call_id not in waiting:
                known = f"there is {', '.join(waiting)}" if waiting else "none waits"
                raise ConfigurationError(
                    f"session {self.id!r} has no call {call_id!r} that waits for a person; {known}"
                )
            given = ApprovalGiven(call_id=call_id, digest=waiting[call_id].digest, approved=approved)
            await self._store.append(
                self.id, expected_version=stored.version, header=stored.header, records=[given]
            )

    async def _run(
        self, text: str, options: RunOptions, send: Send, control: TurnControl, *, host: Host | None = None
    ) -> RunResult:
        check_options(options)
        async with self._held() as (runtime, history):
            if history.open_turn is not None:
                raise _unfinished(self.id, history.open_turn)
            await history.commit()  # a conversation that was rendered again
            return await self._traced(
                runtime, run_turn(runtime, history, text, options, send=send, control=control, host=host)
            )

    async def _resume(self, options: RunOptions, send: Send, control: TurnControl) -> RunResult:
        check_options(options)
        async with self._held() as (runtime, history):
            _open_turn(self.id, history)
            return await self._traced(
                runtime, resume_turn(runtime, history, options, send=send, control=control)
            )

    async def _traced(self, runtime: Runtime, turn: Awaitable[RunResult]) -> RunResult:
        attributes = {telemetry.ATTR_SESSION: self.id, telemetry.ATTR_MODEL: runtime.setup.model_name}
        with telemetry.span(telemetry.SPAN_RUN, **attributes) as span:
            result = await turn
            span.set_attributes(
                {
                    telemetry.ATTR_STATUS: result.status.value,
                    telemetry.ATTR_INPUT_TOKENS: result.usage.input_tokens,
                    telemetry.ATTR_CACHED_TOKENS: result.usage.cached_tokens,
                    telemetry.ATTR_OUTPUT_TOKENS: result.usage.output_tokens,
                }
            )
            return result

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[tuple[Runtime, SessionHistory]]:
        """Keep the session from everybody else in the block, which gets its history as the store has it now."""
        if self._running:
            raise SessionBusyError(f"session {self.id} is running a turn; wait for it or use a fork")
        self._running = True
        try:
            runtime = await self._agent.start()
            async with self._store.hold(self.id):
                yield runtime, await self._current()
        finally:
            self._running = False

    async def _current(self) -> SessionHistory:
        history = await self._open()
        if await history.is_current():
            return history
        self._history = None
        return await self._open()

    async def _open(self) -> SessionHistory:
        runtime = await self._agent.start()
        async with self._opening:
            if self._history is None or self._history.in_doubt:
                self._history = await SessionHistory.open(runtime, self._store, self.id)
                await self._saved_kv(runtime).load(self.id, self._history.transcript.ids)
            return self._history

    def _saved_kv(self, runtime: Runtime) -> SavedKV:
        return SavedKV(self._agent.kv_folder, runtime.engine)


def _open_turn(session_id: str, history: SessionHistory) -> OpenTurn:
    if history.open_turn is None:
        raise StoreError(f"session {session_id!r} has no unfinished turn")
    return history.open_turn


def _unfinished(session_id: str, turn: OpenTurn) -> UnfinishedTurnError:
    waiting = ", ".join(asked.call_id for asked in turn.waiting)
    step = len(turn.steps) + turn.last_step_is_whole
    why = f"waits for an approval of {waiting}" if waiting else f"was interrupted in step {step}"
    return UnfinishedTurnError(
        f"the last turn of session {session_id!r} {why}; resume() goes on with it, abandon() ends it"
    )


async def _ignore(event: Event) -> None:
    """Take an event that nobody listens to."""
