"""One turn: check, generate, check, execute, check, append. Knows no store, no model files and no policy syntax."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from agentkit import telemetry
from agentkit.agent.answers import asking_for
from agentkit.agent.calls import CallDesk
from agentkit.agent.clearing import ClearedStep, Clearing
from agentkit.agent.gate import GateState
from agentkit.agent.generation import Generation, Step
from agentkit.agent.hosting import Host, hosting
from agentkit.agent.judge import Judge
from agentkit.agent.knowledge import Recall
from agentkit.agent.limits import Budget
from agentkit.agent.logbook import Logbook
from agentkit.agent.open_turn import OpenTurn, correction_ids
from agentkit.agent.result import RunStatus, UsageMeter
from agentkit.agent.room import Room
from agentkit.agent.run import TurnControl
from agentkit.agent.taint import Taint
from agentkit.agent.writer import Writer
from agentkit.cleared import Cleared, Held
from agentkit.errors import ConfigurationError, InferenceError
from agentkit.inference.base import SamplingParams, Usage
from agentkit.inference.formats.base import ToolChoice
from agentkit.memory.journal import InputAccepted, StepGenerated
from agentkit.memory.transcript import Entry, Mark, Transcript
from agentkit.messages import Message, Provenance, Role
from agentkit.shields.base import SharedStates, Stage
from agentkit.tools.approval import ApprovalRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the loop ended: `answer` is set when it completed, `limit` when one was met."""

    status: RunStatus
    answer: Cleared[str] | None = None
    limit: str | None = None
    truncated: bool = False
    waiting: tuple[ApprovalRequest, ...] = ()


