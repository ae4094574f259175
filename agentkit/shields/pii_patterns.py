"""Finds personal data in a text, with offsets: what has a form, and a checksum where its kind has one.

Names and addresses in prose have no form: they are not looked for. Knows patterns, not policy. `phonenumbers` knows
phone numbers; the rest is short, and was measured beside presidio's recognisers: `benchmarks/personal_data.py`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import phonenumbers


class PersonalKind(StrEnum):
    """A kind of personal data, by the name that policies and redacted texts use.

    Where two kinds could be meant, the first of them is: one with a checksum before one with a form alone.
    """

    EMAIL = "email"
    IBAN = "iban"
    CREDIT_CARD = "credit_card"
    SSN = "ssn"
    IP_ADDRESS = "ip_address"
    PHONE = "phone"


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalData:
    """`[start, end)` of a text, and what stands there."""

    start: int
    end: int
    kind: PersonalKind


# The local part is read back from the @, so that a text of letters only costs one pass.
_DOMAIN: Final = re.compile(
    r"@(?:[a-z0-9](?:[a-z0-9-]{0,62})\.){1,8}[a-z]{2,24}(?![\w-]|\.\w)", re.IGNORECASE
)
_LOCAL: Final = re.compile(r"[\w%+-][\w.%+'-]{0,63}$")
_LONGEST_LOCAL: Final = 64

_IBAN_START: Final = re.compile(r"(?<![A-Za-z0-9])([A-Za-z]{2})[0-9]{2}")
_IBAN_REACH: Final = 60
# Characters of an IBAN by country, from the registry that SWIFT keeps.
_IBAN_REGISTRY: Final = (
    "NO15 BE16 DK18 FI18 FO18 GL18 NL18 MK19 SI19 AT20 BA20 EE20 KZ20 LT20 LU20 XK20 CH21 HR21 LI21 LV21 BG22 BH22 "
    "CR22 DE22 GB22 GE22 IE22 ME22 RS22 VA22 AE23 GI23 IL23 IQ23 TL23 AD24 CZ24 ES24 MD24 PK24 RO24 SA24 SE24 SK24 "
    "TN24 VG24 PT25 IS26 TR26 FR27 GR27 IT27 MC27 MR27 SM27 AL28 AZ28 BY28 CY28 DO28 GT28 HU28 LB28 PL28 SV28 BR29 "
    "EG29 PS29 QA29 UA29 JO30 KW30 MU30 LC32 MT31 SC31"
)
_IBAN_LENGTHS: Final = {entry[:2]: int(entry[2:]) for entry in _IBAN_REGISTRY.split()}

_DIGIT_RUN: Final = re.compile(r"(?<![\w.])[0-9](?:[ -]?[0-9]){12,}+(?!\w)")
_GROUP: Final = re.compile(r"[0-9]+")
# What the first digits say of the issuer, and how many digits its cards have.
_ISSUERS: Final = (
    (re.compile(r"4"), (19, 16, 13)),
    (re.compile(r"5[1-5]|2(?:2[2-9]|[3-6]|7[01])"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"3(?:0[0-5]|[689])"), (14,)),
    (re.compile(r"35|6"), (19, 16)),
)

_SSN: Final = re.compile(
    r"(?<![\w.-])(?!000|666|9)[0-9]{3}([ -])(?!00)[0-9]{2}\1(?!0000)[0-9]{4}(?![\w-]|\.[0-9])"
)

_IPV4: Final = re.compile(r"(?<![\w.-])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w-]|\.[0-9])")
_IPV6: Final = re.compile(r"(?<![\w:.])[0-9a-f]{0,4}:[0-9a-f:]{0,33}[0-9a-f](?![\w:])", re.IGNORECASE)
_GIVEN_OUT_IPV6: Final = ipaddress.IPv6Network("2000::/3")
_VERSION: Final = re.compile(r"(?:version|release|build|v)\W{1,3}$", re.IGNORECASE)

# The library that knows phone numbers is slow on prose: it reads only what has their form.
_PHONE: Final = re.compile(r"(?<![\w.,@/-])(?:\+|\(?[0-9])[0-9 ()./\u00a0-]{5,20}[0-9](?![\w-]|\.[0-9])")
_PHONE_WORD: Final = re.compile(
    r"\b(?:phone|tel|telephone|call|mobile|cell|fax|whatsapp|sms|text|reach|contact|telefon|handy|ring|number)\b[^0-9\n]{0,24}$",
    re.IGNORECASE,
)
_WORD_REACH: Final = 40


def find_personal_data(
    text: str, kinds: Collection[PersonalKind], phone_regions: Collection[str]
) -> list[PersonalData]:
    """Return what was found of these kinds, in order, without overlap.

    `phone_regions` are the countries (`US`) by whose rules a phone number without a country code is read.
    """
    taken = bytearray(len(text))
    found: list[PersonalData] = []
    for kind in PersonalKind:
        if kind not in kinds:
            continue
        spans = _phones(text, phone_regions) if kind is PersonalKind.PHONE else _FINDERS[kind](text)
        for start, end in spans:
            if not any(taken[start:end]):
                taken[start:end] = b"\1" * (end - start)
                found.append(PersonalData(start=start, end=end, kind=kind))
    return sorted(found, key=lambda data: data.start)


def _emails(text: str) -> Iterator[tuple[int, int]]:
    for match in _DOMAIN.finditer(text):
        local = _LOCAL.search(text[max(0, match.start() - _LONGEST_LOCAL) : match.start()])
        if local:
            yield match.start() - len(local[0]), match.end()


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for match in _IBAN_START.finditer(text):
        length = _IBAN_LENGTHS.get(match[1].upper())
        end = _end_of_characters(text, match.start(), length) if length else None
        if end is not None and _passes_mod_97(text[match.start() : end]):
            yield match.start(), end


def _end_of_characters(text: str, start: int, count: int) -> int | None:
    """Return where `count` letters and digits end, which single blanks and hyphens may group."""
    for at in range(start, min(len(text), start + _IBAN_REACH)):
        if text[at].isascii() and text[at].isalnum():
            count -= 1
        elif text[at] not in " -\u00a0" or not text[at - 1].isalnum():
            return None
        if count == 0:
            ends = at + 1 == len(text) or not text[at + 1].isalnum()
            return at + 1 if ends else None
    return None


def _passes_mod_97(iban: str) -> bool:
    compact = "".join(character for character in iban.upper() if character.isalnum())
    return int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97 == 1


def _cards(text: str) -> Iterator[tuple[int, int]]:
    for run in _DIGIT_RUN.finditer(text):
        done = run.start()
        for group in _GROUP.finditer(text, run.start(), run.end()):
            end = _end_of_card(text, group.start(), run.end()) if group.start() >= done else None
            if end is not None:
                done = end
                yield group.start(), end


def _end_of_card(text: str, start: int, run_end: int) -> int | None:
    """Return where the card number ends that begins here; it ends with a group of digits."""
    places = [at for at in range(start, min(run_end, start + 40)) if text[at].isdigit()][:19]
    digits = "".join(text[at] for at in places)
    for issuer, lengths in _ISSUERS:
        if not issuer.match(digits):
            continue
        for length in lengths:
            if len(digits) < length or not _passes_luhn(digits[:length]):
                continue
            end = places[length - 1] + 1
            if end == len(text) or not text[end].isdigit():
                return end
    return None


def _passes_luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


def _social_security_numbers(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _SSN.finditer(text))


def _ip_addresses(text: str) -> Iterator[tuple[int, int]]:
    """Yield public addresses: those of one's own machine or network say nothing about anybody."""
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            told = _VERSION.search(text[max(0, match.start() - 12) : match.start()])
            if not told and _is_public_address(match[0]):
                yield match.span()


