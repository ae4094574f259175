"""Turns, headers and expectations that the tests of the stores share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from agentkit.memory import Entry, SessionHeader, StoredEntry
from agentkit.messages import Message, ToolCall
from tests.clearing import cleared

HEADER: Final = SessionHeader(
    model="tiny",
    model_fingerprint="m1",
    tokenizer_fingerprint="t1",
    format="llama31",
    instructions_digest="i1",
    tools_digest="d1",
    policy_digest="p1",
    date="26 Jul 2026",
)


async def turn_of(number: int) -> list[Entry]:
    """A turn of three entries that all follow from its number: a question, a call and its result."""
    call = ToolCall(
        id=f"call-{number}", name="lookup", arguments={"place": f"Zürich {number}", "days": number}
    )
    messages = (
        Message.user(f"question {number} ☂"),
        Message.assistant(f"answer {number}", tool_calls=(call,)),
        Message.tool(f"result {number}", call=call),
    )
    return [
        Entry(
            message=await cleared(message),
            ids=tuple(range(number, number + 5 * (index + 1))),
            turn=number,
            generated=index == 1,
        )
        for index, message in enumerate(messages)
    ]


async def turns(*numbers: int) -> list[Entry]:
    """Several turns, one after the other."""
    return [entry for number in numbers for entry in await turn_of(number)]


def as_stored(entries: Iterable[Entry]) -> tuple[StoredEntry, ...]:
    """What a store gives back for these entries."""
    return tuple(
        StoredEntry(message=entry.message.value, ids=entry.ids, turn=entry.turn, generated=entry.generated)
        for entry in entries
    )
