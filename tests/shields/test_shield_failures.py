"""Every built-in shield, broken in the ways that it can break, at every stage: what it judged is blocked."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path

import anyio
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from agentkit.errors import ConfigurationError, InferenceError
from agentkit.inference.base import Engine, Priority, Score, Usage
from agentkit.shields import OutcomeStatus, Pipeline, Shield, Stage
from agentkit.shields.prompt_guard import PromptGuard
from agentkit.shields.registry import BUILT_IN, find_shield
from tests.inference.encoders import build_encoder
from tests.shields.fakes import AnsweringShield, content_at, policy_for
from tests.shields.guarding import SAFE, ScoringEngine
from tests.shields.reading import StatesEngine, engines_of, written_head

ERROR, TIMEOUT = OutcomeStatus.ERROR, OutcomeStatus.TIMEOUT
SHORT = "some text"
WITH_A_MODEL = {"llama_guard", "probe", "prompt_guard"}
"""The built-in shields that fail in ways of their own; every other one is in the table without being named."""
ENGINE_FAILURES = {
    "raises": ERROR,
    "times out": TIMEOUT,
    "garbage": ERROR,
    "NaN": ERROR,
    "cancelled": ERROR,
    "no assessment": ERROR,
}


class BreakingEngine(ScoringEngine):
    """Answers that all is safe, except to one text: there it fails in the way that it is told."""

    def __init__(self, failure: str) -> None:
        super().__init__({SAFE: 1.0})
        self._failure = failure

    async def score(
        self,
        prompt_ids: Sequence[int],
        candidate_ids: Sequence[int],
        *,
        priority: Priority = Priority.SHIELD,
        scope: str = "",
        public_prefix: int = 0,
    ) -> Score:
        match self._failure:
            case "raises":
                raise InferenceError("the engine is closed")
            case "times out":
                await anyio.sleep_forever()
            case "cancelled":
                raise asyncio.CancelledError
        answers: dict[str, tuple[float, ...]] = {
            "garbage": (),
            "NaN": (math.nan, math.nan),
            "no assessment": (-9.0, -9.0),
        }
        return Score(logprobs=answers[self._failure], usage=Usage())


async def judge(shield: Shield, stage: Stage, text: str, *, timeout_ms: int) -> tuple[OutcomeStatus, bool]:
    """Judge one text with a shield as it is; return how the check ended and whether the text was blocked.

    Only its check is used: broken as it is, it would not pass the self-test at the start.
    """
    policy = policy_for(
        stage, "[{shield: a, on_hit: annotate}]", rest=f"failure: {{timeout_ms: {timeout_ms}}}"
    )
    async with Pipeline(policy, overrides={"a": AnsweringShield(shield.check)}) as pipeline:
        decision = await pipeline.judge(content_at(stage, text))
    assert (decision.cleared is None) is decision.blocked
    return decision.outcomes[0].status, decision.blocked


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("failure", ENGINE_FAILURES)
async def test_llama_guard(failure: str, stage: Stage) -> None:
    engine = BreakingEngine(failure)

    async def engines(reference: object) -> Engine:
        return engine

    shield = find_shield("llama_guard").build({"model": "m"}, engines=engines)
    await shield.start()
    timeout_ms = 30 if failure == "times out" else 9000
    assert await judge(shield, stage, SHORT, timeout_ms=timeout_ms) == (ENGINE_FAILURES[failure], True)


class BreakingStatesEngine(StatesEngine):
    """Fails to give hidden states in the way that it is told."""

    def __init__(self, failure: str) -> None:
        super().__init__()
        self._failure = failure

    async def early_states(
        self, ids: Sequence[int], layers: Sequence[int], *, priority: Priority = Priority.SHIELD
    ) -> NDArray[np.float32]:
        match self._failure:
            case "raises":
                raise InferenceError("the engine is closed")
            case "times out":
                await anyio.sleep_forever()
            case "cancelled":
                raise asyncio.CancelledError
            case "garbage":
                return np.zeros((3, 1), np.float32)
            case "too many":
                return np.zeros((len(ids) + 1, len(layers), 2), np.float32)
            case "another size":
                return np.zeros((len(ids), len(layers), 7), np.float32)
        return np.full((len(ids), len(layers), 2), np.nan, np.float32)


STATES_FAILURES = {
    "raises": ERROR,
    "times out": TIMEOUT,
    "garbage": ERROR,
    "too many": ERROR,
    "another size": ERROR,
    "NaN": ERROR,
    "cancelled": ERROR,
}


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("failure", STATES_FAILURES)
async def test_probe(failure: str, stage: Stage, tmp_path: Path) -> None:
    engines = engines_of(BreakingStatesEngine(failure))
    shield = find_shield("probe").build({"head": written_head(tmp_path)}, engines=engines)
    await shield.start()
    timeout_ms = 30 if failure == "times out" else 9000
    assert await judge(shield, stage, SHORT, timeout_ms=timeout_ms) == (STATES_FAILURES[failure], True)


@pytest.fixture(scope="module")
def encoder_of_nan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier whose head gives NaN."""
    folder = build_encoder(tmp_path_factory.mktemp("encoder"), labels=("BENIGN", "MALICIOUS"))
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"] = torch.full_like(weights["classifier.bias"], math.nan)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("stage", Stage)
async def test_prompt_guard(stage: Stage, encoder_of_nan: Path) -> None:
    shield = PromptGuard(model=str(encoder_of_nan))
    assert await judge(shield, stage, SHORT, timeout_ms=9000) == (ERROR, True)  # it was not started
    await shield.start()
    assert await judge(shield, stage, SHORT, timeout_ms=9000) == (ERROR, True)
    assert await judge(shield, stage, f"{SHORT} " * 500, timeout_ms=1) == (TIMEOUT, True)
    await shield.close()
    assert await judge(shield, stage, SHORT, timeout_ms=9000) == (ERROR, True)


async def test_a_prompt_guard_that_gives_nan_does_not_start(encoder_of_nan: Path) -> None:
    shields = f"a: {{use: prompt_guard, model: {encoder_of_nan}}}"
    policy = policy_for(Stage.USER_INPUT, "[{shield: a, on_hit: block}]", shields=shields)
    with pytest.raises(ConfigurationError, match="failed its self-test: it could not judge a known text"):
        await Pipeline(policy).start()


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize(
    "use", sorted(BUILT_IN.keys() - WITH_A_MODEL - {"semgrep"})
)  # which test_semgrep.py breaks
async def test_a_shield_without_a_model(use: str, stage: Stage) -> None:
    shield = find_shield(use).build({})
    await shield.start()
    too_long = "x = 1\n" * 70_000
    assert await judge(shield, stage, too_long, timeout_ms=9000) == (ERROR, True)
    much = "def f(a): return a + 1\n" * 5_000
    assert await judge(shield, stage, much, timeout_ms=1) == (TIMEOUT, True)
