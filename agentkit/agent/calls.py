"""From cleared calls to their answers: approved, journaled, run, judged, journaled again. Knows no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from time import perf_counter
from typing import Protocol

from agentkit import telemetry
from agentkit.agent.approvals import ApprovalDesk
from agentkit.agent.clearing import CORRECTION, ClearedStep
from agentkit.agent.events import EventSink, ToolCallFinished, ToolCallStarted
from agentkit.agent.judge import Judge
from agentkit.agent.logbook import Logbook
from agentkit.agent.open_turn import OpenTurn
from agentkit.agent.result import UsageMeter
from agentkit.agent.taint import Taint
from agentkit.cleared import Cleared
from agentkit.memory.journal import CallFinished, CallIntended
from agentkit.memory.transcript import Entry
from agentkit.messages import Message, Origin, Provenance, Role, ToolCall
from agentkit.shields.base import Stage
from agentkit.shields.decision import Decision
from agentkit.shields.pipeline import WITHHELD_NOTE
from agentkit.tools.approval import ApprovalRequest, call_digest
from agentkit.tools.base import Effect, Tool
from agentkit.tools.call_context import idempotency_key
from agentkit.tools.executor import Executor, ToolOutcome
from agentkit.tools.toolset import Toolset

_INTERRUPTED = (
    "The turn ended while this call was being made. It may have taken effect; its result is not known."
)
_NOT_MADE = "The turn ended before this call was made."


class Append(Protocol):
    """Puts a message that the model did not write at the end of the transcript."""

    def __call__(self, message: Cleared[Message], *, decision_ids: Sequence[str] = ()) -> Entry:
        """Return the message's entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResults:
    """How the calls of a step ended: all answered, or some wait for a person. `blocked` ends the run."""

    waiting: tuple[ApprovalRequest, ...] = ()
    blocked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What the model reads in answer to a call or to an attempt at one; `key` names it in the journal."""

    key: str
    message: Cleared[Message]
    status: str
    decision: Decision | None = None
    event: Cleared[ToolCallFinished] | None = None

    @property
    def blocked(self) -> bool:
        """Whether it ends the turn."""
        return self.decision is not None and self.decision.blocked


class CallDesk:
    """Handles the calls of one turn. Every call gets exactly one answer, in the order of the calls."""

    def __init__(
        self,
        *,
        toolset: Toolset,
        executor: Executor,
        approvals: ApprovalDesk,
        judge: Judge,
        sink: EventSink,
        meter: UsageMeter,
        logbook: Logbook,
        append: Append,
    ) -> None:
        self._toolset = toolset
        self._executor = executor
        self._approvals = approvals
        self._judge = judge
        self._sink = sink
        self._meter = meter
        self._logbook = logbook
        self._append = append
        self._refusals: dict[str, str] = {}
        self._unanswered: list[Cleared[ToolCall]] = []
        self._running: Sequence[Cleared[ToolCall]] = ()
        self._begun = False

    async def answer(
        self, step: ClearedStep, corrections: Sequence[str], *, taint: Taint, known: OpenTurn | None = None
    ) -> StepResults:
        """Ask for the approvals that are due, run what may run, and append every answer to the transcript.

        `corrections` are the journal's names for those of the step. What `known` has an answer for is not done
        again. Nothing of the step runs while one of its calls waits for a person.
        """
        finished = known.finished if known else {}
        calls = [call for call in step.calls if call.value.id not in finished]
        self._unanswered = list(calls)
        verdicts = await self._approvals.ask_all(calls, step.withheld, taint=taint, known=known)
        if verdicts.waiting:
            return StepResults(waiting=verdicts.waiting)
        self._refusals = verdicts.refusals
        self._begun = True
        for group in self._groups(calls):
            if await self._answer_group(group, unknown=verdicts.unknown):
                await self.close_step()
                return StepResults(blocked=True)
        for key, text in zip(corrections, step.corrections, strict=True):
            if key not in finished:
                await self._keep([_Answer(key=key, message=text.map(_correction), status="refused")])
        self._begun = False
        return StepResults()

    def adopt(self, calls: Sequence[Cleared[ToolCall]], known: OpenTurn) -> None:
        """Take over the calls of a step that another run began, before anything else can go wrong."""
        self._unanswered = [call for call in calls if call.value.id not in known.finished]
        self._running = [call for call in self._unanswered if call.value.id in known.intended]
        self._begun = len(self._unanswered) < len(calls) or bool(self._running)

    @property
    def interrupted(self) -> bool:
        """Whether the step has begun and not ended: what it did is not to be forgotten."""
        return self._begun

    def interrupt(self) -> None:
        """Answer the calls of a step that ends in the middle: no call stays without an answer."""
        running = {call.value.id for call in self._running}
        for call in self._unanswered:
            refusal = self._refusals.get(call.value.id)
            maybe_made = call.value.id in running
            self._append(call.map(partial(_answer_to, refusal=refusal, maybe_made=maybe_made)))
        self._unanswered = []

    def _groups(self, calls: Sequence[Cleared[ToolCall]]) -> Iterator[list[Cleared[ToolCall]]]:
        """Part the calls into what is answered together, in order; a refused one stands alone."""
        for refused, some in groupby(calls, key=lambda call: call.value.id in self._refusals):
            if refused:
                yield from ([call] for call in some)
            else:
                yield from self._executor.groups(list(some))

    async def _answer_group(self, group: Sequence[Cleared[ToolCall]], *, unknown: frozenset[str]) -> bool:
        """Answer calls that are refused, or run side by side; return whether an answer was blocked."""
        if (refusal := self._refusals.get(group[0].value.id)) is not None:
            status = "unknown" if group[0].value.id in unknown else "refused"
            answers = [await self._refused(group[0], refusal, status)]
        else:
            outcomes = await self._run(group)
            answers = [await self._finished(*pair) for pair in zip(group, outcomes, strict=True)]
        await self._keep(answers)
        return any(answer.blocked for answer in answers)

    async def _run(self, group: Sequence[Cleared[ToolCall]]) -> Sequence[ToolOutcome]:
        """Run a group. The intent of a call that is not made again by itself is on the disk before it starts."""
        intents = [_intent(call.value) for call in group]
        if all(self._toolset.get(call.value.name).effect is Effect.READ for call in group):
            for intent in intents:
                self._logbook.note(intent)
        else:
            await self._logbook.write(*intents)
        self._running = group
        for call in group:
            await self._sink.emit(call.map(_started))
        names = ",".join(call.value.name for call in group)
        started = perf_counter()
        with telemetry.span(telemetry.SPAN_TOOL, **{telemetry.ATTR_TOOL: names}):
            outcomes = await self._executor.run_group(group)
        self._meter.tool_seconds += perf_counter() - started
        return outcomes

    async def _finished(self, call: Cleared[ToolCall], outcome: ToolOutcome) -> _Answer:
        """Judge what the model is to read as the result of a call that was made."""
        tool = self._toolset.get(call.value.name)
        return await self._judged(
            call, outcome.content, _provenance(tool), outcome.status.value, outcome.seconds
        )

    async def _refused(self, call: Cleared[ToolCall], text: str, status: str) -> _Answer:
        """Judge what the model is to read instead of a result, in the SDK's own words."""
        provenance = Provenance(origin=Origin.TOOL, source=call.value.name, trusted=True)
        return await self._judged(call, text, provenance, status, 0.0)

    async def _judged(
        self, call: Cleared[ToolCall], text: str, provenance: Provenance, status: str, seconds: float
    ) -> _Answer:
        decision = await self._judge.judge(Stage.TOOL_RESULT, text, provenance)
        content = decision.cleared or self._judge.vouch(WITHHELD_NOTE)
        return _Answer(
            key=call.value.id,
            message=content.map(lambda value: _result(value, call.value, provenance)),
            status=status,
            decision=decision,
            event=content.map(
                lambda value: ToolCallFinished(
                    call_id=call.value.id, name=call.value.name, status=status, content=value, seconds=seconds
                )
            ),
        )

    async def _keep(self, answers: Sequence[_Answer]) -> None:
        """Append the answers, journal them as one, and only then tell: what somebody saw is on the disk."""
        records = []
        for answer in answers:
            ids = (answer.decision.id,) if answer.decision else ()
            entry = self._append(answer.message, decision_ids=ids)
            records.append(
                CallFinished(entry=entry, call_id=answer.key, status=answer.status, blocked=answer.blocked)
            )
        answered = {answer.key for answer in answers}
        self._unanswered = [call for call in self._unanswered if call.value.id not in answered]
        await self._logbook.write(*records)
        for answer in answers:
            if answer.event is not None:
                await self._sink.emit(answer.event)

    async def close_step(self) -> None:
        """Answer the calls that a block keeps from being made."""
        await self._keep(
            [
                _Answer(key=call.value.id, message=call.map(unanswered_note), status="refused")
                for call in self._unanswered
            ]
        )


