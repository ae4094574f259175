"""Which ids of a prompt stand before what its user says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agentkit.inference.common_prefix import common_length
from agentkit.inference.formats.base import Format
from agentkit.messages import Message, ToolSpec

_TEXTS: Final = ("0", "?")
"""Two that have no beginning in common: what prompts with either share ends before the user's first word."""


def ids_before_user(
    format: Format,  # noqa: A002  # the field's word for it
    messages: Sequence[Message],
    tools: Sequence[ToolSpec] = (),
) -> tuple[int, ...]:
    """Return the ids of a prompt up to where the text begins that a user says after these messages."""
    one, other = (
        tuple(format.render([*messages, Message.user(text)], tools=tools, add_generation_prompt=False))
        for text in _TEXTS
    )
    return one[: common_length(one, other)]