def _is_public_address(candidate: str) -> bool:
    try:
        address = ipaddress.ip_address(candidate)
    except ValueError:
        return False
    # Of IPv6 only what is given out: `a::b` is an address too, and a name in C++.
    return address.is_global and (address.version == 4 or address in _GIVEN_OUT_IPV6)


def _phones(text: str, regions: Collection[str]) -> Iterator[tuple[int, int]]:
    for match in _PHONE.finditer(text):
        if match[0].startswith("+"):
            valid = _is_phone(match[0], None)
        else:
            # Bare digits may be any number; written in groups, or after such a word, they are one to call.
            grouped = re.search(r"[0-9][ ()./\u00a0-]+[0-9]", match[0]) is not None
            announced = (
                _PHONE_WORD.search(text[max(0, match.start() - _WORD_REACH) : match.start()]) is not None
            )
            valid = (grouped or announced) and any(_is_phone(match[0], region) for region in regions)
        if valid:
            yield match.span()


def _is_phone(candidate: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(candidate, region))
    except phonenumbers.NumberParseException:
        return False


_FINDERS: Final[dict[PersonalKind, Callable[[str], Iterator[tuple[int, int]]]]] = {
    PersonalKind.EMAIL: _emails,
    PersonalKind.IBAN: _ibans,
    PersonalKind.CREDIT_CARD: _cards,
    PersonalKind.SSN: _social_security_numbers,
    PersonalKind.IP_ADDRESS: _ip_addresses,
}