def unanswered_note(call: ToolCall, *, maybe_made: bool = False) -> Message:
    """Return what the model reads about a call that the end of its turn left without a result."""
    return Message.tool(_INTERRUPTED if maybe_made else _NOT_MADE, call=call, trusted=True)


def _intent(call: ToolCall) -> CallIntended:
    return CallIntended(
        call_id=call.id, tool=call.name, digest=call_digest(call), idempotency_key=idempotency_key(call)
    )


def _provenance(tool: Tool) -> Provenance:
    return Provenance(origin=tool.origin, source=tool.name, trusted=tool.trusted)


def _result(content: str, call: ToolCall, provenance: Provenance) -> Message:
    return Message(
        role=Role.TOOL, content=content, provenance=provenance, call_id=call.id, tool_name=call.name
    )


def _correction(content: str) -> Message:
    return Message(role=Role.TOOL, content=content, provenance=CORRECTION)


def _answer_to(call: ToolCall, *, refusal: str | None, maybe_made: bool) -> Message:
    if refusal is not None:
        return Message.tool(refusal, call=call, trusted=True)
    return unanswered_note(call, maybe_made=maybe_made)


def _started(call: ToolCall) -> ToolCallStarted:
    # A copy: whoever changes the event must not change the call.
    return ToolCallStarted(call_id=call.id, name=call.name, arguments=deepcopy(dict(call.arguments)))
