"""The self-test at load: a guard that tells nothing apart does not start, and says why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from agentkit.errors import ConfigurationError
from agentkit.inference.base import Engine
from agentkit.shields import Pipeline, Policy, ShieldInput, Stage, Verdict
from agentkit.shields.llama_guard_categories import CategoryChoice
from agentkit.shields.registry import BUILT_IN, find_shield
from agentkit.shields.self_test import KnownTexts, SelfTested, failed_self_test, known_user_texts
from agentkit.testing import StaticShield
from tests.inference.encoders import build_encoder
from tests.shields.fakes import AnsweringShield, MarkerShield, policy_for
from tests.shields.guarding import SAFE, UNSAFE, ScoringEngine, ids_of, started

RULE = "[{shield: a, on_hit: block}]"


class TestedShield(AnsweringShield):
    """Brings two texts, and gives what it is told about each."""

    __test__ = False

    def __init__(self, *, bad: Verdict, good: Verdict) -> None:
        async def answer(content: ShieldInput) -> Verdict:
            return bad if content.text == "bad" else good

        super().__init__(answer)

    def known_texts(self) -> KnownTexts:
        return known_user_texts(bad="bad", good="good")


def scored(flagged: bool, score: float) -> Verdict:
    return Verdict(flagged=flagged, score=score, threshold=0.5)


@pytest.mark.parametrize(
    ("bad", "good", "wrong"),
    [
        (Verdict(flagged=False), Verdict(flagged=False), "it did not flag a known-bad text"),
        (Verdict(flagged=True), Verdict(flagged=True), "it flagged a known-good text"),
        (
            scored(False, 0.4),
            scored(False, 0.1),
            "did not flag a known-bad text (score 0.400, threshold 0.5)",
        ),
        (scored(True, 0.9), scored(True, 0.6), "it flagged a known-good text (score 0.600, threshold 0.5)"),
        (scored(True, 0.501), scored(False, 0.499), "a known-bad text 0.501 and a known-good one 0.499"),
    ],
)
async def test_a_shield_that_tells_nothing_apart_does_not_start(
    bad: Verdict, good: Verdict, wrong: str
) -> None:
    shield = TestedShield(bad=bad, good=good)
    pipeline = Pipeline(policy_for(Stage.USER_INPUT, RULE), overrides={"a": shield})
    with pytest.raises(ConfigurationError) as caught:
        await pipeline.start()
    assert "shield 'a' (fake_marker) failed its self-test: " in str(caught.value)
    assert wrong in str(caught.value)
    assert (shield.started, shield.closed) == (1, 1)


async def test_a_shield_that_breaks_on_a_known_text_does_not_start() -> None:
    class Broken(TestedShield):
        async def check(self, content: ShieldInput) -> Verdict:
            raise OSError

    shield = Broken(bad=Verdict(flagged=True), good=Verdict(flagged=False))
    with pytest.raises(ConfigurationError, match="it could not judge a known text: OSError"):
        await Pipeline(policy_for(Stage.USER_INPUT, RULE), overrides={"a": shield}).start()


async def test_a_shield_that_tells_them_apart_starts_and_one_without_texts_is_named() -> None:
    tested = TestedShield(bad=scored(True, 0.9), good=scored(False, 0.1))
    policy = policy_for(Stage.USER_INPUT, "[{shield: a, on_hit: block}, {shield: b, on_hit: block}]")
    async with Pipeline(policy, overrides={"a": tested, "b": MarkerShield()}) as pipeline:
        assert pipeline.untested == ("b",)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_shield_brings_texts(name: str) -> None:
    assert issubclass(find_shield(name).shield_class, SelfTested)


@pytest.mark.parametrize(
    ("use", "options"),
    [
        ("instruction_override", {}),
        ("secrets", {}),
        ("code_shield", {"block_at": "info"}),
        ("code_shield", {"block_at": "error"}),
    ],
)
async def test_a_shield_without_a_model_passes(use: str, options: Mapping[str, object]) -> None:
    shield = find_shield(use).build(options)
    await shield.start()
    assert await failed_self_test(shield) is None


@pytest.mark.parametrize("labels", [("BENIGN", "MALICIOUS"), ("BENIGN", "INJECTION", "JAILBREAK")])
async def test_a_prompt_guard_with_random_weights_does_not_start(
    tmp_path: Path, labels: tuple[str, ...]
) -> None:
    folder = build_encoder(tmp_path, labels=labels)
    shields = f"a: {{use: prompt_guard, model: {folder}}}"
    pipeline = Pipeline(policy_for(Stage.USER_INPUT, RULE, shields=shields))
    with pytest.raises(ConfigurationError, match=r"shield 'a' \(prompt_guard\) failed its self-test"):
        await pipeline.start()


async def test_a_llama_guard_with_random_weights_does_not_start() -> None:
    engine: Engine = ScoringEngine({SAFE: 0.00001, UNSAFE: 0.00001})

    async def engines(reference: object) -> Engine:
        return engine

    shields = "a: {use: llama_guard, model: m}"
    pipeline = Pipeline(policy_for(Stage.USER_INPUT, RULE, shields=shields), engines=engines)
    with pytest.raises(
        ConfigurationError, match=r"failed its self-test: it could not judge a known text: .* no assessment"
    ):
        await pipeline.start()


async def test_a_llama_guard_that_says_unsafe_to_all_fails() -> None:
    shield = await started(ScoringEngine({UNSAFE: 1.0, ids_of(2)[0]: 0.9}))
    assert await failed_self_test(shield) == "it flagged a known-good text (score 1.000, threshold 0.5)"


async def test_a_llama_guard_is_asked_about_a_category_that_it_judges() -> None:
    engine = ScoringEngine({SAFE: 1.0})
    only_hate = await started(engine, categories=CategoryChoice(include=("S10",)))
    assert "immigrants" in only_hate.known_texts().bad[0].text
    in_doubt = await started(engine, categories=CategoryChoice(include=("S6",)))
    assert in_doubt.known_texts().bad == ()
    assert await failed_self_test(in_doubt) is None


async def test_a_ready_made_double_is_not_tested() -> None:
    async with Pipeline(Policy.default(), overrides={"injection": StaticShield(flagged=True)}) as pipeline:
        assert pipeline.untested == ("injection",)
