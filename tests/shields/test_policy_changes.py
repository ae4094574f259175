"""What one policy lets through that another does not, and what a policy that extends another may not loosen."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from agentkit.errors import PolicyError
from agentkit.shields import Action, Policy, Stage, explain
from agentkit.shields.policy_changes import Direction, compare
from agentkit.shields.schema import policy_schema
from tests.shields.fakes import policy_text

SHIELDS = "a: {use: instruction_override}\n  code: {use: code_shield}\n  own: {use: fake_marker}"
RULES = {
    Stage.USER_INPUT: "[{shield: a, on_hit: withhold}]",
    Stage.CODE: "[{shield: code, on_hit: block}, {shield: own, on_hit: block}]",
}
REST = """\
failure: {on_error: escalate, on_timeout: block, timeout_ms: 500}
tools:
  - {match: "*", when: tainted, effects: [write, external], approval: always}
  - {match: pay, approval: always}
  - {match: look, approval: never}
tests: [{stage: user_input, text: hello, expect: allow}]
"""
OLD = policy_text(RULES, shields=SHIELDS, rest=REST)
L, S, U, N = Direction.LOOSER, Direction.STRICTER, Direction.UNCLEAR, Direction.NEUTRAL


@pytest.mark.parametrize(
    ("old", "new", "direction", "words"),
    [
        ("on_hit: withhold", "on_hit: block", S, "user_input: a hit of a was withhold, is block"),
        ("on_hit: withhold", "on_hit: redact", L, "user_input: a hit of a was withhold, is redact"),
        ("on_hit: withhold", "on_hit: withhold, mode: shadow", L,
         "user_input: a hit of a was withhold, is only recorded"),
        ("[{shield: a, on_hit: withhold}]", "[]", L, "user_input: a hit of a was withhold, is not looked for"),
        ("tool_call: []", "tool_call: [{shield: a, on_hit: block}]", S,
         "tool_call: a hit of a was not looked for, is block"),
        ("tool_call: []", "tool_call: [{shield: a, on_hit: allow}]", N,
         "tool_call: a hit of a was not looked for, is only recorded"),
        ("instruction_override}", "instruction_override, mode: shadow}", L,
         "user_input: a hit of a was withhold, is only recorded"),
        ("instruction_override}", "instruction_override, threshold: 0.7}", L, "threshold of shield a was 0.5, is 0.7"),
        ("instruction_override}", "instruction_override, threshold: 0.3}", S, "threshold of shield a was 0.5, is 0.3"),
        ("use: code_shield", "use: code_shield, block_at: info", S, "block_at of shield code was 'error', is 'info'"),
        ("use: fake_marker", "use: fake_marker, marker: X", U, "marker of shield own was 'BAD', is 'X'"),
        ("use: fake_marker", "use: secrets", U, "shield own was fake_marker, is secrets"),
        ("on_error: escalate", "on_error: withhold", L, "failure.on_error was escalate, is withhold"),
        ("on_error: escalate", "on_error: block", S, "failure.on_error was escalate, is block"),
        ("timeout_ms: 500", "timeout_ms: 100", N, "failure.timeout_ms was 500, is 100"),
        ("effects: [write, external]", "effects: [write]", L,
         "a person is no longer asked about calls of * with effect write or external when tainted"),
        ("when: tainted, ", "", S, "a person is now asked about calls of * with effect write or external"),
        ("  - {match: look, approval: never}\n", "", None, ""),
        ("text: hello", "text: bye", N, "1 of 1 tests are gone"),
        ("failure:", "streaming: {segment_tokens: 9}\nfailure:", N, "streaming.segment_tokens was 48, is 9"),
        ("failure:", "locks: [tools]\nfailure:", S, "tools is now locked"),
    ],
)  # fmt: skip
def test_a_change_is_told_with_its_direction(
    old: str, new: str, direction: Direction | None, words: str
) -> None:
    assert OLD.count(old) >= 1
    changes = compare(Policy.parse(OLD), Policy.parse(OLD.replace(old, new, 1)))
    told = [(change.direction, change.words) for change in changes]
    if direction is None:
        assert told == []
    else:
        assert (direction, words) in told
        assert {change.direction for change in changes} <= {direction, L if direction is U else direction}


def test_a_shorter_time_is_unclear_where_a_timeout_does_not_block() -> None:
    milder = OLD.replace("on_timeout: block", "on_timeout: withhold")
    (change,) = compare(Policy.parse(milder), Policy.parse(milder.replace("500", "5")))
    assert change.direction is U
    (change,) = compare(Policy.parse(milder), Policy.parse(milder.replace("500", "5000")))
    assert change.direction is N


def test_the_same_policy_written_otherwise_does_not_differ() -> None:
    spelt = OLD.replace("instruction_override}", "instruction_override, threshold: 0.5, mode: enforce}")
    assert compare(Policy.parse(OLD), Policy.parse(spelt)) == ()


def test_what_loosens_one_way_is_stricter_the_other_way() -> None:
    folder = Path(__file__).parents[2] / "examples" / "policies"
    default, strict = Policy.load(folder / "default.yaml"), Policy.load(folder / "strict.yaml")
    assert {change.direction for change in compare(default, strict)} == {S, N}
    assert {change.direction for change in compare(strict, default)} == {L, N}


BASE = OLD.replace("version: 1", "version: 1\nlocks: [stages.user_input, failure, tools]")


def child(folder: Path, text: str, base: str = BASE) -> Policy:
    (folder / "base.yaml").write_text(base)
    (folder / "child.yaml").write_text(f"version: 1\nextends: base.yaml\n{text}")
    return Policy.load(folder / "child.yaml")


def test_a_policy_takes_over_what_it_does_not_name(tmp_path: Path) -> None:
    policy = child(
        tmp_path,
        "stages: {tool_call: [{shield: a, on_hit: block}], code: []}\n"
        "failure: {on_error: block}\nlocks: [shields]\nstreaming: {segment_tokens: 7}\n",
    )
    base = Policy.parse(BASE)
    assert policy.rules(Stage.USER_INPUT) == base.rules(Stage.USER_INPUT)
    assert [rule.on_hit for rule in policy.rules(Stage.TOOL_CALL)] == [Action.BLOCK]
    assert policy.rules(Stage.CODE) == ()
    assert (policy.failure.on_error, policy.failure.timeout_ms) == ("block", 500)
    assert (policy.tools, policy.tests, policy.shields) == (base.tools, base.tests, base.shields)
    assert policy.locks == ("shields", "stages.user_input", "failure", "tools")
    assert "It extends base.yaml." in explain(policy)
    assert "No policy that extends it may loosen shields, stages.user_input, failure, tools." in explain(
        policy
    )


def test_what_is_extended_counts_in_the_digest_and_the_name_of_it_does_not(tmp_path: Path) -> None:
    alone = child(tmp_path, "")
    assert alone.digest == Policy.parse(BASE).digest
    assert child(tmp_path, "failure: {on_error: block}").digest != alone.digest


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("stages:\n  user_input: []", 4, "user_input: a hit of a was withhold, is not looked for; base.yaml locks "
         "stages.user_input"),
        ("shields:\n  a: {use: instruction_override, mode: shadow}", 4,
         "user_input: a hit of a was withhold, is only recorded; base.yaml locks stages.user_input"),
        ("shields:\n  a: {use: instruction_override, threshold: 0.9}", 4,
         "threshold of shield a was 0.5, is 0.9; base.yaml locks stages.user_input"),
        ("shields:\n  a: {use: secrets}", 4,
         "shield a was instruction_override, is secrets; base.yaml locks stages.user_input"),
        ("failure:\n  on_error: withhold", 4, "failure.on_error was escalate, is withhold; base.yaml locks failure"),
        ("tools:\n  - {match: pay, approval: always}", 3, "a person is no longer asked about calls of * with effect "
         "write or external when tainted; base.yaml locks tools"),
    ],
)  # fmt: skip
def test_what_is_locked_cannot_be_loosened(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        child(tmp_path, text)
    assert str(caught.value) == f"{tmp_path / 'child.yaml'}:{line}: {words}"


@pytest.mark.parametrize(
    "text",
    [
        "stages:\n  user_input: [{shield: a, on_hit: block}]",
        "stages:\n  code: []",
        "shields:\n  a: {use: instruction_override, threshold: 0.2}",
        "shields:\n  own: {use: fake_marker, marker: OTHER}",
        "tools:\n  - {match: '*', approval: always}",
    ],
)
def test_what_is_locked_can_get_stricter_and_the_rest_can_change(tmp_path: Path, text: str) -> None:
    child(tmp_path, text)


def test_a_lock_holds_two_policies_on(tmp_path: Path) -> None:
    child(tmp_path, "")
    (tmp_path / "grandchild.yaml").write_text("version: 1\nextends: child.yaml\nstages: {user_input: []}")
    with pytest.raises(PolicyError, match=r"grandchild.yaml:3: .*; child.yaml locks stages.user_input"):
        Policy.load(tmp_path / "grandchild.yaml")


def test_the_default_policy_can_be_extended_by_name() -> None:
    policy = Policy.parse("version: 1\nextends: default\nstreaming: {segment_tokens: 9}")
    (change,) = compare(Policy.default(), policy)
    assert change.words == "streaming.segment_tokens was 48, is 9"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: nowhere.yaml", "child.yaml:2: cannot extend nowhere.yaml: "),
        ("extends: child.yaml", "child.yaml:2: child.yaml extends itself"),
        ("extends: 3", "child.yaml:2: extends must name a policy file, got 3"),
        ("extends: ''", "child.yaml:2: extends must name a policy file, got ''"),
        ("extends: broken.yaml", "child.yaml:2: cannot extend broken.yaml: "),
        ("extends: loop.yaml", "child.yaml:2: cannot extend loop.yaml: "),
        ("extends: base.yaml\nlocks: [stage.code]",
         "child.yaml:3: there is nothing named 'stage.code' to lock; did you mean 'stages.code'?"),
        ("extends: base.yaml\nstages: {memmory: []}",
         "child.yaml:3: unknown stage 'memmory' in stages; did you mean 'memory'?"),
        ("extends: base.yaml\nshields: 3", "child.yaml:3: shields must be a mapping, got 3"),
        ("extends: base.yaml\nstages: {code: [{shield: x, on_hit: block}]}",
         "child.yaml:3: stage code names shield 'x', which is not under shields"),
    ],
)  # fmt: skip
def test_what_cannot_be_extended_says_where(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "broken.yaml").write_text("version: 2")
    (tmp_path / "loop.yaml").write_text("version: 1\nextends: child.yaml")
    (tmp_path / "child.yaml").write_text(f"version: 1\n{text}")
    with pytest.raises(PolicyError) as caught:
        Policy.load(tmp_path / "child.yaml")
    assert message in str(caught.value)


def test_the_json_schema_asks_for_all_parts_only_of_a_policy_that_stands_alone() -> None:
    child = {"version": 1, "extends": "base.yaml", "stages": {"code": []}}
    jsonschema.validate(child, policy_schema())
    for alone in ({"version": 1}, {"version": 1, "shields": {}, "stages": {"code": []}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(alone, policy_schema())
