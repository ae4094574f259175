"""What an agent asks of the grammar: schemas that it cannot hold are refused early, calls in one output counted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from pydantic import BaseModel

from agentkit import Agent, ConfigurationError, Limits, RunStatus, SamplingParams, tool
from agentkit.errors import GrammarError
from agentkit.inference.base import GeneratedToken, Grammar, Priority
from agentkit.testing import ScriptedEngine
from tests.agent.support import call, policy, scripted
from tests.inference.conversations import matches


@tool(effect="read")
async def get_temperature(city: str) -> float:
    """Get the temperature in a city."""
    return 22.0


@tool(effect="read")
async def count_words(words: set[str]) -> int:
    """Count different words."""
    return len(words)


class Answer(BaseModel):
    words: set[str]


class GrammarKeeper(ScriptedEngine):
    """A script that is held to the grammar which it was given."""

    async def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        grammar: Grammar | None = None,
        priority: Priority = Priority.INTERACTIVE,
        scope: str = "",
    ) -> AsyncIterator[GeneratedToken]:
        tokens = [token async for token in super().generate(prompt_ids, params, grammar=grammar)]
        if not matches(grammar, self.tokenizer, [token.id for token in tokens]):
            raise GrammarError("the script is outside the grammar")
        for token in tokens:
            yield token


async def test_a_tool_that_no_grammar_can_hold_is_refused_at_the_start():
    agent, engine = scripted("Hello.", tools=[get_temperature, count_words])
    with pytest.raises(GrammarError, match=r"tool count_words: .* uniqueItems at properties\.words"):
        await agent.start()
    assert engine.prompts == []


async def test_an_answer_that_no_grammar_can_hold_is_refused_before_the_turn():
    agent, engine = scripted("Hello.")
    async with agent:
        session = agent.session()
        with pytest.raises(GrammarError, match=r"output_type Answer: .* uniqueItems at properties\.words"):
            await session.run("Hi", output_type=Answer)
    assert engine.prompts == []


async def test_several_calls_in_one_step_where_the_limits_allow_them():
    calls = "\n".join(call("get_temperature", city=city) for city in ("Paris", "Lyon"))
    agent = Agent(GrammarKeeper([calls, "Warm."]), tools=[get_temperature], policy=policy())
    async with agent:
        result = await agent.run("How warm is it?", limits=Limits(calls_per_step=2))
    assert (result.status, result.output) == (RunStatus.COMPLETED, "Warm.")
    made = [call.arguments for message in result.messages for call in message.tool_calls]
    assert made == [{"city": "Paris"}, {"city": "Lyon"}]


async def test_one_call_in_one_step_where_nothing_else_is_said():
    calls = "\n".join(call("get_temperature", city=city) for city in ("Paris", "Lyon"))
    agent = Agent(GrammarKeeper([calls]), tools=[get_temperature], policy=policy())
    async with agent:
        with pytest.raises(GrammarError, match="outside the grammar"):
            await agent.run("How warm is it?")


def test_a_step_has_room_for_a_call():
    with pytest.raises(ConfigurationError, match=r"limits\.calls_per_step must be at least 1, got 0"):
        Limits(calls_per_step=0)
