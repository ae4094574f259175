"""A generation that begins again elsewhere, as the rest of the one that was lost. Knows no replica."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from agentkit.errors import InferenceError, RemoteError
from agentkit.inference.base import GeneratedToken


async def unseen(
    tokens: AsyncIterator[GeneratedToken], given: Sequence[int]
) -> AsyncGenerator[GeneratedToken, None]:
    """Give the tokens of a generation that has begun again, without those that were given before; close it in the end.

    Raises:
        InferenceError: if they are others: what was given cannot be taken back.
        RemoteError: if the stream ends without saying why.
    """
    seen, position = tuple(given), 0
    try:
        async for token in tokens:
            if position >= len(seen):
                yield token
            elif token.id != seen[position] or token.stop_reason is not None:
                raise InferenceError(
                    f"a replica was lost after {len(seen)} tokens, and the next one went on otherwise at token "
                    f"{position}; run the turn again"
                )
            position += 1
    finally:
        if isinstance(tokens, AsyncGenerator):
            await tokens.aclose()
    raise RemoteError(f"the stream ended after {position} tokens without a stop reason", transient=True)
