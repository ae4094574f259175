"""Tools of MCP servers in an agent: judged as a stranger's words, coming and going."""

from __future__ import annotations

import pytest

from agentkit import BlockedError, Policy, RunStatus, ShieldInput, Stage, mcp_tools
from agentkit.testing import StaticShield
from tests.agent.support import call, policy, scripted
from tests.tools.mcp.support import old


async def test_a_description_is_judged_as_a_strangers_words_and_so_is_a_result():
    shield = StaticShield()
    async with mcp_tools(old("plain")) as tools:
        agent, engine = scripted(
            call("old__repeat_text", text="Hello"),
            "It says hello.",
            tools=tools,
            shield=shield,
            under=policy(tool_description="block", tool_result="block"),
        )
        async with agent:
            result = await agent.run("Repeat hello")

    assert (result.status, result.output) == (RunStatus.COMPLETED, "It says hello.")
    described, answered = shield.seen
    assert described.stage is Stage.TOOL_DESCRIPTION
    assert "Repeat a text." in described.text
    assert (described.provenance.trusted, described.provenance.source) == (False, "old")
    assert answered.stage is Stage.TOOL_RESULT
    assert (answered.provenance.trusted, answered.provenance.source) == (False, "old__repeat_text")
    assert "old__repeat_text" in engine.prompts[0]


async def test_a_poisoned_description_keeps_the_agent_from_starting():
    async with mcp_tools(old("poisoned")) as tools:
        agent, engine = scripted("Hello.", tools=tools, under=Policy.default())
        with pytest.raises(
            BlockedError, match="the description of tool old__repeat_text was blocked by shield"
        ):
            await agent.run("Hi")

    assert engine.prompts == []


async def test_a_withheld_description_leaves_the_structure_alone():
    def flags(content: ShieldInput) -> bool:
        return "Repeat" in content.text

    async with mcp_tools(old("plain")) as tools:
        agent, engine = scripted(
            "Hello.",
            tools=tools,
            shield=StaticShield(flagged=flags),
            under=policy(tool_description="withhold"),
        )
        async with agent:
            await agent.run("Hi")

    assert "old__repeat_text" in engine.prompts[0]
    assert "Repeat" not in engine.prompts[0]


async def test_a_server_that_changes_is_an_error_that_the_model_reads():
    repeat = call("old__repeat_text", text="Hello")
    async with mcp_tools(old("changing")) as tools:
        agent, _ = scripted(repeat, repeat, "I could not.", tools=tools)
        async with agent:
            result = await agent.run("Repeat hello twice")

    assert result.status is RunStatus.COMPLETED
    assert "differently from when it was approved" in result.messages[4].content


async def test_a_rule_of_the_policy_reaches_the_tools_of_a_server_by_its_name():
    rule = {"match": "old__*", "approval": "always"}
    async with mcp_tools(old("plain")) as tools:
        agent, _ = scripted(
            call("old__repeat_text", text="Hello"), "Then not.", tools=tools, under=policy(tools=[rule])
        )
        async with agent:
            result = await agent.run("Repeat hello")

    assert "was not approved by a person" in result.messages[2].content
