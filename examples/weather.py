"""A tool called by the model, and a conversation whose earlier tokens come from the KV cache.

Run it with `python -m examples.weather`. It loads the embedded model, 135 million parameters, and needs no network.
The tool works on the command line too:

    agentkit run "What's the temperature in Paris?" -t examples.weather:get_current_temperature
"""

from __future__ import annotations

import anyio

from agentkit import Agent, RunResult, SamplingParams, tool

TEMPERATURES = {"Lyon, France": 24.5, "Tokyo, Japan": 17.0}


@tool(effect="read")  # it changes nothing: such calls may run side by side and need no approval
async def get_current_temperature(location: str) -> float:
    """Get the current temperature at a location.

    Args:
        location: The location to get the temperature for, in the format "City, Country".

    Returns:
        The current temperature at the location in degrees Celsius.
    """
    return TEMPERATURES.get(location, 22.0)  # a real tool would ask a weather service


agent = Agent(
    "smollm2-135m-instruct",  # or a folder, a .gguf file, a hub id such as meta-llama/Llama-3.1-8B-Instruct
    instructions="You are a bot that responds to weather queries.",
    tools=[get_current_temperature],
    sampling=SamplingParams(max_tokens=80),
)


def report(question: str, result: RunResult) -> None:
    """Print the question, the calls that the model made, its answer, and what the cache spared."""
    print(f"\nuser:   {question}")
    for message in result.messages:
        for call in message.tool_calls:
            print(f"call:   {call.name}({dict(call.arguments)})")
    print(f"answer: {result.output if result.output is not None else result.status.value}")
    usage = result.usage
    print(f"tokens: {usage.input_tokens} in, of which {usage.cached_share:.0%} were cached")


async def converse() -> None:
    """Run two turns of one session: the second prefills only what is new. At the end the model is freed."""
    async with agent:
        session = agent.session()
        for question in ("How warm is it in Lyon?", "And in Tokyo?"):
            report(question, await session.run(question))


if __name__ == "__main__":
    first_question = "What's the temperature in Paris right now?"
    report(first_question, agent.run_sync(first_question))  # one turn, from code that is not async
    anyio.run(converse)
