"""The shield `probe`: it flags by the worst window of the worst reading, and works on its own model alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agentkit.errors import ConfigurationError, ModelLoadError, ShieldError
from agentkit.inference.base import Engine
from agentkit.shields import Pipeline, Stage
from agentkit.shields.engine_address import EngineAddress
from agentkit.shields.probe import Probe, head_path, shipped_heads
from agentkit.shields.registry import find_shield
from agentkit.shields.self_test import failed_self_test
from agentkit.testing import ScriptedEngine
from tests.shields.fakes import content_at, policy_for
from tests.shields.reading import GivenStates, StatesEngine, engines_of, written_head

CALM = "so it is, and so it will be for a long time"


async def started(folder: Path, *, engine: Engine | None = None, **options: object) -> Probe:
    head = options.pop("head", None) or written_head(folder)
    shield = find_shield("probe").build(
        {"head": head, **options}, engines=engines_of(engine or StatesEngine())
    )
    assert isinstance(shield, Probe)
    await shield.start()
    return shield


async def test_a_hit_has_the_heads_name_and_quotes_nothing(tmp_path: Path) -> None:
    verdict = await (await started(tmp_path)).check(content_at(Stage.USER_INPUT, "zzzzzzzzzzzz"))
    assert (verdict.flagged, verdict.category, verdict.threshold) == (True, "buzzing", 0.9)
    assert verdict.score is not None
    assert verdict.score > 0.9
    assert verdict.reason == "hidden states of m"


async def test_what_the_head_does_not_find_passes(tmp_path: Path) -> None:
    verdict = await (await started(tmp_path)).check(content_at(Stage.USER_INPUT, CALM))
    assert (verdict.flagged, verdict.category, verdict.reason) == (False, None, None)


async def test_one_window_of_a_long_text_is_enough(tmp_path: Path) -> None:
    shield = await started(tmp_path)
    long = f"{CALM * 50}zzzzzzzzzzzz{CALM * 50}"
    assert (await shield.check(content_at(Stage.TOOL_RESULT, long))).flagged
    assert not (await shield.check(content_at(Stage.TOOL_RESULT, CALM * 100))).flagged


async def test_a_reading_of_a_disguised_text_is_judged_too(tmp_path: Path) -> None:
    disguised = "\u200b".join("zzzzzzzzzz")
    verdict = await (await started(tmp_path)).check(content_at(Stage.USER_INPUT, disguised))
    assert verdict.flagged
    assert verdict.reason is not None
    assert "; hidden by " in verdict.reason


async def test_a_policys_threshold_replaces_the_heads(tmp_path: Path) -> None:
    half = content_at(Stage.USER_INPUT, "zbzbzbzb")  # scores one half
    strict, lenient = [await started(tmp_path, threshold=value) for value in (0.4, 0.6)]
    assert (await strict.check(half)).flagged
    assert not (await lenient.check(half)).flagged


async def test_the_states_of_the_agents_own_prefill_are_taken(tmp_path: Path) -> None:
    engine = StatesEngine()
    shield = await started(tmp_path, engine=engine)
    assert shield.state_layers == (1,)
    own = content_at(Stage.USER_INPUT, "zzzzzzzzzzzz")
    verdict = await shield.check(replace(own, states=GivenStates(np.zeros((12, 2, 2)))))
    assert (verdict.flagged, engine.texts) == (False, [])  # what was given counts: none of these is a z
    verdict = await shield.check(replace(own, states=GivenStates(np.ones((12, 2, 2)))))
    assert (verdict.flagged, engine.texts) == (True, [])


@pytest.mark.parametrize(
    "states",
    [
        GivenStates(np.zeros((12, 2, 2)), fingerprint="b" * 64),
        GivenStates(np.zeros((12, 1, 2)), layers=(0,)),
        GivenStates(None),
    ],
    ids=["of another model", "of other layers", "none after all"],
)
async def test_other_states_are_of_no_use(tmp_path: Path, states: GivenStates) -> None:
    engine = StatesEngine()
    own = content_at(Stage.USER_INPUT, "zzzzzzzzzzzz")
    verdict = await (await started(tmp_path, engine=engine)).check(replace(own, states=states))
    assert (verdict.flagged, engine.texts) == (True, [own.text])


async def test_given_states_that_are_no_numbers_are_no_verdict(tmp_path: Path) -> None:
    shield = await started(tmp_path)
    for wrong in (np.full((12, 2, 2), np.nan), np.zeros((0, 2, 2))):
        with pytest.raises(ShieldError, match=r"hidden states of \d+ tokens are not numbers"):
            await shield.check(replace(content_at(Stage.USER_INPUT, "zzzz"), states=GivenStates(wrong)))


async def test_a_disguised_text_is_read_beside_what_is_given(tmp_path: Path) -> None:
    engine = StatesEngine()
    disguised = content_at(Stage.USER_INPUT, "\u200b".join("zzzzzzzzzz"))
    given = replace(disguised, states=GivenStates(np.zeros((37, 2, 2))))
    assert (await (await started(tmp_path, engine=engine)).check(given)).flagged
    assert engine.texts == ["z" * 10]


async def test_an_empty_text_has_nothing_to_find(tmp_path: Path) -> None:
    engine = StatesEngine()
    verdict = await (await started(tmp_path, engine=engine)).check(content_at(Stage.USER_INPUT, ""))
    assert (verdict.flagged, verdict.score, engine.texts) == (False, 0.0, [])


async def test_a_head_of_another_model_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"'buzzing' was fit on m \(a{12}\) and m is another model \(b{12}\)"
    ):
        await started(tmp_path, engine=StatesEngine(fingerprint="b" * 64))


async def test_an_engine_without_hidden_states_does_not_start_it(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="gives no hidden states; a probe needs a model that runs in this"
    ):
        await started(tmp_path, engine=ScriptedEngine([]))


async def test_the_policy_may_say_where_the_model_is(tmp_path: Path) -> None:
    asked: list[str | EngineAddress] = []

    async def engines(reference: str | EngineAddress) -> Engine:
        asked.append(reference)
        return StatesEngine()

    for options in ({}, {"model": "./models/m"}):
        await find_shield("probe").build({"head": written_head(tmp_path), **options}, engines=engines).start()
    assert asked == ["m", "./models/m"]


async def test_before_its_start_and_after_its_end_nothing_is_judged(tmp_path: Path) -> None:
    shield = await started(tmp_path)
    await shield.close()
    fresh = find_shield("probe").build({"head": written_head(tmp_path)}, engines=engines_of(StatesEngine()))
    for one in (shield, fresh):
        with pytest.raises(ShieldError, match="probe is not started"):
            await one.check(content_at(Stage.USER_INPUT))


async def test_the_head_brings_its_own_self_test(tmp_path: Path) -> None:
    assert await failed_self_test(await started(tmp_path)) is None
    wrong = await started(tmp_path, head=written_head(tmp_path, known_bad="not much"))
    assert "it did not flag a known-bad text" in str(await failed_self_test(wrong))


async def test_a_head_without_known_texts_starts(tmp_path: Path) -> None:
    silent = await started(tmp_path, head=written_head(tmp_path, known_bad="", known_good=""))
    assert await failed_self_test(silent) is None


async def test_a_pipeline_runs_it_on_the_engine_that_the_head_names(tmp_path: Path) -> None:
    policy = policy_for(
        Stage.USER_INPUT,
        "[{shield: a, on_hit: block}]",
        shields=f"a: {{use: probe, head: {written_head(tmp_path)}}}",
    )
    async with Pipeline(policy, engines=engines_of(StatesEngine())) as pipeline:
        assert (await pipeline.judge(content_at(Stage.USER_INPUT, "zzzzzzzzzzzz"))).blocked
        assert not (await pipeline.judge(content_at(Stage.USER_INPUT, CALM))).blocked


async def test_a_head_that_is_not_there_does_not_start() -> None:
    shield = find_shield("probe").build({"head": "none.safetensors"}, engines=engines_of(StatesEngine()))
    with pytest.raises(ModelLoadError, match=r"none.safetensors cannot be read"):
        await shield.start()


def test_two_heads_ship() -> None:
    assert shipped_heads() == ("harm", "injection")
    assert head_path("harm").stat().st_size < 10_000


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("injektion", "unknown head 'injektion'; did you mean 'injection'?"),
        ("x/spam", "or name a .safetensors file"),
    ],
)
def test_an_unknown_head_is_named(head: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        head_path(head)
    assert message in str(caught.value)
