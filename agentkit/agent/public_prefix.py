"""Which leading ids of an agent's prompts are its developer's own: what is cached of them, all tenants may use.

Nothing of a session is asked: the ids come from what was given to `Agent` at construction, and from no message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agentkit.inference.common_prefix import common_length
from agentkit.inference.formats.base import Format
from agentkit.messages import Message, ToolSpec

_QUESTIONS: Final = ("0", "?")
"""Two that have no beginning in common: what prompts with either share ends before the user's first word."""


def public_ids(format: Format, instructions: str, tools: Sequence[ToolSpec]) -> tuple[int, ...]:  # noqa: A002
    """Return the ids with which every prompt begins that has these instructions and tools."""
    system = [Message.system(instructions)] if instructions or tools else []
    one, other = (
        tuple(format.render([*system, Message.user(question)], tools=tools, add_generation_prompt=False))
        for question in _QUESTIONS
    )
    return one[: common_length(one, other)]