@dataclass(slots=True, kw_only=True, eq=False)
class Turn:
    """Runs one turn on a transcript, from its begin or from where its journal ends.

    What a turn that ends early leaves is decided by `settled`: its start, or the end of its last step that ran a
    tool. `author` is who says what the turn begins with, `host` what the turn is to its sub-agents, tainted or not.
    """

    transcript: Transcript
    generation: Generation
    writer: Writer
    clearing: Clearing
    desk: CallDesk
    room: Room
    recall: Recall
    judge: Judge
    logbook: Logbook
    budget: Budget
    meter: UsageMeter
    sampling: SamplingParams
    answer_schema: Mapping[str, Any] | None
    tool_choice: ToolChoice
    settled: Mark
    control: TurnControl
    author: Provenance
    host: Callable[[bool], Host]

    async def run(
        self, text: str, *, unsaved: Callable[[], tuple[Entry, ...]], options: Mapping[str, Any], pinned: bool
    ) -> Ending:
        """Take what the user said to an answer, a block or a limit.

        `unsaved` returns the entries that no commit has written, `options` are what a resumed turn has to know.
        """
        decision = await self.judge.judge(Stage.USER_INPUT, text, self.author, meanwhile=self._begin_ahead)
        if decision.cleared is None:
            return Ending(status=RunStatus.BLOCKED)
        asked = decision.cleared.map(self._asked)
        notes = await self.recall.notes(decision.cleared.value)
        incoming = self.writer.num_tokens(asked) + (self.writer.num_tokens(notes.message) if notes else 0)
        await self.room.make_for_turn(incoming)
        self.settled = self.transcript.mark()
        self.transcript.begin_turn(self.logbook.turn_key)
        self.writer.append(asked, decision_ids=(decision.id,), pinned=pinned)
        if notes is not None:
            self.writer.append(notes.message, decision_ids=(notes.decision_id,))
        await self.logbook.write(
            InputAccepted(
                entries=unsaved(),
                turn=self.transcript.turn,
                turn_key=self.logbook.turn_key,
                seed=self.logbook.seed,
                options=options,
            )
        )
        return await self._steps()

    async def resume(self, known: OpenTurn) -> Ending:
        """Go on after the last record of the turn's journal; the transcript holds the turn's entries already."""
        self.budget.steps = len(known.steps)
        self.budget.tool_calls = known.tool_calls
        self._count(known.usage)
        if not known.last_step_is_whole:
            with self._keeping_calls():
                self.desk.adopt(self.clearing.calls_of(known, self.transcript), known)
                ending = await self._answer_again(known)
            if ending is not None:
                return ending
        return Ending(status=RunStatus.BLOCKED) if known.blocked else await self._steps()

    async def _answer_again(self, known: OpenTurn) -> Ending | None:
        """End the step that another run began, as that run would have."""
        if known.blocked:
            await self.desk.close_step()
            self.settled = self.transcript.mark()
            return None
        step = await self.clearing.step_again(known, self.transcript)
        return await self._answer_calls(step, correction_ids(known.steps[-1]), known=known)

    async def _steps(self) -> Ending:
        while (limit := self.budget.exceeded()) is None:
            if self.control.stop_after_step:
                return Ending(status=RunStatus.CANCELLED)
            with telemetry.span(telemetry.SPAN_STEP, **{telemetry.ATTR_STEP: self.budget.steps}):
                ending = await self._step()
            if ending is not None:
                return ending
        return Ending(status=RunStatus.LIMIT_REACHED, limit=limit)

    async def _step(self) -> Ending | None:
        index = self.budget.begin_step()
        self.settled = await self.room.make_for_step(self.settled)
        step = await self.generation.step(self.transcript, self._params(index), self._choice())
        self._count(step.usage)
        self.meter.stop_tokens.append(step.stop_token)
        if step.gate.state is GateState.BLOCKED:
            await self.generation.forget(step)
            return Ending(status=RunStatus.BLOCKED)
        says_nothing_more = step.gate.state is GateState.WITHHELD
        if says_nothing_more or not (step.parsed.calls or step.parsed.issues):
            return await self._answer(step)
        return await self._act(step, index)

    async def _answer(self, step: Step) -> Ending:
        message = step.text.map(Message.assistant)
        await self._append_output(step, message, changed=step.gate.changed, decision_ids=())
        return Ending(status=RunStatus.COMPLETED, answer=step.text, truncated=step.cut)

    async def _act(self, step: Step, index: int) -> Ending | None:
        wanted = len(step.parsed.calls)
        if not self.budget.allows_calls(wanted + len(step.parsed.issues)):
            return Ending(status=RunStatus.LIMIT_REACHED, limit="tool_calls")
        cleared = await self.clearing.clear(
            step.parsed,
            raw_text=self.generation.format.output_text(step.ids),
            call_ids=[self.logbook.call_id(index, number) for number in range(wanted)],
        )
        if cleared is None:
            await self.generation.forget(step)
            return Ending(status=RunStatus.BLOCKED)
        text = (cleared.attempt or step.text).value
        entry = await self._append_output(
            step,
            Cleared.all(cleared.calls).map(lambda calls: Message.assistant(text, calls)),
            changed=cleared.changed or step.gate.changed,
            decision_ids=cleared.decision_ids,
        )
        record = StepGenerated(
            entry=entry,
            withheld=tuple(sorted(cleared.withheld)),
            corrections=cleared.corrections,
            usage=_numbers(step.usage),
        )
        await self.logbook.write(record)
        with self._keeping_calls():
            return await self._answer_calls(cleared, correction_ids(record), known=None)

    async def _answer_calls(
        self, step: ClearedStep, corrections: Sequence[str], *, known: OpenTurn | None
    ) -> Ending | None:
        # What the calls wait for may take long: the next step wants this prefix again.
        async with self.generation.engine.pinned(self.transcript.ids):
            taint = Taint(self.transcript)
            copied = any(taint.arguments(call.value) for call in step.calls)
            with hosting(self.host(taint.context or copied)):
                results = await self.desk.answer(step, corrections, taint=taint, known=known)
        if results.waiting:
            return Ending(status=RunStatus.AWAITING_APPROVAL, waiting=results.waiting)
        self.settled = self.transcript.mark()
        return Ending(status=RunStatus.BLOCKED) if results.blocked else None

    @contextmanager
    def _keeping_calls(self) -> Iterator[None]:
        """Keep the calls of a step that is cut short in the block: they may have taken effect."""
        try:
            yield
        except BaseException:
            if self.desk.interrupted:
                self.desk.interrupt()
                self.settled = self.transcript.mark()
            raise

    async def _append_output(
        self, step: Step, message: Cleared[Message], *, changed: bool, decision_ids: Sequence[str]
    ) -> Entry:
        judged = [step.gate.decision_id] if step.gate.decision_id else []
        entry, own = self.writer.append_output(
            step, message, changed=changed, decision_ids=(*judged, *decision_ids)
        )
        if not own:
            await self.generation.forget(step)
        return entry

    def _begin_ahead(self, said: Held[str], layers: Sequence[int]) -> SharedStates | None:
        """Have the first step computed while shields judge what was said; if it cannot be, nothing is lost."""
        if self.recall.is_active:
            return None  # what will stand behind it is not known yet
        with suppress(InferenceError, ConfigurationError):
            return self.generation.begin(
                self.transcript,
                said,
                self._asked,
                self._params(self.budget.steps),
                self._choice(),
                layers=layers,
            )
        return None

    def _asked(self, said: str) -> Message:
        """Return what the turn begins with as a message."""
        return Message(role=Role.USER, content=asking_for(said, self.answer_schema), provenance=self.author)

    def _choice(self) -> ToolChoice:
        """Return what this step may do: a call is required of the first step alone, so that an answer can follow."""
        if self.tool_choice is ToolChoice.REQUIRED and self.budget.steps > 1:
            return ToolChoice.AUTO
        if self.tool_choice is ToolChoice.AUTO and not self.generation.tools.value:
            return ToolChoice.NONE
        return self.tool_choice

    def _params(self, index: int) -> SamplingParams:
        return replace(
            self.sampling,
            max_tokens=self.budget.max_output(self.sampling.max_tokens),
            seed=self.logbook.step_seed(index),
        )

    def _count(self, usage: Usage) -> None:
        self.meter.engine += usage
        self.budget.spend(usage.prefilled_tokens + usage.output_tokens)


def _numbers(usage: Usage) -> dict[str, float]:
    """Return the counts and seconds of a usage, which can be added up."""
    values = asdict(usage)
    return {name: values[name] for name in values if not name.startswith("miss_")}
