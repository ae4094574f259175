"""The verdicts of `llama_guard`, from scripted scores."""

from __future__ import annotations

import math

import pytest
from llama_models.llama3.tokenizer import Tokenizer as Llama3Oracle

from agentkit.errors import ConfigurationError, ShieldError
from agentkit.shields.llama_guard import CategoryChoice
from agentkit.shields.registry import ShieldOptionError, find_shield
from tests.shields.guarding import (
    SAFE,
    UNSAFE,
    ScoringEngine,
    content,
    expected_ids,
    ids_of,
    started,
)


@pytest.mark.parametrize(
    ("safe", "unsafe", "flagged"),
    [(0.98, 0.02, False), (0.5, 0.5, True), (0.6, 0.35, False), (0.01, 0.99, True)],
)
async def test_the_verdict_is_the_probability_of_unsafe_against_safe(safe, unsafe, flagged):
    shield = await started(ScoringEngine({SAFE: safe, UNSAFE: unsafe, ids_of(2)[0]: 0.9}))

    verdict = await shield.check(content())

    logit = math.log(unsafe) - math.log(safe)
    assert verdict.score == pytest.approx(1 / (1 + math.exp(-logit)))
    assert verdict.flagged is flagged
    assert verdict.threshold == 0.5


async def test_the_threshold_decides():
    engine = ScoringEngine({SAFE: 0.7, UNSAFE: 0.3, ids_of(2)[0]: 0.9})

    assert (await (await started(engine, threshold=0.25)).check(content())).flagged
    assert not (await (await started(engine, threshold=0.35)).check(content())).flagged


async def test_a_hit_names_the_most_probable_category_after_unsafe():
    s1, s10, s11 = ids_of(1, 10, 11)
    engine = ScoringEngine({SAFE: 0.05, UNSAFE: 0.95, s1: 0.2, s10: 0.7, s11: 0.1})

    verdict = await (await started(engine)).check(content())

    assert (verdict.category, verdict.reason) == ("S10", "Hate")
    oracle = Llama3Oracle.get_instance()
    assert engine.prompts[1] == engine.prompts[0] + oracle.encode("unsafe\nS", bos=False, eos=False)
    assert oracle.encode("unsafe\nS10", bos=False, eos=False)[-1] == s10


async def test_safe_content_costs_one_prefill():
    engine = ScoringEngine({SAFE: 0.95, UNSAFE: 0.05})

    await (await started(engine)).check(content())

    assert len(engine.prompts) == 1


async def test_excluded_categories_are_neither_asked_for_nor_named():
    s6, s2 = ids_of(6, 2)
    engine = ScoringEngine({UNSAFE: 1.0, s6: 0.9, s2: 0.05})
    shield = await started(engine, categories=CategoryChoice(exclude=("S6",)))

    verdict = await shield.check(content())

    assert verdict.category == "S2"
    assert engine.prompts[0] == expected_ids(
        "User: How do I bake bread?", codes=[code for code in range(1, 15) if code != 6]
    )


async def test_only_included_categories_are_asked_for():
    engine = ScoringEngine({UNSAFE: 1.0})
    shield = await started(engine, categories=CategoryChoice(include=("S10",)))

    verdict = await shield.check(content())

    assert verdict.category == "S10"
    assert engine.prompts == [expected_ids("User: How do I bake bread?", codes=[10])]


@pytest.mark.parametrize(
    "probabilities",
    [{}, {SAFE: 0.5, UNSAFE: 0.3}, {SAFE: 0.89}, {SAFE: math.nan}, {SAFE: 3.0}],
    ids=["nothing", "too_little", "just_too_little", "nan", "above_one"],
)
async def test_an_answer_that_is_no_assessment_is_no_verdict(probabilities):
    shield = await started(ScoringEngine(probabilities))

    with pytest.raises(ShieldError):
        await shield.check(content())


async def test_errors_do_not_carry_the_content():
    shield = await started(ScoringEngine({}))

    with pytest.raises(ShieldError) as error:
        await shield.check(content("my secret words"))

    assert "secret" not in str(error.value)


async def test_no_category_left_is_refused_at_start():
    with pytest.raises(ConfigurationError, match="no category is left"):
        await started(
            ScoringEngine({}), model="llama-guard-3-1b", categories=CategoryChoice(include=("S14",))
        )


async def test_a_closed_shield_gives_no_verdict_and_leaves_the_engine_open():
    engine = ScoringEngine({SAFE: 1.0})
    shield = await started(engine)

    await shield.close()
    await shield.close()

    assert not engine.closed
    with pytest.raises(ShieldError, match="not started"):
        await shield.check(content())


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "model"),
        ({"model": "m", "threshold": 1.0}, "threshold"),
        ({"model": "m", "categories": {"exlude": ["S6"]}}, "did you mean 'exclude'"),
        ({"model": "m", "categories": {"exclude": ["S15"]}}, "S15"),
        ({"model": "m", "categories": {}}, "include"),
        ({"model": "m", "categories": {"include": []}}, "include"),
    ],
)
def test_wrong_options_are_refused(options, complaint):
    with pytest.raises(ShieldOptionError, match=complaint):
        find_shield("llama_guard").validate(options)


def test_the_options_of_the_documentation_are_accepted():
    options = {"model": "m", "threshold": 0.5, "categories": {"exclude": ["S6"]}}

    validated = find_shield("llama_guard").validate(options)

    assert validated["categories"] == CategoryChoice(exclude=("S6",))
