"""The shield `pii`: flags text that carries personal data of a known form, with the exact places to cut out."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import anyio.to_thread
import phonenumbers
from pydantic import Field

from agentkit.errors import ConfigurationError, ShieldError
from agentkit.shields.base import Finding, ShieldInput, Verdict
from agentkit.shields.pii_patterns import PersonalData, PersonalKind, find_personal_data
from agentkit.shields.registry import register_shield
from agentkit.shields.self_test import KnownTexts, known_user_texts

MAX_CHARACTERS = 400_000

# Numbers that are published as examples.
_EXAMPLES = {
    PersonalKind.EMAIL: "someone@example.org",
    PersonalKind.IBAN: "GB82 WEST 1234 5698 7654 32",
    PersonalKind.CREDIT_CARD: "4111 1111 1111 1111",
    PersonalKind.SSN: "219-09-9999",
    PersonalKind.IP_ADDRESS: "8.8.8.8",
    PersonalKind.PHONE: "+49 30 901820",
}
# Shorter texts are searched in less time than it takes to reach a worker thread.
_INLINE_CHARACTERS = 600


@register_shield("pii")
class PersonalDataShield:
    """Flags email addresses, IBANs, payment cards, US social security numbers, public IP and phone numbers.

    `kinds` chooses among them. `phone_regions` are the countries by whose rules a phone number without a country
    code is read; one with its country code is found wherever it is from.
    """

    def __init__(
        self,
        *,
        kinds: Annotated[tuple[PersonalKind, ...], Field(min_length=1)] = tuple(PersonalKind),
        phone_regions: tuple[Annotated[str, Field(pattern="^[A-Z]{2}$")], ...] = ("US",),
    ) -> None:
        self._kinds = frozenset(kinds)
        self._phone_regions = phone_regions

    async def start(self) -> None:
        """Check the regions.

        Raises:
            ConfigurationError: if one is no country that phone numbers are known of.
        """
        for region in self._phone_regions:
            if region not in phonenumbers.SUPPORTED_REGIONS:
                raise ConfigurationError(
                    f"pii: phone_regions names {region!r}, which is no country code; write US, GB, DE, ..."
                )

    async def check(self, content: ShieldInput) -> Verdict:
        """Judge one piece of content.

        Raises:
            ShieldError: if it is longer than `MAX_CHARACTERS`.
        """
        if len(content.text) > MAX_CHARACTERS:
            raise ShieldError(
                f"pii judges up to {MAX_CHARACTERS} characters, the content has {len(content.text)}"
            )
        find = partial(find_personal_data, content.text, self._kinds, self._phone_regions)
        if len(content.text) <= _INLINE_CHARACTERS:
            return _verdict(find())
        return _verdict(await anyio.to_thread.run_sync(find, abandon_on_cancel=True))

    async def close(self) -> None:
        """Nothing to free."""

    def known_texts(self) -> KnownTexts:
        """Return an example of a kind that is looked for, and a sentence."""
        examples = (_EXAMPLES[kind] for kind in PersonalKind if kind in self._kinds)
        return known_user_texts(
            bad=f"Write this down: {next(examples)}", good="The meeting about the budget is on Tuesday."
        )


def _verdict(found: list[PersonalData]) -> Verdict:
    if not found:
        return Verdict(flagged=False)
    kinds = tuple(dict.fromkeys(data.kind.value for data in found))
    return Verdict(
        flagged=True,
        category=kinds[0],
        reason=f"holds {', '.join(kinds)}",
        findings=tuple(Finding(start=data.start, end=data.end, label=data.kind.value) for data in found),
    )
