"""Whether an engine generates what the reference does: a short conversation of real text, greedily.

Its sessions are held one by one and all at once, since an engine can be right alone and wrong in company.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agentkit.inference.tokenizer import load_tokenizer
from benchmarks.peers.protocol import Answer, Conversation

SYSTEM = (
    "You help people to plan a day outdoors. Ask for what you need to know, name what to take along, and say how "
    "sure you are of the weather. Never guess a train's departure."
)
TURNS = (
    (
        "What should I wear for a long walk in the hills tomorrow if it may rain in the afternoon?",
        "And for two days?",
    ),
    (
        "Which birds could two children see at a lake in spring, and how would they tell them apart?",
        "Name one more.",
    ),
    (
        "Write a list of things to pack for a picnic with six people, two of whom eat no meat.",
        "What is missing?",
    ),
)
OUTPUT_TOKENS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How many tokens agree before each session's first difference, of how many."""

    alone: int
    together: int
    of: int


def text_conversation(model: Path) -> Conversation:
    """Return the conversation in a model's ids; every session's turns are cut to the shortest one's length."""
    tokenizer = load_tokenizer(model)
    sessions = [[tokenizer.encode(f"\n{text}\n") for text in texts] for texts in TURNS]
    lengths = [min(map(len, turns)) for turns in zip(*sessions, strict=True)]
    cut = [[ids[:length] for ids, length in zip(turns, lengths, strict=True)] for turns in sessions]
    return Conversation(system=tokenizer.encode(SYSTEM), turns=cut, output_tokens=OUTPUT_TOKENS)


def alone(conversation: Conversation) -> list[Conversation]:
    """Return one conversation for each session."""
    return [replace(conversation, turns=[turns]) for turns in conversation.turns]


def agreement(answers: Sequence[Answer], reference: Sequence[Answer]) -> Agreement:
    """Compare the answers to `alone`, and after them the one to the whole conversation."""
    compared = [_compared(answer, expected) for answer, expected in zip(answers, reference, strict=True)]
    return Agreement(
        alone=sum(agreed for agreed, _ in compared[:-1]), together=compared[-1][0], of=compared[-1][1]
    )


def _compared(answer: Answer, reference: Answer) -> tuple[int, int]:
    agreed = total = 0
    for turns, expected in zip(answer.turns, reference.turns, strict=True):
        ids = [token_id for turn in turns for token_id in turn.ids]
        wanted = [token_id for turn in expected for token_id in turn.ids]
        agreed += next((at for at, token_id in enumerate(wanted) if ids[at] != token_id), len(wanted))
        total += len(wanted)
    return agreed, total
