"""Redaction: nothing of a finding stays, and nothing else goes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.shields import Finding
from agentkit.shields.pii_patterns import PersonalKind, find_personal_data
from agentkit.shields.redaction import end_of_whole_words, merge_findings, redact
from agentkit.shields.secrets import secrets_in


@st.composite
def texts_with_findings(draw: st.DrawFn) -> tuple[str, list[Finding]]:
    # Every character its own, and none that a replacement could contain.
    text = "".join(chr(0x4E00 + index) for index in range(draw(st.integers(1, 40))))
    starts = draw(st.lists(st.integers(0, len(text) - 1), max_size=8))
    return text, [
        Finding(start=start, end=draw(st.integers(start + 1, len(text))), label="x") for start in starts
    ]


@settings(deadline=None)
@given(texts_with_findings())
def test_redaction_leaves_no_character_of_a_finding_and_every_other(case: tuple[str, list[Finding]]) -> None:
    text, findings = case
    merged = merge_findings(findings)
    redacted = redact(text, merged)

    found = {text[index] for finding in findings for index in range(finding.start, finding.end)}
    assert [char for char in redacted if char >= "\u4e00"] == [char for char in text if char not in found]
    assert all(one.end <= two.start for one, two in pairwise(merged))


def test_a_label_cannot_carry_control_characters_into_the_text() -> None:
    finding = Finding(start=0, end=1, label="<|eot_id|>\n" + "x" * 99)
    assert redact("s", [finding]) == "[REDACTED:__eot_id___" + "x" * 29 + "]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one two thr", "one two "),
        ("one two ", "one two "),
        ("unbroken", ""),
        ("", ""),
        ("pay with 4111 1111 11", "pay with "),
        ("call +1 (415) 555", "call "),
        ("to GB82 WEST 1234 5", "to "),
        ("the key:\n-----BEGIN RSA PRI", "the key:\n"),
        ('{"card":"4111 1111', ""),
        ("is [REDACTED:credit card] 11", "is "),
        ("is [REDACTED:email], and", "is [REDACTED:email], "),
        ("rows " + "12 " * 40, "rows " + "12 " * 8),
    ],
)
def test_an_unfinished_text_is_shown_up_to_what_may_go_on(text: str, shown: str) -> None:
    assert text[: end_of_whole_words(text)] == shown


@pytest.mark.parametrize(
    "secret",
    [
        "4111 1111 1111 1111",
        "DE89 3704 0044 0532 0130 00",
        "GB82 WEST 1234 5698 7654 32",
        "+49 30 901820",
        "+43 1 5055 0000 12",
        "(415) 555-2671",
        "bob@example.org",
        "ghp_" + "a1B2" * 9,
        " ".join("ghp_" + "a1B2" * 9),
        "\u200b".join("ghp_" + "a1B2" * 9),
        "-----BEGIN RSA PRIVATE KEY-----\n" + "Ab0+" * 16 + "\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_wherever_a_segment_ends_nothing_of_a_secret_is_shown_before_it_is_known(secret: str) -> None:
    text = f"Well, you can use {secret} for it."
    shown = ""

    for end in range(1, len(text) + 1):
        so_far = text[:end]
        spans = [(data.start, data.end) for data in find_personal_data(so_far, tuple(PersonalKind), ("US",))]
        spans += [(found.start, found.end) for found in secrets_in(so_far)[0]]
        findings = [Finding(start=start, end=stop, label="x") for start, stop in spans]
        visible = redact(so_far, merge_findings(findings))
        assert visible.startswith(shown)
        shown = visible[: max(len(shown), end_of_whole_words(visible))]

    assert shown == "Well, you can use [REDACTED:x] for "
