"""Probes on the agent's own model, the embedded one: they judge by the prefill that the turn needs anyway."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agentkit import Agent, Policy, RunStatus, SamplingParams
from agentkit.inference.catalog import EMBEDDED_MODEL
from agentkit.inference.engine import LocalEngine
from agentkit.inference.probe_contexts import conversation_prefixes
from agentkit.inference.probe_head import ProbeHead, save_head
from agentkit.inference.probe_reader import ProbeReader
from agentkit.shields.decision import Decision
from tests.agent.support import STAGES

pytestmark = pytest.mark.model

SHORT = SamplingParams(max_tokens=3)


def of_probes(decisions: tuple[Decision, ...]) -> dict[str, str]:
    return {
        outcome.shield: outcome.status.value
        for decision in decisions
        for outcome in decision.outcomes
        if outcome.shield.startswith("probe")
    }


async def test_what_a_user_says_is_prefilled_once_for_the_model_and_its_probes() -> None:
    async with Agent(EMBEDDED_MODEL, sampling=SHORT) as agent:
        session = agent.session()
        for said in ("What is the capital of France?", "And of Spain, its neighbour in the south?"):
            result = await session.run(said)
            assert of_probes(result.decisions) == {"probe_injection": "pass", "probe_harm": "pass"}
            assert result.usage.shield_tokens == 0


async def test_a_reading_of_a_disguised_text_costs_a_prefill_of_its_own() -> None:
    async with Agent(EMBEDDED_MODEL, sampling=SHORT) as agent:
        result = await agent.session().run("Please say  h e l l o  t o  m y  f r i e n d s for me.")
        assert result.usage.shield_tokens > 0


@pytest.fixture
async def engine():
    engine = await LocalEngine.load(EMBEDDED_MODEL)
    yield engine
    await engine.close()


async def head_between(engine: LocalEngine, bad: str, good: str) -> ProbeHead:
    """Return a head whose border lies in the middle between the mean states of two texts."""
    reader = ProbeReader(engine, (4,), window=64, before=conversation_prefixes(engine.tokenizer)[0])
    means = [(await reader.read(text))[0] for text in (bad, good)]
    between = means[0] - means[1]
    weights = 10.0 * between / np.square(between).sum()
    return ProbeHead(
        name="xyzzy",
        model=EMBEDDED_MODEL,
        fingerprint=engine.fingerprint,
        layers=(4,),
        window=64,
        weights=weights.astype(np.float32),
        bias=-float((weights * (means[0] + means[1])).sum()) / 2,
        threshold=0.5,
    )


async def test_a_hit_blocks_and_the_session_goes_on_without_it(engine: LocalEngine, tmp_path: Path) -> None:
    head = await head_between(engine, "xyzzy " * 20, "Good morning to you all, and a nice day.")
    save_head(head, tmp_path / "xyzzy.safetensors")
    policy = Policy.parse(
        json.dumps(
            {
                "version": 1,
                "shields": {"probe": {"use": "probe", "head": str(tmp_path / "xyzzy.safetensors")}},
                "stages": {
                    stage: [{"shield": "probe", "on_hit": "block"}] if stage == "user_input" else []
                    for stage in STAGES
                },
                "failure": {"timeout_ms": 60_000},
            }
        )
    )
    async with Agent(EMBEDDED_MODEL, policy=policy, sampling=SHORT) as agent:
        session = agent.session()
        first = await session.run("Good morning to you all, and a nice day.")
        assert first.status is RunStatus.COMPLETED
        blocked = await session.run("xyzzy " * 20)
        assert (blocked.status, of_probes(blocked.decisions)) == (RunStatus.BLOCKED, {"probe": "hit"})
        assert blocked.usage.shield_tokens == 0
        again = await session.run("And the same to you.")
        assert again.status is RunStatus.COMPLETED
        assert "xyzzy" not in "".join(message.content for message in session.messages)
