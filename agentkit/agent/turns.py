"""Puts one turn together, runs it within its limits and commits what it leaves. Knows no session and no policy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, Final

import anyio
from pydantic import BaseModel

from agentkit.agent.answers import answer_schema, read_answer
from agentkit.agent.approvals import ApprovalDesk
from agentkit.agent.audit import turn_ended
from agentkit.agent.calls import CallDesk
from agentkit.agent.clearing import Clearing
from agentkit.agent.context import ContextWindow
from agentkit.agent.doors import GuardedEngine
from agentkit.agent.events import EventSink
from agentkit.agent.generation import Generation
from agentkit.agent.history import SessionHistory
from agentkit.agent.hosting import Host
from agentkit.agent.judge import Judge
from agentkit.agent.knowledge import Recall
from agentkit.agent.limits import Budget, Limits
from agentkit.agent.logbook import Logbook
from agentkit.agent.loop import Ending, Turn
from agentkit.agent.options import RunOptions
from agentkit.agent.pending import settled_mark, turn_start
from agentkit.agent.result import RunResult, RunStatus, UsageMeter
from agentkit.agent.room import Room
from agentkit.agent.run import Send, TurnControl
from agentkit.agent.runtime import Runtime
from agentkit.agent.writer import Writer
from agentkit.errors import ConfigurationError, StoreError
from agentkit.inference.base import Usage
from agentkit.inference.formats.base import ToolChoice
from agentkit.memory.audit import AuditEvent
from agentkit.memory.transcript import Entry
from agentkit.messages import USER, Origin, Provenance
from agentkit.tools.approval import Approver, deciding_now
from agentkit.tools.executor import Executor

_COMMIT_SECONDS: Final = 30.0
"""How long a turn that broke or was cancelled may take to keep what it settled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSettings:
    """What holds for a turn from its begin to its end, however often it is resumed."""

    limits: Limits
    schema: Mapping[str, Any] | None
    tool_choice: ToolChoice

    @classmethod
    def of(cls, options: RunOptions, runtime: Runtime) -> TurnSettings:
        """Return what a run asks for, the agent's limits where it names none."""
        return cls(
            limits=options.get("limits") or runtime.setup.limits,
            schema=answer_schema(options.get("output_type")),
            tool_choice=ToolChoice(options.get("tool_choice", "auto")),
        )

    @classmethod
    def of_journal(cls, written: Mapping[str, Any], options: RunOptions) -> TurnSettings:
        """Return what the turn began with; whoever resumes it may set other limits.

        Raises:
            ConfigurationError: if an `output_type` is given whose schema is not the turn's.
        """
        output_type = options.get("output_type")
        schema = written["answer_schema"]
        if output_type is not None and answer_schema(output_type) != schema:
            raise ConfigurationError(
                f"the turn was begun with another output_type than {output_type.__name__}; "
                "resume it with the one that it began with, or with none"
            )
        return cls(
            limits=options.get("limits") or Limits(**written["limits"]),
            schema=schema,
            tool_choice=ToolChoice(written["tool_choice"]),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain JSON values, for the journal."""
        return {
            "limits": asdict(self.limits),
            "answer_schema": self.schema,
            "tool_choice": self.tool_choice.value,
        }


async def run_turn(
    runtime: Runtime,
    history: SessionHistory,
    text: str,
    options: RunOptions,
    *,
    send: Send,
    control: TurnControl,
    host: Host | None = None,
) -> RunResult:
    """Run a new turn with what the user said, or with what the turn asks for that calls a sub-agent: its `host`."""
    settings = TurnSettings.of(options, runtime)
    runner = _Runner(runtime, history, settings, send=send, control=control, host=host)
    pinned = options.get("pinned", False)
    return await runner.run(
        lambda turn: turn.run(text, unsaved=history.unsaved, options=settings.to_json(), pinned=pinned),
        options.get("output_type"),
    )


async def resume_turn(
    runtime: Runtime, history: SessionHistory, options: RunOptions, *, send: Send, control: TurnControl
) -> RunResult:
    """Go on with the turn that the history was loaded with."""
    known = history.open_turn
    if known is None:
        raise StoreError("the session has no unfinished turn to resume")
    settings = TurnSettings.of_journal(known.accepted.options, options)
    runner = _Runner(runtime, history, settings, send=send, control=control)
    return await runner.run(lambda turn: turn.resume(known), options.get("output_type"))


class _Runner:
    """One turn with its parts."""

    def __init__(
        self,
        runtime: Runtime,
        history: SessionHistory,
        settings: TurnSettings,
        *,
        send: Send,
        control: TurnControl,
        host: Host | None = None,
    ) -> None:
        self._host = host
        self._runtime = runtime
        self._history = history
        self._limits = settings.limits
        self._control = control
        self._sink = EventSink(send)
        self._meter = UsageMeter()
        self._budget = Budget(settings.limits, parent=host.budget if host is not None else None)
        self._before = turn_start(history)
        self._logbook = Logbook(history, seed=runtime.setup.sampling.seed)
        self._judge = Judge(
            runtime.pipeline,
            history.transcript,
            self._sink,
            self._meter,
            self._logbook,
            scope=history.scope,
            earlier=history.open_turn.decisions if history.open_turn else (),
        )
        self._turn = self._assemble(settings)

    async def run(
        self, work: Callable[[Turn], Awaitable[Ending]], output_type: type[BaseModel] | None
    ) -> RunResult:
        """Run the turn to its end and commit it; a turn that waits for a person stays open."""
        started = perf_counter()
        for decision in self._history.take_decisions():
            await self._judge.readmit(decision)
        try:
            ending = await self._within_limits(work)
            output = read_answer(ending.answer, output_type)
        except BaseException:
            with anyio.move_on_after(_COMMIT_SECONDS, shield=True), suppress(StoreError):
                await self._keep_settled("failed")  # if it fails, the journal holds it
            raise
        finally:
            if self._host is not None:
                self._host.meter.add(self._meter)
        if ending.status is RunStatus.AWAITING_APPROVAL:
            await self._logbook.write()
            self._history.leave_open()  # the store alone knows what a person answers meanwhile
        elif ending.status is RunStatus.COMPLETED:
            await self._commit(ending.status.value)
        else:
            await self._keep_settled(ending.status.value)
        result = RunResult(
            status=ending.status,
            output=output,
            messages=tuple(entry.message.value for entry in self._entries()),
            decisions=tuple(self._judge.decisions),
            usage=self._meter.total(seconds=perf_counter() - started),
            limit=ending.limit,
            truncated=ending.truncated,
            approvals=ending.waiting,
        )
        await self._sink.finish(result)
        return result

    async def _within_limits(self, work: Callable[[Turn], Awaitable[Ending]]) -> Ending:
        """Run the turn to its end, the limit of seconds, or its own cancellation."""
        with self._control.scope:
            with anyio.move_on_after(self._limits.seconds):
                async with aclosing(self._turn.generation.engine):
                    return await work(self._turn)
            return Ending(status=RunStatus.LIMIT_REACHED, limit="seconds")
        return Ending(status=RunStatus.CANCELLED)

    async def _keep_settled(self, status: str) -> None:
        """End a turn early: what was settled is kept, the rest never was."""
        self._history.transcript.rewind(self._turn.settled)
        await self._commit(status)

    async def _commit(self, status: str) -> None:
        """End the turn in the store. What has come to its end is kept, even when the run is cancelled just now."""
        event = self._event(status)
        try:
            await self._history.commit(event)
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(_COMMIT_SECONDS, shield=True), suppress(StoreError):
                await self._history.commit(event)
            raise

    def _entries(self) -> tuple[Entry, ...]:
        """Return what the turn has left in the transcript."""
        return tuple(entry for entry in self._history.transcript.entries if entry.turn > self._before.turn)

    def _count(self, usage: Usage) -> None:
        self._meter.engine += usage

    def _event(self, status: str) -> AuditEvent:
        return turn_ended(
            self._logbook.turn_key,
            status,
            entries=self._entries(),
            decisions=self._judge.decisions,
            policy_digest=self._runtime.setup.policy.digest,
        )

    def _assemble(self, settings: TurnSettings) -> Turn:
        runtime, history = self._runtime, self._history
        knowledge = runtime.knowledge_of(history.scope, self._judge.judge)
        toolset = runtime.toolset_of(knowledge)
        writer = Writer(history.transcript, history.format, runtime.tools, runtime.engine.tokenizer)
        approvals = ApprovalDesk(
            toolset=toolset,
            policy=runtime.setup.policy,
            approver=self._approver(),
            sink=self._sink,
            logbook=self._logbook,
        )
        desk = CallDesk(
            toolset=toolset,
            executor=Executor(toolset, session=history.key),
            approvals=approvals,
            judge=self._judge,
            sink=self._sink,
            meter=self._meter,
            logbook=self._logbook,
            append=writer.append,
        )
        engine = GuardedEngine(runtime.engine, scope=history.scope, public_ids=history.public_ids)
        window = ContextWindow(
            runtime.setup.window,
            format=history.format,
            tools=runtime.tools,
            engine=engine,
            judge=self._judge,
            context_length=runtime.engine.context_length,
            output_tokens=runtime.setup.sampling.max_tokens,
            count=self._count,
        )
        generation = Generation(
            engine=engine,
            format=history.format,
            tools=runtime.tools,
            judge=self._judge,
            sink=self._sink,
            segment_tokens=runtime.setup.policy.streaming.segment_tokens,
            answer_schema=settings.schema,
            calls_per_step=settings.limits.calls_per_step,
        )
        return Turn(
            transcript=history.transcript,
            generation=generation,
            writer=writer,
            clearing=Clearing(self._judge, toolset),
            desk=desk,
            room=Room(window, history, self._sink),
            recall=Recall(knowledge, limit=runtime.setup.knowledge_passages),
            judge=self._judge,
            logbook=self._logbook,
            budget=self._budget,
            meter=self._meter,
            sampling=runtime.setup.sampling,
            answer_schema=settings.schema,
            tool_choice=settings.tool_choice,
            settled=settled_mark(history),
            control=self._control,
            author=self._author(),
            host=self._as_host,
        )

    def _approver(self) -> Approver | None:
        """Return whom to ask; of a sub-agent, somebody who decides now: nobody could resume its run."""
        own = self._runtime.setup.approver
        return own if self._host is None else deciding_now(own or self._host.approver)

    def _author(self) -> Provenance:
        """Return who says what the turn begins with: a user, or a model that others may have talked into it."""
        if self._host is None:
            return USER
        return Provenance(origin=Origin.MODEL, trusted=not self._host.tainted)

    def _as_host(self, tainted: bool) -> Host:
        return Host(
            tenant=self._history.scope,
            depth=self._host.depth + 1 if self._host is not None else 1,
            budget=self._budget,
            meter=self._meter,
            approver=self._approver(),
            tainted=tainted,
        )
