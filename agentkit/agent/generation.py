"""One generation: prompt in, cleared text out to the user, and what the output means. Runs no tool, keeps nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from agentkit.agent.doors import GuardedEngine
from agentkit.agent.events import EventSink
from agentkit.agent.gate import GateState, OutputGate
from agentkit.agent.judge import Judge
from agentkit.cleared import Cleared, Held
from agentkit.inference.base import Grammar, SamplingParams, StopReason, Usage
from agentkit.inference.formats.base import Format, ParsedOutput, ToolChoice
from agentkit.memory.transcript import Transcript
from agentkit.messages import MODEL, Message, ToolSpec
from agentkit.shields.base import SharedStates, Stage
from agentkit.shields.decision import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One output: the prompt it followed, its ids, what they mean, and the gate that its text went through.

    `header` is the end of the prompt that opens the model's message; `usage` is what the generation cost.
    `stop_token` is the special token that the model ended it with.
    """

    prompt: Cleared[tuple[int, ...]]
    header: tuple[int, ...]
    ids: tuple[int, ...]
    parsed: ParsedOutput
    gate: OutputGate
    stop_reason: StopReason | None
    stop_token: str | None
    usage: Usage

    @property
    def text(self) -> Cleared[str]:
        """The text for the user, as it was cleared."""
        return self.gate.cleared or self.prompt.map(lambda _: "")

    @property
    def cut(self) -> bool:
        """Whether the output ended before the model would have ended it."""
        return self.stop_reason in (StopReason.MAX_TOKENS, StopReason.CONTEXT_FULL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """How the outputs of one turn are made."""

    engine: GuardedEngine
    format: Format
    tools: Cleared[tuple[ToolSpec, ...]]
    judge: Judge
    sink: EventSink
    segment_tokens: int
    answer_schema: Mapping[str, Any] | None
    calls_per_step: int

    async def step(self, transcript: Transcript, params: SamplingParams, choice: ToolChoice) -> Step:
        """Generate after the transcript; what the user may see is told as it is cleared."""
        header = self._header(transcript.messages)
        prompt = transcript.prompt().map(lambda ids: (*ids, *header))
        tools = self.tools.value
        parser = self.format.parser(tools if choice is not ToolChoice.NONE else ())
        decoder = self.format.output_decoder()
        gate = OutputGate(self._judge_output, self.sink, segment_tokens=self.segment_tokens)
        ids: list[int] = []
        stop_reason: StopReason | None = None
        usage: Usage | None = None
        asked = self.engine.generate(prompt, self._stopping(params), grammar=self._grammar(choice))
        async with aclosing(asked) as tokens:
            async for token in tokens:
                ids.append(token.id)
                await gate.push(parser.feed(decoder.feed(token.id)))
                if token.stop_reason is not None:
                    stop_reason, usage = token.stop_reason, token.usage
                if gate.state is not GateState.OPEN:
                    break
        held = parser.feed(decoder.finish())
        rest, parsed = parser.finish(truncated=stop_reason is not StopReason.STOP_TOKEN)
        await gate.finish(held + rest)
        return Step(
            prompt=prompt,
            header=tuple(header),
            ids=tuple(ids),
            parsed=parsed,
            gate=gate,
            stop_reason=stop_reason,
            stop_token=self.format.stop_token(ids),
            usage=usage or _least_usage(prompt.value, ids),
        )

    def begin(
        self,
        transcript: Transcript,
        said: Held[str],
        asked: Callable[[str], Message],
        params: SamplingParams,
        choice: ToolChoice,
        *,
        layers: Sequence[int] = (),
    ) -> SharedStates | None:
        """Have the engine begin the step that will follow if what was said is cleared as it is.

        `asked` makes a message of it. Returns what `layers` make of it, where its tokens stand in the prompt as they
        would by themselves.

        Raises:
            InferenceError, ConfigurationError: if that step cannot be generated.
        """
        return self.engine.begin(
            said.map(lambda text: self._prompt_with(transcript, asked(text))),
            self._stopping(params),
            grammar=self._grammar(choice),
            cleared_tokens=len(transcript.ids),
            observed=said,
            layers=layers,
        )

    async def forget(self, step: Step) -> None:
        """Drop an output that does not stay in the context from the engine's cache."""
        await self.engine.forget((*step.prompt.value, *step.ids), len(step.prompt.value))

    async def _judge_output(self, text: str) -> Decision:
        return await self.judge.judge(Stage.MODEL_OUTPUT, text, MODEL)

    def _prompt_with(self, transcript: Transcript, message: Message) -> tuple[int, ...]:
        messages = (*transcript.messages, message)
        rendered = self.format.render(
            messages, tools=self.tools.value, start=len(messages) - 1, add_generation_prompt=False
        )
        return (*transcript.ids, *rendered, *self._header(messages))

    def _stopping(self, params: SamplingParams) -> SamplingParams:
        return replace(params, stop_ids=params.stop_ids | self.format.stop_ids)

    def _grammar(self, choice: ToolChoice) -> Grammar | None:
        return self.format.call_grammar(
            self.tools.value, choice, max_calls=self.calls_per_step, answer_schema=self.answer_schema
        )

    def _header(self, messages: Sequence[Message]) -> list[int]:
        return self.format.render(messages, tools=self.tools.value, start=len(messages))


def _least_usage(prompt: Sequence[int], ids: Sequence[int]) -> Usage:
    """Return what a generation that we stopped has cost at least; how much was cached it could not tell."""
    return Usage(prompt_tokens=len(prompt), prefilled_tokens=len(prompt), output_tokens=len(ids))
