"""The shield `pii`: forms and checksums, what only looks alike, and redaction that stays readable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import ConfigurationError, ShieldError
from agentkit.messages import MODEL
from agentkit.shields.base import ShieldInput, Stage, Verdict
from agentkit.shields.pii import MAX_CHARACTERS, PersonalDataShield
from agentkit.shields.pii_patterns import PersonalKind, find_personal_data
from agentkit.shields.redaction import merge_findings, redact
from agentkit.shields.registry import ShieldOptionError, find_shield
from agentkit.shields.self_test import failed_self_test


async def judged(text: str, **options) -> Verdict:
    shield = PersonalDataShield(**options)
    await shield.start()
    return await shield.check(ShieldInput(text=text, stage=Stage.MODEL_OUTPUT, provenance=MODEL))


async def redacted(text: str, **options) -> str:
    verdict = await judged(text, **options)
    return redact(text, merge_findings(verdict.findings))


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("Mail <bob.o'neil+news@mail.example.co.uk>.", "Mail <[REDACTED:email]>."),
        ("jürgen@müller.example or x@example.org", "[REDACTED:email] or [REDACTED:email]"),
        (
            "b\u200bob@exаmple.org, ４１１１\u00a01111\u00a01111 1111",
            "[REDACTED:email], [REDACTED:credit_card]",
        ),
        ("IBAN DE89 3704 0044 0532 0130 00 and more", "IBAN [REDACTED:iban] and more"),
        ("gb82west12345698765432", "[REDACTED:iban]"),
        ("Pay NO93-8601-1117-947, please", "Pay [REDACTED:iban], please"),
        ("Card 4111 1111 1111 1111 exp 12/29", "Card [REDACTED:credit_card] exp 12/29"),
        ("378282246310005", "[REDACTED:credit_card]"),
        ("5555-5555-5555-4444.", "[REDACTED:credit_card]."),
        ("12 4111 1111 1111 1111 12", "12 [REDACTED:credit_card] 12"),
        ("SSN: 219-09-9998", "SSN: [REDACTED:ssn]"),
        ("from 8.8.8.8.", "from [REDACTED:ip_address]."),
        ("host 2606:4700:4700::1111 answered", "host [REDACTED:ip_address] answered"),
        ("Call +49 30 901820 now", "Call [REDACTED:phone] now"),
        ("(415) 555-2671 or 415.555.2671", "[REDACTED:phone] or [REDACTED:phone]"),
        ("my number is 4155552671", "my number is [REDACTED:phone]"),
        ("+33 6 12 34 56 78 2024", "[REDACTED:phone] 2024"),
        ("12: (415) 555-2671, 12", "12: [REDACTED:phone], 12"),
        ("dev 8.8.8.8", "dev [REDACTED:ip_address]"),
    ],
)
async def test_personal_data_is_cut_out_and_the_rest_stays_readable(text: str, readable: str):
    assert await redacted(text) == readable


@pytest.mark.parametrize(
    "text",
    [
        "name@host, a@b, @someone and foo@bar.1",
        "DE89 3704 0044 0532 0130 01",
        "DE8937040044",
        "ZZ89 3704 0044 0532 0130 00",
        "4111 1111 1111 1112",
        "0000 0000 0000 0000",
        "9111 1111 1111 1113",
        "000-12-3456, 666-12-3456, 123-45-0000, 219-09 9998",
        "127.0.0.1, 192.168.1.10, 10.0.0.1, 256.1.1.1, ::1, fe80::1",
        "version 1.2.3.4 and v8.8.8.8, 1.2.3.4.5",
        "at 12:30:45 on 2024-05-17, 1,234,567 rows, 3.141592653589793",
        "order 4155552671 of 2024",
        "2024-05-17 10:30 and 2024-05-17 10, 17/05/2024 10:30",
        "rows 10 20 30 40 50 60 70 80 90",
        "std::vector<int>::iterator and a::b",
        "id 3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "1234567890123",
        "",
    ],
)
async def test_what_only_looks_like_personal_data_passes(text: str):
    assert not (await judged(text)).flagged


async def test_only_the_chosen_kinds_are_looked_for():
    text = "bob@example.org 4111 1111 1111 1111"

    verdict = await judged(text, kinds=(PersonalKind.CREDIT_CARD,))

    assert [finding.label for finding in verdict.findings] == ["credit_card"]
    assert verdict.reason == "holds credit_card"


async def test_numbers_without_a_country_code_are_read_by_the_rules_of_the_chosen_regions():
    text = "Ruf an: 030 901820"

    assert not (await judged(text)).flagged
    assert (await judged(text, phone_regions=("US", "DE"))).category == "phone"
    assert not (await judged(text, phone_regions=())).flagged


async def test_a_reason_names_kinds_and_quotes_nothing():
    verdict = await judged("bob@example.org called from 8.8.8.8")

    assert verdict.reason == "holds email, ip_address"


@pytest.mark.parametrize("kind", PersonalKind)
async def test_every_choice_of_kinds_passes_its_self_test(kind):
    shield = PersonalDataShield(kinds=(kind,))
    await shield.start()

    assert await failed_self_test(shield) is None


async def test_an_unknown_region_is_refused_at_start():
    with pytest.raises(ConfigurationError, match="'ZZ'"):
        await judged("", phone_regions=("ZZ",))


async def test_text_that_is_too_long_is_an_error_and_no_verdict():
    with pytest.raises(ShieldError, match="judges up to"):
        await judged("a" * (MAX_CHARACTERS + 1))


@pytest.mark.parametrize("options", [{"kinds": []}, {"kinds": ["emial"]}, {"phone_regions": ["de"]}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ShieldOptionError):
        find_shield("pii").validate(options)


def test_the_options_of_a_policy_become_kinds():
    assert find_shield("pii").validate({"kinds": ["email", "phone"]})["kinds"] == (
        PersonalKind.EMAIL,
        PersonalKind.PHONE,
    )


@given(
    digits=st.text("0123456789", min_size=15, max_size=15),
    groups=st.sampled_from(["", " ", "-"]),
    around=st.sampled_from([("", ""), ("card ", "."), ("(", ")"), ("a: ", ", b")]),
)
def test_sixteen_digits_of_an_issuer_are_a_card_exactly_when_their_check_digit_fits(digits, groups, around):
    number = "4" + digits
    doubled = [int(digit) * (2 - i % 2) for i, digit in enumerate(number)]
    fits = sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0
    text = groups.join(number[i : i + 4] for i in range(0, 16, 4)).join(around)

    found = find_personal_data(text, (PersonalKind.CREDIT_CARD,), ())

    whole = [(len(around[0]), len(text) - len(around[1]))]
    assert ([(data.start, data.end) for data in found] == whole) is fits


@given(text=st.text("0123456789 -+.:@abcDE", max_size=120))
def test_findings_are_in_order_inside_the_text_and_apart(text):
    done = 0
    for data in find_personal_data(text, tuple(PersonalKind), ("US",)):
        assert done <= data.start < data.end <= len(text)
        done = data.end


@pytest.mark.parametrize("unit", ["a", "a@a.", "1 ", "4111 ", "DE89 ", "1.", "a:", "(1", "219-09-", "call "])
def test_long_hostile_text_is_read(unit: str):
    text = unit * (50_000 // len(unit))

    found = find_personal_data(text, tuple(PersonalKind), ("US",))

    assert all(data.end <= len(text) for data in found)
