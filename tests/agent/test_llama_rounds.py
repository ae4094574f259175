"""Tool rounds in Llama 3.1's dialect on its real tokenizer: every prompt goes on where the last output ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import pytest

from agentkit import Agent, ConfigurationError, PromptFormat
from agentkit.inference.base import (
    GeneratedToken,
    Grammar,
    Priority,
    SamplingParams,
    Score,
    StopReason,
    Usage,
)
from agentkit.memory.in_process import MemoryStore
from examples.weather import get_current_temperature
from tests.agent.support import call, policy
from tests.inference.conversations import llama3, spelt_ids


class SpeakingEngine:
    """Says what it is told to in Llama's tokens, special ones spelt out, and keeps its prompts."""

    fingerprint = "speaking"

    def __init__(self, *replies: str) -> None:
        self.tokenizer: Final = llama3()
        self.context_length: Final = 10_000
        self.replies = [spelt_ids(self.tokenizer, reply) for reply in replies]
        self.prompts: list[tuple[int, ...]] = []

    async def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        grammar: Grammar | None = None,  # the script decides
        priority: Priority = Priority.INTERACTIVE,  # nobody waits
        scope: str = "",  # nothing is cached
        public_prefix: int = 0,
    ) -> AsyncIterator[GeneratedToken]:
        ids = self.replies[len(self.prompts)]
        self.prompts.append(tuple(prompt_ids))
        for token_id in ids[:-1]:
            yield GeneratedToken(id=token_id)
        usage = Usage(prompt_tokens=len(prompt_ids), prefilled_tokens=len(prompt_ids), output_tokens=len(ids))
        stopped = ids[-1] in params.stop_ids
        yield GeneratedToken(
            id=ids[-1], stop_reason=StopReason.STOP_TOKEN if stopped else StopReason.MAX_TOKENS, usage=usage
        )

    async def score(
        self,
        prompt_ids: Sequence[int],
        candidate_ids: Sequence[int],
        *,
        priority: Priority = Priority.SHIELD,
        scope: str = "",
        public_prefix: int = 0,
    ) -> Score:
        raise NotImplementedError

    async def close(self) -> None:
        return


PARIS = call("get_current_temperature", location="Paris")


async def test_the_prefix_holds_after_every_tool_round():
    engine = SpeakingEngine(
        f"<|python_tag|>{PARIS}<|eom_id|>",
        f"{PARIS}; {PARIS}<|eot_id|>",
        f"{PARIS}<|eom_id|>",
        "22.<|eot_id|>",
    )
    async with Agent(
        engine, instructions="Be brief.", tools=[get_current_temperature], policy=policy()
    ) as agent:
        result = await agent.run("How warm?")
    assert result.output == "22."
    assert len(engine.prompts) == 4
    for before, reply, after in zip(engine.prompts, engine.replies, engine.prompts[1:], strict=False):
        assert after[: len(before) + len(reply)] == (*before, *reply)


async def test_the_stop_token_of_every_output_is_reported():
    engine = SpeakingEngine(
        f"<|python_tag|>{PARIS}<|eom_id|>", "22.<|end_of_text|>", "It is", "Hi.<|eot_id|>"
    )
    async with Agent(engine, tools=[get_current_temperature], policy=policy()) as agent:
        runs = [await agent.run("How warm?") for _ in range(3)]
    assert [run.usage.stop_tokens for run in runs] == [
        ("<|eom_id|>", "<|end_of_text|>"),
        (None,),
        ("<|eot_id|>",),
    ]


async def test_what_was_said_before_a_call_stays_in_the_context_with_its_own_ids():
    engine = SpeakingEngine(f"Let me look.\n\n{PARIS}<|eom_id|>", "22.<|eot_id|>", "23.<|eot_id|>")
    store = MemoryStore()
    async with Agent(engine, tools=[get_current_temperature], policy=policy(), store=store) as agent:
        session = agent.session("alice")
        await session.run("How warm?")
        await session.close()
        await agent.session("alice").run("And now?")
    first, second, third = engine.prompts
    assert second[: len(first) + len(engine.replies[0])] == (*first, *engine.replies[0])
    assert third[: len(second) + len(engine.replies[1])] == (*second, *engine.replies[1])


async def test_an_agents_prompts_are_in_the_format_that_it_was_given():
    engine = SpeakingEngine("Hi.<|eot_id|>", "Hi.<|eot_id|>")
    chosen = PromptFormat(dialect="meta", tool_format="function_tag")
    for prompt_format in (chosen, None):
        async with Agent(
            engine, tools=[get_current_temperature], policy=policy(), prompt_format=prompt_format
        ) as agent:
            await agent.run("How warm?")
    tagged, usual = (engine.tokenizer.decode(prompt) for prompt in engine.prompts)
    assert "<function=" in tagged
    assert "<function=" not in usual


async def test_a_session_goes_on_in_another_format_with_its_prompt_written_anew():
    engine = SpeakingEngine("Hi.<|eot_id|>", "Ho.<|eot_id|>")
    store = MemoryStore()
    for prompt_format in (PromptFormat(), PromptFormat(tools_in="system")):
        async with Agent(
            engine, tools=[get_current_temperature], policy=policy(), store=store, prompt_format=prompt_format
        ) as agent:
            await agent.session("alice").run("How warm?")
    first, second = (engine.tokenizer.decode(prompt) for prompt in engine.prompts)
    assert "user\n\nHow warm?" not in first  # the tools stand before it
    assert "user\n\nHow warm?" in second


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"dialect": "hf-3.3"}, "no dialect 'hf-3.3'"),
        (
            {"tool_format": "xml"},
            "tool_format must be one of json, function_tag, python_list, builtin, got 'xml'",
        ),
        ({"tools_in": "tool"}, "tools_in must be one of system, user, got 'tool'"),
    ],
)
def test_a_format_that_there_is_not_is_refused_at_once(choice: dict[str, Any], message: str):
    with pytest.raises(ConfigurationError, match=message):
        PromptFormat(**choice)
