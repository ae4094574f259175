"""The guarded agent on the embedded model: real weights, real grammar, real cache."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from agentkit import Agent, Limits, LocalEngine, RunStatus, SamplingParams, tool

pytestmark = pytest.mark.model

QUESTIONS = {
    "What's the temperature in Paris right now?": "Paris",
    "How warm is it in Tokyo?": "Tokyo",
    "Tell me the current temperature in Cairo, Egypt.": "Cairo",
    "Is it cold in Oslo today?": "Oslo",
    "temperature Madrid?": "Madrid",
}


@tool(effect="read")
async def get_current_temperature(location: str) -> float:
    """Get the current temperature at a location.

    Args:
        location: The location, in the format "City, Country".
    """
    return 22.0


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def engine(anyio_backend: str) -> AsyncIterator[LocalEngine]:
    engine = await LocalEngine.load("smollm2-135m-instruct")
    yield engine
    await engine.close()


def weather_agent(engine: LocalEngine | str, **options) -> Agent:
    return Agent(
        engine,
        instructions="You respond to weather queries.",
        tools=[get_current_temperature],
        sampling=SamplingParams(max_tokens=48),
        **options,
    )


async def test_five_questions_give_five_valid_calls_and_answers(engine: LocalEngine):
    async with weather_agent(engine) as agent:
        for question in QUESTIONS:
            result = await agent.run(question)
            calls = [call for message in result.messages for call in message.tool_calls]
            assert result.status is RunStatus.COMPLETED
            assert [call.name for call in calls] == ["get_current_temperature"]
            assert set(calls[0].arguments) == {"location"}
            assert "22" in result.output


async def test_small_talk_is_answered_without_a_call(engine: LocalEngine):
    async with weather_agent(engine) as agent:
        result = await agent.run("Thank you!")
    assert result.status is RunStatus.COMPLETED
    assert not any(message.tool_calls for message in result.messages)


async def test_a_second_turn_prefills_only_what_is_new(engine: LocalEngine):
    async with weather_agent(engine) as agent:
        session = agent.session("cache/1")
        await session.run("What's the temperature in Paris right now?")
        before = len(session.messages)
        usage = (await session.run("Thank you!")).usage
        assert len(session.messages) == before + 2
    # New are the user's message, the header of the answer, and the last generated token with what closes it.
    assert usage.prefilled_tokens < 25
    assert usage.cached_tokens > 250


async def test_a_session_in_a_new_process_hits_its_prefix_after_one_prefill(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/agent.db"
    async with weather_agent("smollm2-135m-instruct", store=url) as agent:
        await agent.session("alice/1").run("What's the temperature in Paris right now?")
    async with weather_agent("smollm2-135m-instruct", store=url) as agent:
        session = agent.session("alice/1")
        cold = (await session.run("Thank you!")).usage
        warm = (await session.run("Thank you!")).usage
    assert cold.cached_tokens == 0
    assert warm.prefilled_tokens < 25
    assert warm.cached_tokens > 250


class City(BaseModel):
    name: str
    country: str
    inhabitants: int


async def test_output_type_is_held_to_its_schema(engine: LocalEngine):
    agent = Agent(engine, sampling=SamplingParams(max_tokens=80))
    async with agent:
        result = await agent.run("Describe the city of Paris.", output_type=City)
    assert isinstance(result.output, City)


async def test_one_seed_gives_one_answer(engine: LocalEngine):
    sampling = SamplingParams(temperature=0.8, seed=7, max_tokens=24)
    agent = Agent(engine, sampling=sampling)
    async with agent:
        outputs = {
            (await agent.run("Write a line about rain.", limits=Limits(steps=1))).output for _ in range(2)
        }
    assert len(outputs) == 1
