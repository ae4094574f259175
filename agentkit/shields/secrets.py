"""The shield `secrets`: flags text that carries credentials, with the exact places so that they can be cut out."""

from __future__ import annotations

from functools import partial

import anyio.to_thread

from agentkit.errors import ShieldError
from agentkit.shields.base import Finding, ShieldInput, Verdict
from agentkit.shields.exact_views import find_in_views
from agentkit.shields.registry import register_shield
from agentkit.shields.secret_patterns import find_secrets
from agentkit.shields.self_test import KnownTexts, known_user_texts

MAX_CHARACTERS = 400_000

# Shorter texts are searched in less time than it takes to reach a worker thread.
_INLINE_CHARACTERS = 600


@register_shield("secrets")
class Secrets:
    """Flags API keys, tokens, private keys, passwords in URLs, and random-looking values of secret names.

    They are looked for in the text and in what it may hide: invisible characters inside of a key, letters that are
    spaced out, encodings.
    """

    async def start(self) -> None:
        """Nothing to load."""

    async def check(self, content: ShieldInput) -> Verdict:
        """Judge one piece of content.

        Raises:
            ShieldError: if it is longer than `MAX_CHARACTERS`.
        """
        if len(content.text) > MAX_CHARACTERS:
            raise ShieldError(
                f"secrets judges up to {MAX_CHARACTERS} characters, the content has {len(content.text)}"
            )
        if len(content.text) <= _INLINE_CHARACTERS:
            return _judge(content.text)
        return await anyio.to_thread.run_sync(partial(_judge, content.text), abandon_on_cancel=True)

    async def close(self) -> None:
        """Nothing to free."""

    def known_texts(self) -> KnownTexts:
        """Return a key as a cloud provider writes it, and a sentence."""
        return known_user_texts(
            # Amazon's own example, in two parts so that it is no finding in this file.
            bad="aws_access_key_id = " + "AKIA" + "IOSFODNN7EXAMPLE",
            good="The meeting about the budget is on Tuesday.",
        )


def secrets_in(text: str) -> tuple[list[Finding], tuple[str, ...]]:
    """Return the secrets of a text and of what it may hide, in their places, and the transforms that hid some."""
    return find_in_views(text, _findings)


def _judge(text: str) -> Verdict:
    found, transforms = secrets_in(text)
    if not found:
        return Verdict(flagged=False)
    kinds = tuple(dict.fromkeys(finding.label for finding in found))
    hidden = f", hidden by {', '.join(transforms)}" if transforms else ""
    return Verdict(
        flagged=True, category=kinds[0], reason=f"holds {', '.join(kinds)}{hidden}", findings=tuple(found)
    )


def _findings(text: str) -> list[Finding]:
    return [Finding(start=secret.start, end=secret.end, label=secret.kind) for secret in find_secrets(text)]
