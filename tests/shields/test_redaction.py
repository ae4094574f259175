"""Redaction: nothing of a finding stays, and nothing else goes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.shields import Finding
from agentkit.shields.redaction import merge_findings, redact


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
