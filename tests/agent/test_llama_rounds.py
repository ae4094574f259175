"""Tool rounds in Llama 3.1's dialect on its real tokenizer: every prompt goes on where the last output ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from agentkit import Agent
from agentkit.inference.base import (
    GeneratedToken,
    Grammar,
    Priority,
    SamplingParams,
    Score,
    StopReason,
    Usage,
)
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
