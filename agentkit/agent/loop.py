"""One turn: check, generate, check, execute, check, append. Knows no store, no model files and no policy syntax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from agentkit import telemetry
from agentkit.agent.answers import asking_for
from agentkit.agent.calls import CallDesk
from agentkit.agent.doors import GuardedEngine
from agentkit.agent.events import EventSink
from agentkit.agent.gate import GateState, OutputGate
from agentkit.agent.judge import Judge
from agentkit.agent.limits import Budget
from agentkit.agent.result import RunStatus, UsageMeter
from agentkit.cleared import Cleared
from agentkit.inference.base import SamplingParams, StopReason, Usage
from agentkit.inference.formats.base import Format, ParsedOutput, ToolChoice
from agentkit.memory.transcript import Mark, Transcript
from agentkit.messages import MODEL, USER, Message, ToolSpec
from agentkit.shields.base import Stage
from agentkit.shields.decision import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the loop ended: `answer` is set when it completed, `limit` when one was met."""

    status: RunStatus
    answer: Cleared[str] | None = None
    limit: str | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """One generation: its prompt and ids, what they mean, and the gate that its text went through."""

    prompt: Cleared[tuple[int, ...]]
    header: tuple[int, ...]
    ids: tuple[int, ...]
    parsed: ParsedOutput
    gate: OutputGate
    stop_reason: StopReason | None


