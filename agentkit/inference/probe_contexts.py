"""Behind what a probe reads a text: the beginning of a conversation, as what a user says stands behind one.

Read behind nothing, its first tokens would become attention sinks, whose states are like no other's.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

from agentkit.errors import ConfigurationError
from agentkit.inference.tokenizer import Tokenizer
from agentkit.messages import Message

_CONVERSATIONS: Final = (
    (Message.system("You are a helpful assistant. You explain things in plain words."),),
    (
        Message.system("You answer questions about gardens, and look up what you do not know."),
        Message.user("Which plants flower in the shade in March, and what does a heavy soil want before?"),
        Message.assistant(
            "Hellebores and snowdrops flower early in the shade. A heavy soil wants compost on top, and no digging "
            "while it is wet."
        ),
    ),
)


def conversation_prefixes(tokenizer: Tokenizer) -> tuple[tuple[int, ...], ...]:
    """Return the ids that stand before what a user says; none for a model that has no template for conversations."""
    # A tokenizer's libraries, for those who read alone.
    from agentkit.inference.formats import format_for
    from agentkit.inference.formats.before_user import ids_before_user

    try:
        format = format_for(tokenizer)  # noqa: A001  # the field's word for it
    except ConfigurationError:
        return ()
    return tuple(ids_before_user(format, messages) for messages in _CONVERSATIONS)


def place_of(text: str, places: int) -> int:
    """Return which of so many places a text is read at: always the same one, and each by as many texts."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) % places


def befores(tokenizer: Tokenizer, *, room: int) -> Sequence[Sequence[int]]:
    """Return what texts are read behind: conversations of at most `room` ids, or else the id that begins a prompt."""
    fitting = [prefix for prefix in conversation_prefixes(tokenizer) if len(prefix) <= room]
    if fitting:
        return fitting
    return [[min(tokenizer.eos_ids, default=0) if tokenizer.bos_id is None else tokenizer.bos_id]]
