"""A bad policy file is refused in one line, with its place and the nearest valid name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.errors import PolicyError
from agentkit.shields import Policy
from tests.shields.fakes import GOOD

# What to replace in the good policy, by what, and the whole error.
BAD = [
    ("version: 1", "version: 2", "1: version must be 1, got 2"),
    ("version: 1", "version: '1'", "1: version must be 1, got '1'"),
    ("version: 1\n", "", "missing key 'version'"),
    ("failure:", "failures:", "15: unknown key 'failures'; did you mean 'failure'?"),
    ("user_input:", "user_inptu:", "6: unknown stage 'user_inptu' in stages; did you mean 'user_input'?"),
    (
        "  code: []\n",
        "",
        "5: missing stage 'code' in stages; write [] where nothing is to be judged",
    ),
    (
        "  tool_call: []\n  code: []\n",
        "",
        "5: missing stages 'tool_call', 'code' in stages; write [] where nothing is to be judged",
    ),
    ("memory: []", "memory:", "13: stages.memory must be a list, got null"),
    ("memory: []", "memory: none", "13: stages.memory must be a list, got 'none'"),
    (
        "shield: injection, on_hit: block",
        "shield: injektion, on_hit: block",
        "6: stage user_input names shield 'injektion', which is not under shields; did you mean 'injection'?",
    ),
    (
        "shield: content",
        "shield: injection",
        "12: stage tool_result names shield 'injection' twice",
    ),
    (
        "on_hit: withhold",
        "on_hit: withold",
        "11: stages.tool_result[0].on_hit cannot be 'withold'; did you mean 'withhold'?",
    ),
    (
        "on_hit: block}]",
        "on_hti: block}]",
        "6: unknown key 'on_hti' in stages.user_input[0]; did you mean 'on_hit'?",
    ),
    (", on_hit: block}]", "}]", "6: missing key 'on_hit' in stages.user_input[0]"),
    (
        "mode: shadow",
        "mode: silent",
        "12: stages.tool_result[1].mode cannot be 'silent'; valid: enforce, shadow",
    ),
    ("use: fake_marker", "use: fake_markr", "3: unknown shield 'fake_markr'; did you mean 'fake_marker'?"),
    ("use: fake_marker, ", "", "3: missing key 'use' in shields.injection"),
    (
        "{use: fake_marker, marker: BAD}",
        "fake_marker",
        "3: shields.injection must be a mapping, got 'fake_marker'",
    ),
    (
        "marker: BAD",
        "maker: BAD",
        "3: shield 'injection' (fake_marker): unknown option 'maker'; did you mean 'marker'?",
    ),
    (
        "marker: BAD",
        "marker: 3",
        "3: shield 'injection' (fake_marker): marker must be a text, got 3",
    ),
    (
        "categories: [S6]",
        "categories: [S6, S11]",
        "4: shield 'content' (fake_engine_user): categories[1] cannot be 'S11'; did you mean 'S1'?",
    ),
    (
        "categories: [S6]",
        "threshold: 1.5",
        "4: shield 'content' (fake_engine_user): threshold must be less than or equal to 1, got 1.5",
    ),
    ("model: m, ", "", "4: shield 'content' (fake_engine_user): missing option 'model'"),
    (
        "on_error: block",
        "on_error: allow",
        "15: failure.on_error cannot be 'allow'; valid: block, withhold, escalate",
    ),
    (
        "on_error: block",
        "on_timeout: annotate",
        "15: failure.on_timeout cannot be 'annotate'; valid: block, withhold, escalate",
    ),
    ("timeout_ms: 500", "timeout_ms: 0", "15: failure.timeout_ms must be greater than or equal to 1, got 0"),
    ("timeout_ms: 500", "timeout_ms: 2s", "15: failure.timeout_ms must be a whole number, got '2s'"),
    (
        "failure:",
        "streaming: {segment_tokens: 9999}\nfailure:",
        "15: streaming.segment_tokens must be less than or equal to 4096, got 9999",
    ),
    (
        "failure:",
        "tools:\n  - {match: '*', effects: [write, extern], approval: always}\nfailure:",
        "16: tools[0].effects[1] cannot be 'extern'; did you mean 'external'?",
    ),
    (
        "failure:",
        "tools: [{match: '*', effects: [], approval: never}]\nfailure:",
        "15: tools[0].effects must not be empty, got a list of 0",
    ),
    (
        "failure:",
        "tests:\n  - {stage: user_input, text: hi, expect: pass}\nfailure:",
        "16: tests[0].expect cannot be 'pass'; valid: allow, annotate, redact, withhold, escalate, block",
    ),
    ("memory: []", "memory: []\n  code: []", "14: key 'code' is written twice: lines 9 and 14"),
    ("version: 1", "version: 1\nversion: 1", "2: key 'version' is written twice: lines 1 and 2"),
    ("memory: []", "memory: [", "15: not valid YAML: expected ',' or ']', but got '<scalar>'"),
    ("memory: []", "memory: a: b", "13: not valid YAML: mapping values are not allowed here"),
    ("memory: []", "\tmemory: []", "13: not valid YAML: found character '\\t' that cannot start any token"),
    ("memory: []", "memory: []\x07", "13: not valid YAML: special characters are not allowed"),
    ("memory: []", "memory: *rules", "13: aliases (*name) are not allowed; write the value out"),
    (
        "memory: []",
        "memory: !!python/name:os.system",
        "13: the tag tag:yaml.org,2002:python/name:os.system is not allowed",
    ),
    ("BAD", "!!int many", "3: a value is not a int"),
    ("BAD", '"\\ud800"', "3: a text holds half a surrogate pair"),
    ("memory: []", "? [a, b]\n  : []", "13: a key must be a plain name"),
    ("memory: []", f"memory: {'[' * 40}", "13: nested deeper than 24 levels"),
    (GOOD, "", "the policy is empty; it needs at least version, shields and stages"),
    (GOOD, "- a\n- b\n", "1: a policy is a mapping of keys"),
    (GOOD, f"version: 1\n---\n{GOOD}", "2: not valid YAML: but found another document"),
    (GOOD, "#" * 1_000_001, "a policy is at most 1000000 characters, got 1000001"),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD, ids=[message for _, _, message in BAD])
def test_a_bad_policy_is_refused_with_its_line_and_the_nearest_name(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    assert old in GOOD
    path = tmp_path / "shields.yaml"
    path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(PolicyError) as caught:
        Policy.load(path)
    separator = ":" if message[0].isdigit() else ": "
    assert str(caught.value) == f"{path}{separator}{message}"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file or directory"), (b"version: \xff", "is not UTF-8 at byte 9")],
)
def test_a_file_that_cannot_be_read_says_why(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "shields.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PolicyError) as caught:
        Policy.load(path)
    assert str(caught.value) == f"{path}: {message}"


def refusal(text: str) -> str:
    try:
        Policy.parse(text)
    except PolicyError as exc:
        return str(exc)
    return ""


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_policy_or_refused_in_one_line(text: str) -> None:
    assert "\n" not in refusal(text)


@settings(deadline=None)
@given(
    st.integers(0, GOOD.count("\n")),
    st.sampled_from(
        ["- x", "{", "a: &a [*a]", "? x", "'", "|", "%YAML 9", "<<: {a: 1}", "1: 1", "null", "--- 1"]
    ),
)
def test_a_stray_line_anywhere_is_refused_in_one_line(line: int, stray: str) -> None:
    lines = GOOD.split("\n")
    assert "\n" not in refusal("\n".join([*lines[:line], stray, *lines[line:]]))
