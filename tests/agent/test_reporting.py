"""What a run says about itself: its cost, its decisions, its end."""

from __future__ import annotations

import re

import pytest

from agentkit import (
    AgentKitError,
    Finding,
    RunStatus,
)
from agentkit.memory import MemoryStore
from agentkit.testing import StaticShield
from tests.agent.support import policy, scripted

CANARY = "xyzzy"


def canaries(text: str) -> list[Finding]:
    return [Finding(start=one.start(), end=one.end(), label="canary") for one in re.finditer(CANARY, text)]


@pytest.mark.parametrize("action", ["block", "withhold"])
async def test_an_answer_that_is_stopped_by_a_shield_costs_what_it_cost(action: str):
    agent, engine = scripted(
        f"The word is {CANARY} and so on and so on.",
        shield=StaticShield(flagged=lambda content: CANARY in content.text),
        under=policy(model_output=action),
    )
    async with agent:
        usage = (await agent.run("Go")).usage
    assert usage.input_tokens == len(engine.prompt_ids[0])
    assert usage.output_tokens > 0


async def test_a_withheld_answer_is_not_called_truncated():
    agent, _ = scripted(
        f"{CANARY} and so on and so on.",
        shield=StaticShield(flagged=lambda content: CANARY in content.text),
        under=policy(model_output="withhold"),
    )
    async with agent:
        result = await agent.run("Go")
    assert result.status is RunStatus.COMPLETED
    assert not result.truncated


async def test_an_unknown_option_of_a_run_is_an_error():
    agent, _ = scripted("Hello.")
    async with agent:
        with pytest.raises((AgentKitError, TypeError)):
            await agent.run("Hi", output_typ=dict)  # type: ignore[call-arg]


async def test_decisions_of_stage_memory_are_told():
    store = MemoryStore()
    agent, _ = scripted(f"The word is {CANARY}.")
    async with agent:
        await agent.session("t/1", store=store).run("Tell me the word")
    stricter, _ = scripted(
        "Hello again.",
        shield=StaticShield(flagged=lambda content: CANARY in content.text),
        under=policy(memory="withhold"),
    )
    async with stricter:
        result = await stricter.session("t/1", store=store).run("Hi")
    assert any(decision.action.value == "withhold" for decision in result.decisions)
