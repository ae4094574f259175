"""A generation that begins again elsewhere, as the rest of the one that was lost. Knows no server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from agentkit.errors import InferenceError, RemoteError
from agentkit.inference.base import GeneratedToken


async def unseen(
    tokens: AsyncGenerator[GeneratedToken, None], seen: Sequence[int]
) -> AsyncGenerator[GeneratedToken, None]:
    """Give the tokens after those that were seen before, and close what gives them in the end.

    Raises:
        InferenceError: if the beginning is another one: what was seen cannot be taken back.
        RemoteError: if the stream ends without saying why.
    """
    position = 0
    async with aclosing(tokens):
        async for token in tokens:
            if position >= len(seen):
                yield token
            elif token.id != seen[position] or token.stop_reason is not None:
                raise InferenceError(
                    f"a replica was lost after {len(seen)} tokens, and the next one went on otherwise at token "
                    f"{position}; run the turn again"
                )
            position += 1
    raise RemoteError(f"the stream ended after {position} tokens without a stop reason", transient=True)
