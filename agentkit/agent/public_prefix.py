"""Which leading ids of an agent's prompts are its developer's own: what is cached of them, all tenants may use.

Nothing of a session is asked: the ids come from what was given to `Agent` at construction, and from no message.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentkit.inference.formats.base import Format
from agentkit.inference.formats.before_user import ids_before_user
from agentkit.messages import Message, ToolSpec


def public_ids(format: Format, instructions: str, tools: Sequence[ToolSpec]) -> tuple[int, ...]:  # noqa: A002
    """Return the ids with which every prompt begins that has these instructions and tools."""
    system = [Message.system(instructions)] if instructions or tools else []
    return ids_before_user(format, system, tools)
