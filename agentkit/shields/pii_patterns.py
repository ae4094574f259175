"""Finds personal data in a text, with offsets: what has a form, and a checksum where its kind has one.

Names and addresses in prose have no form: they are not looked for. Knows patterns, not policy. The patterns were
measured beside presidio's recognisers: `benchmarks/personal_data.py`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from agentkit.shields.normalize import folded_view
from agentkit.shields.pii_phones import find_phones


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


# All of these search folded text: lower case, ASCII where it looks like ASCII, without invisible characters.
# The local part is read back from the @, so that a text of letters only costs one pass.
_DOMAIN: Final = re.compile(r"@(?:[a-z0-9](?:[a-z0-9-]{0,62})\.){1,8}[a-z]{2,24}(?![\w-]|\.\w)")
_LOCAL: Final = re.compile(r"[\w%+-][\w.%+'-]{0,63}$")
_LONGEST_LOCAL: Final = 64

_IBAN_START: Final = re.compile(r"(?<![a-z0-9])([a-z]{2})[0-9]{2}")
_IBAN_REACH: Final = 60
# Characters of an IBAN by country, from the registry that SWIFT keeps.
_IBAN_REGISTRY: Final = (
    "no15 be16 dk18 fi18 fo18 gl18 nl18 mk19 si19 at20 ba20 ee20 kz20 lt20 lu20 xk20 ch21 hr21 li21 lv21 bg22 bh22 "
    "cr22 de22 gb22 ge22 ie22 me22 rs22 va22 ae23 gi23 il23 iq23 tl23 ad24 cz24 es24 md24 pk24 ro24 sa24 se24 sk24 "
    "tn24 vg24 pt25 is26 tr26 fr27 gr27 it27 mc27 mr27 sm27 al28 az28 by28 cy28 do28 gt28 hu28 lb28 pl28 sv28 br29 "
    "eg29 ps29 qa29 ua29 jo30 kw30 mu30 lc32 mt31 sc31"
)
_IBAN_LENGTHS: Final = {entry[:2]: int(entry[2:]) for entry in _IBAN_REGISTRY.split()}

_DIGIT_RUN: Final = re.compile(r"(?<![\w.])[0-9](?:[ -]?[0-9]){12,}+(?!\w)")
_GROUP: Final = re.compile(r"[0-9]+")
_LONGEST_CARD: Final = 40
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
_IPV6: Final = re.compile(r"(?<![\w:.])[0-9a-f]{0,4}:[0-9a-f:]{0,33}[0-9a-f](?![\w:])")
_GIVEN_OUT_IPV6: Final = ipaddress.IPv6Network("2000::/3")
_VERSION: Final = re.compile(r"\b(?:version|release|build|v)\W{1,3}$")
_VERSION_REACH: Final = 12

_Spans = Iterator[tuple[int, int]]


def find_personal_data(
    text: str, kinds: Collection[PersonalKind], phone_regions: Collection[str]
) -> list[PersonalData]:
    """Return what was found of these kinds, in order.

    `phone_regions` are the countries (`US`) by whose rules a phone number without a country code is read.
    """
    view = folded_view(text)
    taken = bytearray(len(view.text))
    found: list[PersonalData] = []
    for kind in PersonalKind:
        if kind not in kinds:
            continue
        phone = kind is PersonalKind.PHONE
        for start, end in find_phones(view.text, phone_regions) if phone else _FINDERS[kind](view.text):
            if not any(taken[start:end]):
                taken[start:end] = b"\1" * (end - start)
                raw_start, raw_end = view.raw_span(start, end)
                found.append(PersonalData(start=raw_start, end=raw_end, kind=kind))
    return sorted(found, key=lambda data: data.start)


def _emails(text: str) -> _Spans:
    for match in _DOMAIN.finditer(text):
        local = _LOCAL.search(text[max(0, match.start() - _LONGEST_LOCAL) : match.start()])
        if local:
            yield match.start() - len(local[0]), match.end()


def _ibans(text: str) -> _Spans:
    for match in _IBAN_START.finditer(text):
        length = _IBAN_LENGTHS.get(match[1])
        end = _end_of_characters(text, match.start(), length) if length else None
        if end is not None and _passes_mod_97(text[match.start() : end]):
            yield match.start(), end


def _end_of_characters(text: str, start: int, count: int) -> int | None:
    """Return where `count` letters and digits end, which single blanks and hyphens may group."""
    for at in range(start, min(len(text), start + _IBAN_REACH)):
        if text[at].isascii() and text[at].isalnum():
            count -= 1
        elif text[at] not in " -" or not text[at - 1].isalnum():
            return None
        if count == 0:
            ends = at + 1 == len(text) or not text[at + 1].isalnum()
            return at + 1 if ends else None
    return None


def _passes_mod_97(iban: str) -> bool:
    compact = "".join(character for character in iban if character.isalnum())
    return int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97 == 1


def _cards(text: str) -> _Spans:
    for run in _DIGIT_RUN.finditer(text):
        done = run.start()
        for group in _GROUP.finditer(text, run.start(), run.end()):
            end = _end_of_card(text, group.start(), run.end()) if group.start() >= done else None
            if end is not None:
                done = end
                yield group.start(), end


def _end_of_card(text: str, start: int, run_end: int) -> int | None:
    """Return where the card number ends that begins here; it ends with a group of digits."""
    places = [at for at in range(start, min(run_end, start + _LONGEST_CARD)) if text[at].isdigit()]
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


def _social_security_numbers(text: str) -> _Spans:
    return (match.span() for match in _SSN.finditer(text))


def _ip_addresses(text: str) -> _Spans:
    """Yield public addresses: those of one's own machine or network say nothing about anybody."""
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            told = _VERSION.search(text[max(0, match.start() - _VERSION_REACH) : match.start()])
            if not told and _is_public_address(match[0]):
                yield match.span()


def _is_public_address(candidate: str) -> bool:
    try:
        address = ipaddress.ip_address(candidate)
    except ValueError:
        return False
    # Of IPv6 only what is given out: `a::b` is an address too, and a name in C++.
    return address.is_global and (address.version == 4 or address in _GIVEN_OUT_IPV6)


_FINDERS: Final[dict[PersonalKind, Callable[[str], _Spans]]] = {
    PersonalKind.EMAIL: _emails,
    PersonalKind.IBAN: _ibans,
    PersonalKind.CREDIT_CARD: _cards,
    PersonalKind.SSN: _social_security_numbers,
    PersonalKind.IP_ADDRESS: _ip_addresses,
}
