"""The path of one turn, on a scripted engine and the real pipeline, executor and transcript."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from agentkit import (
    AgentKitError,
    ContextLengthError,
    Limits,
    Role,
    RunFinished,
    RunStatus,
    SamplingParams,
    TextDelta,
    ToolCallFinished,
    ToolCallStarted,
    tool,
)
from agentkit.testing import ScriptedEngine
from tests.agent.support import call, policy, scripted


@tool(effect="read")
async def get_current_temperature(location: str) -> float:
    """Get the current temperature at a location.

    Args:
        location: The location, in the format "City, Country".
    """
    return 22.0


async def test_a_plain_answer_comes_back_and_is_remembered():
    agent, engine = scripted("Hello.", "Bye.")
    async with agent:
        session = agent.session()
        first = await session.run("Hi")
        second = await session.run("Goodbye")
    assert (first.status, first.output) == (RunStatus.COMPLETED, "Hello.")
    assert second.output == "Bye."
    assert [message.role for message in session.messages] == [
        Role.SYSTEM,
        Role.USER,
        Role.ASSISTANT,
        Role.USER,
        Role.ASSISTANT,
    ]
    assert engine.prompts[1].startswith(engine.prompts[0] + "Hello.<|im_end|>\n")


async def test_a_call_runs_and_its_result_reaches_the_model():
    agent, engine = scripted(
        call("get_current_temperature", location="Paris, France"),
        "It is 22.",
        tools=[get_current_temperature],
    )
    async with agent:
        result = await agent.run("How warm is it in Paris?")
    assert result.output == "It is 22."
    assert [message.role for message in result.messages] == [
        Role.USER,
        Role.ASSISTANT,
        Role.TOOL,
        Role.ASSISTANT,
    ]
    assert result.messages[1].tool_calls[0].arguments == {"location": "Paris, France"}
    assert result.messages[2].content == "22.0"
    assert "22.0" in engine.prompts[1]


async def test_wrong_arguments_go_back_to_the_model_as_an_error():
    agent, _ = scripted(
        call("get_current_temperature", city="Paris"), "Sorry.", tools=[get_current_temperature]
    )
    async with agent:
        result = await agent.run("How warm is it in Paris?")
    assert result.status is RunStatus.COMPLETED
    assert "location" in result.messages[2].content


async def test_an_unknown_tool_goes_back_to_the_model_naming_the_tools():
    agent, _ = scripted(call("get_weather", city="Paris"), "Sorry.", tools=[get_current_temperature])
    async with agent:
        result = await agent.run("How warm is it in Paris?")
    assert result.status is RunStatus.COMPLETED
    assert "get_current_temperature" in result.messages[2].content


async def test_a_truncated_call_is_never_run():
    runs: list[str] = []

    @tool(effect="read")
    def note(text: str) -> str:
        """Write a note down."""
        runs.append(text)
        return "done"

    agent, _ = scripted(
        call("note", text="a long note"), "Sorry.", tools=[note], sampling=SamplingParams(max_tokens=30)
    )
    async with agent:
        result = await agent.run("Note this")
    assert runs == []
    assert "before the call was complete" in result.messages[2].content


async def test_a_step_limit_ends_the_run_and_keeps_the_steps_that_ran_a_tool():
    again = call("get_current_temperature", location="Paris, France")
    agent, _ = scripted(again, again, again, tools=[get_current_temperature])
    async with agent:
        session = agent.session()
        result = await session.run("How warm?", limits=Limits(steps=2))
    assert (result.status, result.limit, result.output) == (RunStatus.LIMIT_REACHED, "steps", None)
    assert [message.role for message in session.messages][-1] is Role.TOOL


async def test_a_tool_call_limit_runs_nothing_beyond_it():
    agent, _ = scripted(call("get_current_temperature", location="Paris"), tools=[get_current_temperature])
    async with agent:
        session = agent.session()
        result = await session.run("How warm?", limits=Limits(tool_calls=0))
    assert (result.status, result.limit) == (RunStatus.LIMIT_REACHED, "tool_calls")
    assert [message.role for message in session.messages] == [Role.SYSTEM]


async def test_a_token_limit_cuts_the_answer_and_says_so():
    agent, _ = scripted("A very long answer indeed.")
    async with agent:
        result = await agent.run("Hi", limits=Limits(tokens=5))
    assert result.output == "A ver"
    assert result.truncated


async def test_seconds_end_a_slow_run():
    engine = ScriptedEngine(["A slow answer."], seconds_per_token=0.1)
    agent, _ = scripted()
    agent = type(agent)(engine, policy=policy())
    async with agent:
        session = agent.session()
        result = await session.run("Hi", limits=Limits(seconds=0.2))
    assert (result.status, result.limit) == (RunStatus.LIMIT_REACHED, "seconds")
    assert session.messages == ()


class City(BaseModel):
    name: str
    inhabitants: int


async def test_output_type_gives_an_instance():
    agent, _ = scripted('{"name": "Paris", "inhabitants": 2100000}')
    async with agent:
        result = await agent.run("Describe Paris", output_type=City)
    assert result.output == City(name="Paris", inhabitants=2100000)


async def test_an_answer_that_does_not_fit_its_type_is_an_error_and_leaves_the_session_as_it_was():
    agent, _ = scripted('{"name": "Paris"}')
    async with agent:
        session = agent.session()
        with pytest.raises(AgentKitError, match=r"does not fit City \(missing\)"):
            await session.run("Describe Paris", output_type=City)
    assert [message.role for message in session.messages] == [Role.SYSTEM]


async def test_events_tell_the_run_in_order():
    agent, _ = scripted(
        call("get_current_temperature", location="Paris, France"),
        "It is 22 degrees in Paris now.",
        tools=[get_current_temperature],
    )
    async with agent, agent.session().stream("How warm?") as run:
        events = [event async for event in run]
    kinds = [type(event) for event in events if isinstance(event, ToolCallStarted | ToolCallFinished)]
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert kinds == [ToolCallStarted, ToolCallFinished]
    assert text == run.result.output == "It is 22 degrees in Paris now."
    assert isinstance(events[-1], RunFinished)


async def test_a_prompt_beyond_the_context_names_both_numbers_and_loses_nothing():
    engine = ScriptedEngine(["Hello.", "Short."], context_length=120)
    agent = scripted()[0]
    agent = type(agent)(engine, policy=policy())
    async with agent:
        session = agent.session()
        await session.run("Hi")
        before = session.messages
        with pytest.raises(ContextLengthError, match=r"context is 120 tokens, prompt has \d+"):
            await session.run("x" * 200)
        assert session.messages == before
        assert (await session.run("Hi")).output == "Short."


async def test_usage_adds_up_over_the_steps():
    agent, _ = scripted(
        call("get_current_temperature", location="Paris"), "22.", tools=[get_current_temperature]
    )
    async with agent:
        usage = (await agent.run("How warm?")).usage
    assert usage.input_tokens == usage.cached_tokens + usage.prefilled_tokens
    assert usage.output_tokens == len(call("get_current_temperature", location="Paris")) + 1 + len("22.") + 1


async def test_reading_the_result_of_an_unfinished_run_is_an_error():
    agent, _ = scripted("Hello.")
    async with agent, agent.session().stream("Hi") as run:
        with pytest.raises(AgentKitError, match="has not finished"):
            _ = run.result
        async for _event in run:
            pass
        assert run.result.output == "Hello."
