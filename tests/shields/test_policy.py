"""The policy file: what it says, and what it cannot say."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from agentkit.shields import Action, Pipeline, Policy, Stage, explain, run_policy_tests
from agentkit.shields.policy_model import Mode
from agentkit.shields.schema import SCHEMA_PATH, policy_schema
from tests.shields.fakes import GOOD, policy_for, policy_text

EXAMPLES = Path(__file__).parents[2] / "examples" / "policies"


def test_a_good_policy_says_what_is_written_and_fills_in_the_defaults() -> None:
    policy = Policy.parse(GOOD)

    assert policy.shields["content"].options == {"model": "m", "categories": ["S6"]}
    injection, content = policy.rules(Stage.TOOL_RESULT)
    assert (injection.shield, injection.on_hit) == ("injection", Action.WITHHOLD)
    assert (policy.mode_of(injection), policy.mode_of(content)) == (Mode.ENFORCE, Mode.SHADOW)
    assert policy.rules(Stage.MEMORY) == ()
    assert (policy.failure.timeout_ms, policy.failure.on_timeout) == (500, "block")
    assert policy.streaming.segment_tokens == 48


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "shields.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert Policy.load(path).digest == Policy.parse(GOOD).digest


def test_the_digest_follows_the_meaning_not_the_writing() -> None:
    policy = Policy.parse(GOOD)
    rewritten = Policy.parse(yaml.safe_dump(yaml.safe_load(GOOD), sort_keys=True))
    spelled_out = Policy.parse(GOOD + "streaming: {segment_tokens: 48}\n")
    stricter = Policy.parse(GOOD.replace("on_hit: withhold", "on_hit: block"))

    assert policy.digest == rewritten.digest == spelled_out.digest
    assert policy.digest != stricter.digest


def test_a_policy_in_json_reads_back_as_the_same_policy() -> None:
    policy = Policy.default()
    assert Policy.parse(json.dumps(policy.to_json())).digest == policy.digest


def test_a_policy_cannot_be_changed() -> None:
    policy = Policy.parse(GOOD)
    with pytest.raises(ValueError, match="frozen"):
        policy.stages.user_input = ()  # type: ignore[misc]  # that is the point
    with pytest.raises(ValueError, match="frozen"):
        policy.failure = policy.failure  # type: ignore[misc]  # that is the point


TOOL_RULES = """\
tools:
  - {match: code_interpreter, approval: always}
  - {match: "search_*", approval: never}
  - {match: "*", when: tainted, effects: [write, external], approval: always}
"""


@pytest.mark.parametrize(
    ("tool", "effect", "tainted", "approval"),
    [
        ("code_interpreter", "read", False, "always"),
        ("search_web", "read", False, "never"),
        ("search_web", "read", True, "never"),
        ("search_web", "external", True, "always"),
        ("search_web", "external", False, "never"),
        ("send_mail", "external", False, None),
        ("send_mail", "external", True, "always"),
        ("Code_interpreter", "read", False, None),
    ],
)
def test_one_matching_always_outweighs_every_never(
    tool: str, effect: str, tainted: bool, approval: str | None
) -> None:
    policy = policy_for(Stage.USER_INPUT, "[]", rest=TOOL_RULES)
    assert policy.approval_for(tool, effect, tainted=tainted) == approval


@pytest.mark.parametrize(
    ("when", "tainted", "tainted_arguments", "asks"),
    [
        ("tainted", False, False, False),
        ("tainted", True, False, True),
        ("tainted", False, True, True),
        ("tainted_arguments", True, False, False),
        ("tainted_arguments", False, True, True),
    ],
)
def test_a_rule_sees_taint_of_the_context_and_of_the_arguments(
    when: str, tainted: bool, tainted_arguments: bool, asks: bool
) -> None:
    rest = f"tools:\n  - {{match: '*', when: {when}, approval: always}}"
    policy = policy_for(Stage.USER_INPUT, "[]", rest=rest)
    said = policy.approval_for("send", "write", tainted=tainted, tainted_arguments=tainted_arguments)
    assert said == ("always" if asks else None)


def test_the_default_policy_is_the_example_and_needs_no_model() -> None:
    packaged = Policy.default()
    assert Policy.load(EXAMPLES / "default.yaml").digest == packaged.digest
    text = SCHEMA_PATH.with_name("policies").joinpath("default.yaml").read_text(encoding="utf-8")
    assert (EXAMPLES / "default.yaml").read_text(encoding="utf-8") == text
    assert {config.use for config in packaged.shields.values()} <= {
        "instruction_override", "secrets", "code_shield",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["default", "strict", "shadow"])
async def test_an_example_policy_does_what_its_own_tests_expect(name: str) -> None:
    policy = Policy.load(EXAMPLES / f"{name}.yaml")
    async with Pipeline(policy) as pipeline:
        results = await run_policy_tests(pipeline)
    assert len(results) >= 3
    assert [result.to_json() for result in results if not result.passed] == []


async def test_a_failing_policy_test_says_what_happened_instead() -> None:
    tests = "tests:\n  - {stage: user_input, text: hello, expect: block}"
    policy = policy_for(Stage.USER_INPUT, "[{shield: a, on_hit: escalate}]", rest=tests)
    async with Pipeline(policy) as pipeline:
        (result,) = await run_policy_tests(pipeline)
    assert not result.passed
    assert (result.action, result.line) == (Action.ALLOW, 14)


async def test_an_escalation_counts_as_escalate_in_policy_tests() -> None:
    tests = "tests: [{stage: user_input, text: BAD, expect: escalate}]"
    policy = policy_for(Stage.USER_INPUT, "[{shield: a, on_hit: escalate}]", rest=tests)
    async with Pipeline(policy) as pipeline:
        (result,) = await run_policy_tests(pipeline)
    assert result.passed


async def test_in_the_shadow_example_no_shield_decides() -> None:
    policy = Policy.load(EXAMPLES / "shadow.yaml")
    assert all(policy.mode_of(rule) is Mode.SHADOW for stage in Stage for rule in policy.rules(stage))
    assert all(policy.rules(stage) for stage in Stage)


def test_a_policy_in_words_names_every_stage_shield_and_failure() -> None:
    words = explain(
        Policy.parse(policy_text({Stage.MEMORY: "[{shield: a, on_hit: withhold}]"}, rest=TOOL_RULES))
    )

    assert "What the user says (user_input):\n  not judged" in words
    assert "(memory):\n  a hit of a is replaced by a short neutral note" in words
    assert "b: fake_marker, used at no stage" in words
    assert "takes over 2000 ms is blocked" in words
    assert "any tool with effect write or external, once untrusted content was read, or with some in" in words


def test_the_packaged_json_schema_is_current() -> None:
    packaged = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
    assert packaged == policy_schema(), "run `python -m agentkit.shields.schema`"


@pytest.mark.parametrize("name", ["default", "strict", "shadow"])
def test_the_json_schema_accepts_the_examples(name: str) -> None:
    jsonschema.validate(
        yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8")), policy_schema()
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("on_hit: block", "on_hit: blok"),
        ("use: instruction_override", "use: instruction_override, tresh: 1"),
        ("memory:", "memories:"),
    ],
)
def test_the_json_schema_refuses_what_the_policy_refuses(old: str, new: str) -> None:
    text = (EXAMPLES / "default.yaml").read_text(encoding="utf-8").replace(old, new, 1)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), policy_schema())