class Turn:
    """Runs one turn on a transcript. What a turn that ends early leaves is decided by `settled`."""

    def __init__(
        self,
        *,
        engine: GuardedEngine,
        format: Format,  # noqa: A002  # the field's word for it
        transcript: Transcript,
        tools: Cleared[tuple[ToolSpec, ...]],
        desk: CallDesk,
        judge: Judge,
        sink: EventSink,
        budget: Budget,
        meter: UsageMeter,
        sampling: SamplingParams,
        segment_tokens: int,
        answer_schema: Mapping[str, Any] | None,
        tool_choice: ToolChoice,
    ) -> None:
        self._engine = engine
        self._format = format
        self._transcript = transcript
        self._tools = tools
        self._desk = desk
        self._judge = judge
        self._sink = sink
        self._budget = budget
        self._meter = meter
        self._sampling = sampling
        self._segment_tokens = segment_tokens
        self._answer_schema = answer_schema
        self._tool_choice = tool_choice
        self.settled: Mark = transcript.mark()
        """The last point that a turn may end at: its start, or the end of its last step that ran a tool."""

    async def run(self, text: str) -> Ending:
        """Take what the user said to an answer, a block or a limit."""
        self._transcript.begin_turn()
        decision = await self._judge.judge(Stage.USER_INPUT, text, USER)
        if decision.cleared is None:
            return Ending(status=RunStatus.BLOCKED)
        self._append(decision.cleared.map(lambda said: Message.user(asking_for(said, self._answer_schema))))
        while (limit := self._budget.exceeded()) is None:
            with telemetry.span(telemetry.SPAN_STEP, **{telemetry.ATTR_STEP: self._budget.steps}):
                ending = await self._step()
            if ending is not None:
                return ending
        return Ending(status=RunStatus.LIMIT_REACHED, limit=limit)

    async def _step(self) -> Ending | None:
        self._budget.steps += 1
        step = await self._generate()
        if step.gate.state is GateState.BLOCKED:
            await self._forget(step)
            return Ending(status=RunStatus.BLOCKED)
        says_nothing_more = step.gate.state is GateState.WITHHELD
        if says_nothing_more or not (step.parsed.calls or step.parsed.issues):
            return await self._answer(step)
        return await self._act(step)

    async def _generate(self) -> _Step:
        header = self._generation_prompt()
        prompt = self._transcript.prompt().map(lambda ids: (*ids, *header))
        params = self._params()
        choice = self._choice()
        tools = self._tools.value
        parser = self._format.parser(tools if choice is not ToolChoice.NONE else ())
        decoder = self._format.output_decoder()
        gate = OutputGate(self._judge_output, self._sink, segment_tokens=self._segment_tokens)
        grammar = self._format.call_grammar(
            tools, choice, max_calls=self._budget.limits.calls_per_step, answer_schema=self._answer_schema
        )
        ids: list[int] = []
        stop_reason: StopReason | None = None
        async with aclosing(self._engine.generate(prompt, params, grammar=grammar)) as tokens:
            async for token in tokens:
                ids.append(token.id)
                await gate.push(parser.feed(decoder.feed(token.id)))
                if token.stop_reason is not None:
                    stop_reason = token.stop_reason
                    self._count(token.usage)
                if gate.state is not GateState.OPEN:
                    break
        if stop_reason is None:
            self._count(_least_usage(prompt.value, ids))
        held = parser.feed(decoder.finish())
        rest, parsed = parser.finish(truncated=stop_reason is not StopReason.STOP_TOKEN)
        await gate.finish(held + rest)
        return _Step(
            prompt=prompt,
            header=tuple(header),
            ids=tuple(ids),
            parsed=parsed,
            gate=gate,
            stop_reason=stop_reason,
        )

    async def _answer(self, step: _Step) -> Ending:
        answer = step.gate.cleared or step.prompt.map(lambda _: "")
        await self._append_output(step, answer.map(Message.assistant), changed=step.gate.changed)
        return Ending(
            status=RunStatus.COMPLETED,
            answer=answer,
            truncated=step.stop_reason in (StopReason.MAX_TOKENS, StopReason.CONTEXT_FULL),
        )

    async def _act(self, step: _Step) -> Ending | None:
        if not self._budget.allows_calls(len(step.parsed.calls) + len(step.parsed.issues)):
            return Ending(status=RunStatus.LIMIT_REACHED, limit="tool_calls")
        tainted = self._transcript.tainted
        cleared = await self._desk.clear(step.parsed, raw_text=self._format.output_text(step.ids))
        if cleared is None:
            await self._forget(step)
            return Ending(status=RunStatus.BLOCKED)
        text = cleared.attempt or step.gate.cleared or step.prompt.map(lambda _: "")
        calls = Cleared.all(cleared.calls)
        message = calls.map(lambda made: Message.assistant(text.value, made))
        await self._append_output(step, message, changed=cleared.changed or step.gate.changed)
        try:
            results = await self._desk.execute(cleared, tainted=tainted)
        except BaseException:
            if self._desk.in_progress:
                self._keep_interrupted()
            raise
        for result in results.messages:
            self._append(result)
        self.settled = self._transcript.mark()
        return Ending(status=RunStatus.BLOCKED) if results.blocked else None

    def _keep_interrupted(self) -> None:
        """Keep the calls of a step that was cut short: they may have taken effect."""
        for result in self._desk.interrupted():
            self._append(result)
        self.settled = self._transcript.mark()

    async def _judge_output(self, text: str) -> Decision:
        return await self._judge.judge(Stage.MODEL_OUTPUT, text, MODEL)

    def _append(self, message: Cleared[Message]) -> None:
        """Append a message that the model did not write, rendered."""
        self._transcript.append(message, self._render(message))

    async def _append_output(self, step: _Step, message: Cleared[Message], *, changed: bool) -> None:
        """Append what the model wrote: its own ids, unless they say something else than what was judged."""
        rendered = self._render(message)
        written = step.ids[:-1] if step.stop_reason is StopReason.STOP_TOKEN else step.ids
        if changed or not self._engine.says_the_same(written, rendered):
            await self._forget(step)
            self._transcript.append(message, rendered)
            return
        ids = (*step.header, *step.ids, *self._format.close_turn(step.ids))
        self._transcript.append(message, ids, generated=True)

    def _render(self, message: Cleared[Message]) -> list[int]:
        messages = (*self._transcript.messages, message.value)
        return self._format.render(
            messages, tools=self._tools.value, start=len(messages) - 1, add_generation_prompt=False
        )

    def _generation_prompt(self) -> list[int]:
        messages = self._transcript.messages
        return self._format.render(messages, tools=self._tools.value, start=len(messages))

    def _choice(self) -> ToolChoice:
        """Return what this step may do: a call is required of the first step alone, so that an answer can follow."""
        if self._tool_choice is ToolChoice.REQUIRED and self._budget.steps > 1:
            return ToolChoice.AUTO
        if self._tool_choice is ToolChoice.AUTO and not self._tools.value:
            return ToolChoice.NONE
        return self._tool_choice

    def _params(self) -> SamplingParams:
        return replace(
            self._sampling,
            max_tokens=self._budget.max_output(self._sampling.max_tokens),
            stop_ids=self._sampling.stop_ids | self._format.stop_ids,
        )

    def _count(self, usage: Usage | None) -> None:
        if usage is not None:
            self._meter.engine += usage
            self._budget.tokens += usage.prefilled_tokens + usage.output_tokens

    async def _forget(self, step: _Step) -> None:
        """Drop a blocked output from the engine's cache."""
        await self._engine.forget((*step.prompt.value, *step.ids), len(step.prompt.value))


def _least_usage(prompt: Sequence[int], ids: Sequence[int]) -> Usage:
    """Return what a generation that we stopped has cost at least; how much was cached it could not tell."""
    return Usage(prompt_tokens=len(prompt), prefilled_tokens=len(prompt), output_tokens=len(ids))
