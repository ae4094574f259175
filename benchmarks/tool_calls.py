"""How well the embedded model calls a tool: `python -m benchmarks.tool_calls`. A JSON line and a table.

Valid means that the arguments fit the schema, which the grammar promises; right means the city that was asked for.
`auto` is as a user gets it, `required` holds the first step to a call.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

import anyio

from agentkit import Agent, Limits, LocalEngine, SamplingParams
from agentkit.cli.demo import get_current_temperature

QUESTIONS = {
    "What's the temperature in Paris right now?": "Paris",
    "How warm is it in Tokyo?": "Tokyo",
    "Tell me the current temperature in Cairo, Egypt.": "Cairo",
    "Is it cold in Oslo today?": "Oslo",
    "temperature Madrid?": "Madrid",
    "How hot is it in Lyon?": "Lyon",
    "Could you check how hot it is in Dubai?": "Dubai",
    "I'm flying to Lima tomorrow, what temperature is it there?": "Lima",
    "Please look up the current temperature for Nairobi, Kenya.": "Nairobi",
    "Should I wear a coat in Chicago now?": "Chicago",
}
"""The first five are the ones that the tests hold to; all ten are reported."""

CHAT = ("Hello, how are you?", "Thank you!", "Who wrote Hamlet?", "What is your name?", "Write a short poem.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one question led to."""

    question: str
    choice: str
    called: bool
    valid: bool
    right: bool
    location: str


async def measure() -> list[Row]:
    """Ask every question both ways, and the small talk once."""
    engine = await LocalEngine.load("smollm2-135m-instruct")
    agent = Agent(
        engine,
        instructions="You respond to weather queries.",
        tools=[get_current_temperature],
        sampling=SamplingParams(max_tokens=48),
    )
    rows = []
    async with agent:
        for question, city in QUESTIONS.items():
            rows += [await _ask(agent, question, city, "auto"), await _ask(agent, question, city, "required")]
        rows += [await _ask(agent, text, "", "auto") for text in CHAT]
    await engine.close()
    return rows


async def _ask(agent: Agent, question: str, city: str, choice: Literal["auto", "required"]) -> Row:
    result = await agent.run(question, tool_choice=choice, limits=Limits(steps=2))
    calls = [call for message in result.messages for call in message.tool_calls]
    arguments = dict(calls[0].arguments) if calls else {}
    return Row(
        question=question,
        choice=choice,
        called=bool(calls),
        valid=set(arguments) == {"location"} and isinstance(arguments["location"], str),
        right=bool(city) and city in str(arguments.get("location")),
        location=str(arguments.get("location", "")),
    )


def main() -> None:
    """Print the rows and the shares."""
    rows = anyio.run(measure)
    for row in rows:
        print(f"{row.choice:<9}{'call' if row.called else 'text':<6}{row.location:<22}{row.question}")
    asked = [row for row in rows if row.question in QUESTIONS]
    summary = {
        choice: {
            "questions": len(QUESTIONS),
            "called": sum(row.called for row in asked if row.choice == choice),
            "valid": sum(row.valid for row in asked if row.choice == choice),
            "right_city": sum(row.right for row in asked if row.choice == choice),
        }
        for choice in ("auto", "required")
    }
    small_talk = {"rows": len(CHAT), "called": sum(row.called for row in rows if row.question in CHAT)}
    print(
        json.dumps({"summary": {**summary, "small_talk": small_talk}, "rows": [asdict(row) for row in rows]})
    )


if __name__ == "__main__":
    main()
