"""A prompt in parts: special ids, and text between them. Formats turn text into ids only here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from agentkit.errors import ConfigurationError
from agentkit.inference.tokenizer import Tokenizer
from agentkit.messages import Message, Role

Part = str | int  # ordinary text, or a special id


def encode_parts(parts: Iterable[Part], tokenizer: Tokenizer) -> list[int]:
    """Return the ids. The text between two special ids is one run: it is encoded as the whole that it is."""
    ids: list[int] = []
    for part in merge_runs(parts):
        if isinstance(part, int):
            ids.append(part)
        else:
            ids.extend(tokenizer.encode(part))
    return ids


def encode_apart(parts: Iterable[Part], tokenizer: Tokenizer) -> list[int]:
    """Return the ids, with every piece of text encoded by itself: no token reaches over from one to the next."""
    ids: list[int] = []
    for part in parts:
        ids += [part] if isinstance(part, int) else tokenizer.encode(part)
    return ids


def merge_runs(parts: Iterable[Part]) -> list[Part]:
    """Return the parts with neighbouring texts joined and empty ones left out."""
    merged: list[Part] = []
    for is_text, group in groupby(parts, key=lambda part: isinstance(part, str)):
        if not is_text:
            merged.extend(group)
        elif run := "".join(str(part) for part in group):
            merged.append(run)
    return merged


def check_messages(messages: Sequence[Message], start: int) -> None:
    """Check what every dialect asks of a conversation.

    Raises:
        ConfigurationError: if a system message is not the first, or `start` is out of range.
    """
    if not 0 <= start <= len(messages):
        raise ConfigurationError(f"start must be in [0, {len(messages)}], got {start}")
    for index, message in enumerate(messages[1:], start=1):
        if message.role is Role.SYSTEM:
            raise ConfigurationError(f"a system message can only be the first, got one at index {index}")
