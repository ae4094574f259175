"""Which replica a session belongs to: rendezvous hashing on its scope and the beginning of its prompts. Keeps no state.

Everybody who has the same addresses ranks them alike, in whatever order they are written.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from hashlib import blake2b

MAX_FIRST_TOKENS = 64
"""How much of what follows the public prefix tells sessions apart: a first message may be as long as a book."""


def session_key(
    prompt_ids: Sequence[int], *, scope: str, public_prefix: int, special_ids: Container[int]
) -> bytes:
    """Return what all prompts of a session have in common, and those of few other sessions.

    That is the scope, the public prefix, and what follows it up to its first special token: the user's first
    message, which stays as it is while the conversation grows behind it.
    """
    end = public_prefix
    for token_id in prompt_ids[public_prefix : public_prefix + MAX_FIRST_TOKENS]:
        end += 1
        if token_id in special_ids:
            break
    return f"{scope!a} {list(prompt_ids[:end])}".encode()


def ranked(key: bytes, urls: Iterable[str]) -> list[str]:
    """Return the addresses, best first. Without one of them the others keep their order."""
    return sorted(urls, key=lambda url: _weight(key, url), reverse=True)


def _weight(key: bytes, url: str) -> bytes:
    address = blake2b(url.encode(), digest_size=32).digest()
    return blake2b(key, key=address, digest_size=16).digest()
