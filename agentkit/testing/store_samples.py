"""Turns, journals and headers to put into a store, and what it is to give back. Needs no model and no pytest.

The content is cleared by a real pipeline, under a policy that judges nothing and says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any, Final

from agentkit.cleared import Cleared
from agentkit.memory import Entry, JournalRecord, SessionHeader, StoredEntry
from agentkit.memory.journal import (
    ApprovalAsked,
    ApprovalGiven,
    CallFinished,
    CallIntended,
    DecisionMade,
    InputAccepted,
    StepGenerated,
)
from agentkit.messages import Message, ToolCall
from agentkit.shields.base import ShieldInput, Stage
from agentkit.shields.pipeline import Pipeline
from agentkit.shields.policy import Policy

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

_NOTHING_JUDGED: Final = Policy.parse(
    "version: 1\nshields: {}\nstages:\n" + "".join(f"  {stage}: []\n" for stage in Stage)
)


async def cleared(message: Message) -> Cleared[Message]:
    """Return the message as cleared content."""
    content = ShieldInput(text=message.content, stage=Stage.USER_INPUT, provenance=message.provenance)
    async with Pipeline(_NOTHING_JUDGED) as pipeline:
        decision = await pipeline.judge(content)
    if decision.cleared is None:
        raise RuntimeError("a policy without shields cleared nothing")
    return decision.cleared.map(lambda _: message)


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
            message_id=f"{number}.{index}",
            decision_ids=tuple(f"decision-{number}.{index}.{count}" for count in range(index)),
            pinned=index == 0,
        )
        for index, message in enumerate(messages)
    ]


async def turns(*numbers: int) -> list[Entry]:
    """Several turns, one after the other."""
    return [entry for number in numbers for entry in await turn_of(number)]


async def journal_of(number: int) -> list[JournalRecord]:
    """The records of such a turn, one of every kind: its call waited for an approval and was made."""
    question, answer, result = await turn_of(number)
    call_id, digest = f"call-{number}", f"{number:064x}"
    return [
        InputAccepted(
            entries=(question,),
            turn=number,
            turn_key=f"key-{number}",
            seed=2**63 - number,
            options={"limits": {"steps": number, "seconds": 0.5}, "tools": ["lookup"], "output": None},
        ),
        StepGenerated(
            entry=answer,
            withheld=(f"withheld-{number}",),
            corrections=(question.message.map(lambda _: f"correction {number}"),),
            usage={"output_tokens": 10, "seconds": 0.25},
        ),
        DecisionMade(decision={"stage": "tool_call", "shields": ["secrets"], "blocked": False}),
        ApprovalAsked(call_id=call_id, digest=digest, reason="it writes"),
        ApprovalGiven(call_id=call_id, digest=digest, approved=True),
        CallIntended(call_id=call_id, tool="lookup", digest=digest, idempotency_key=f"key-{number}.1"),
        CallFinished(entry=result, call_id=call_id, status="ok", blocked=False),
    ]


def as_stored(entries: Iterable[Entry]) -> tuple[StoredEntry, ...]:
    """What a store gives back for these entries."""
    return tuple(_stored(entry) for entry in entries)


def as_stored_records(records: Iterable[JournalRecord]) -> tuple[JournalRecord, ...]:
    """What a store gives back for these records."""
    return tuple(
        replace(record, **{field.name: _stored(getattr(record, field.name)) for field in fields(record)})
        for record in records
    )


def _stored(value: Any) -> Any:
    match value:
        case Entry():
            content = {field.name: getattr(value, field.name) for field in fields(value)}
            return StoredEntry(**content | {"message": value.message.value})
        case Cleared():
            return value.value
        case tuple():
            return tuple(_stored(item) for item in value)
        case _:
            return value
