"""Conversations in real formats that fill a context, and what makes room in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import anyio

from agentkit.agent.context import ContextWindow, Trimmed
from agentkit.agent.doors import GuardedEngine
from agentkit.cleared import Cleared
from agentkit.inference.base import Engine, Usage
from agentkit.inference.formats import format_for
from agentkit.inference.formats.base import Format
from agentkit.inference.tokenizer import Tokenizer
from agentkit.memory.transcript import Entry, Transcript
from agentkit.memory.window import Window
from agentkit.messages import Message, Provenance, ToolCall, ToolSpec
from agentkit.shields.base import ShieldInput, Stage
from agentkit.shields.decision import Decision
from agentkit.shields.pipeline import Pipeline
from agentkit.shields.policy import Policy
from agentkit.testing import ScriptedEngine, StaticShield, byte_tokenizer
from tests.agent.support import policy
from tests.clearing import cleared
from tests.inference.conversations import llama3, smollm2

ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NUMBERING = (
    "{% for m in messages %}<|im_start|>{{ loop.index0 }} {{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{{ messages | length }} assistant\n{% endif %}"
)
TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "hf-3.1": llama3,
    "template": smollm2,
    "bytes": byte_tokenizer,
}


ANY_CLEARED: Cleared[Message] = anyio.run(cleared, Message.user(""))


class Talk:
    """A conversation in one format, whose answers are the model's own ids: one for each character."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        tools: Sequence[ToolSpec] = (),
        system: bool = True,
        template: str | None = None,
    ) -> None:
        options = {} if template is None else {"template": template}
        self.tokenizer = tokenizer
        self.format: Format = format_for(tokenizer, **options)
        self.tools = tuple(tools)
        self.transcript = Transcript()
        if system:
            self.say(Message.system("You are a test."))

    def say(self, message: Message, *, pinned: bool = False) -> None:
        messages = (*self.transcript.messages, message)
        ids = self.format.render(
            messages, tools=self.tools, start=len(messages) - 1, add_generation_prompt=False
        )
        self.transcript.append(ANY_CLEARED.map(lambda _: message), ids, pinned=pinned)

    def answer(self, text: str) -> None:
        messages = self.transcript.messages
        header = self.format.render(messages, tools=self.tools, start=len(messages))
        spelt = [token_id for character in text for token_id in self.tokenizer.encode(character)]
        ids = [*header, *spelt, *self.format.close_turn(spelt)]
        message = Message.assistant(text)
        self.transcript.append(ANY_CLEARED.map(lambda _: message), ids, generated=True)

    def turn(self, number: int, *results: str, answer: str = "It is warm.", pinned: bool = False) -> None:
        self.transcript.begin_turn()
        self.say(Message.user(f"Question {number}: how warm is it?"), pinned=pinned)
        for index, result in enumerate(results):
            call = ToolCall(id=f"{number}.{index}", name="get_weather", arguments={"city": "Paris"})
            self.say(Message.assistant("", (call,)))
            self.say(Message.tool(result, call=call), pinned=pinned)
        if answer:
            self.answer(answer)

    @property
    def entries(self) -> tuple[Entry, ...]:
        return self.transcript.entries

    def assert_well_written(self, entries: Sequence[Entry]) -> None:
        """Every entry has the ids that the format gives it at its place, or the model's own of the same text."""
        messages = [one.message.value for one in entries]
        for index, one in enumerate(entries):
            written = self.format.render(
                messages[: index + 1], tools=self.tools, start=index, add_generation_prompt=False
            )
            if one.generated:
                assert self.tokenizer.decode(one.ids, skip_special=False) == self.tokenizer.decode(
                    written, skip_special=False
                )
            else:
                assert list(one.ids) == written


class PipelineJudge:
    """The shields without a turn around them; `seen` is what they were asked."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.seen: list[ShieldInput] = []

    async def judge(self, stage: Stage, text: str, provenance: Provenance) -> Decision:
        self.seen.append(ShieldInput(text=text, stage=stage, provenance=provenance))
        return replace(await self._pipeline.judge(self.seen[-1]), id=f"d{len(self.seen)}")

    def vouch(self, text: str) -> Cleared[str]:
        return self._pipeline.vouch(text)


class ForgettingEngine(ScriptedEngine):
    """A scripted engine that notes what it is to forget."""

    def __init__(self, replies: Sequence[str], **options: Any) -> None:
        super().__init__(replies, **options)
        self.forgotten: list[tuple[int, int]] = []

    async def forget(self, ids: Sequence[int], *, keep: int, scope: str = "") -> None:
        self.forgotten.append((len(ids), keep))


def num_tokens(entries: Sequence[Entry]) -> int:
    return sum(len(one.ids) for one in entries)


async def made_room(
    talk: Talk,
    window: Window,
    *,
    context_length: int,
    output_tokens: int = 50,
    incoming: int = 20,
    between_steps: bool = False,
    engine: Engine | None = None,
    under: Policy | None = None,
    shield: StaticShield | None = None,
    usage: list[Usage] | None = None,
    seen: list[ShieldInput] | None = None,
) -> Trimmed | None:
    overrides = {"canary": shield} if shield is not None else None
    async with Pipeline(under or policy(), overrides=overrides) as pipeline:
        judge = PipelineJudge(pipeline)
        context = ContextWindow(
            window,
            format=talk.format,
            tools=ANY_CLEARED.map(lambda _: talk.tools),
            engine=GuardedEngine(engine or ScriptedEngine([]), scope=""),
            judge=judge,
            context_length=context_length,
            output_tokens=output_tokens,
            count=(usage if usage is not None else []).append,
        )
        if between_steps:
            turn = talk.transcript.turn
            trimmed = await context.between_steps(talk.entries, turn=turn, incoming=incoming)
        else:
            trimmed = await context.before_turn(talk.entries, incoming=incoming)
        if seen is not None:
            seen.extend(judge.seen)
    return trimmed
