"""Servers of an older protocol, and servers that do not keep to any."""

from __future__ import annotations

import json

import pytest

from agentkit import ConfigurationError, mcp_tools
from agentkit.tools import ToolStatus
from tests.tools.mcp.support import old, run


async def test_an_older_server_is_used_as_any_other():
    async with mcp_tools(old("plain")) as tools:
        outcomes = [await run(tools, "old__repeat_text", text="aa") for _ in range(2)]

    assert [outcome.content.split()[1] for outcome in outcomes] == ["aa", "aa"]
    assert len({outcome.content for outcome in outcomes}) == 1  # one process


async def test_a_notice_of_change_is_heeded():
    async with mcp_tools(old("changing")) as tools:
        first = await run(tools, "old__repeat_text", text="a")
        second = await run(tools, "old__repeat_text", text="a")

    assert first.status is ToolStatus.OK
    assert second.status is ToolStatus.ERROR
    assert "describes repeat.text differently from when it was approved" in second.content


async def test_a_server_that_forgot_the_session_is_connected_anew():
    async with mcp_tools(old("forgetful")) as tools:
        first, refused, anew = [await run(tools, "old__repeat_text", text="a") for _ in range(3)]

    assert refused.content == "Error: MCP server old refused the call: Session terminated"
    assert first.ok
    assert anew.ok
    assert first.content != anew.content  # another process


async def test_a_tool_that_is_gone_fails_when_it_is_called():
    async with mcp_tools(old("lossy")) as tools:
        first, gone = [await run(tools, "old__repeat_text", text="a") for _ in range(2)]

    assert first.ok
    assert gone.content == "Error: MCP server old refused the call: Method not found"


@pytest.mark.parametrize("method", ["sampling/createMessage", "elicitation/create", "roots/list"])
async def test_a_server_cannot_ask_our_model_our_user_or_our_files(method: str):
    async with mcp_tools(old(method)) as tools:
        outcome = await run(tools, "old__repeat_text", text="a")

    answer = json.loads(outcome.content)
    assert "result" not in answer
    assert "not supported" in answer["error"]["message"]


async def test_its_regular_expressions_are_not_run_here():
    async with mcp_tools(old("plain")) as tools:
        (tool,) = tools
        outcome = await run(tools, "old__repeat_text", text="a" * 40 + "b")  # would take for ever

    assert tool.parameters["properties"] == {"text": {"type": "string"}}
    assert outcome.ok


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("endless", "MCP server old lists more than 256 tools, or pages without end"),
        ("garbage", r"MCP server old (did not answer within 1.5 seconds|could not be reached \(MCPError\))"),
        ("silent", r"MCP server old (did not answer within 1.5 seconds|could not be reached \(MCPError\))"),
    ],
)
async def test_a_server_that_keeps_to_no_protocol_is_an_error(
    behaviour: str, said: str, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(ConfigurationError, match=said):
        async with mcp_tools(old(behaviour, connect_timeout=1.5)):
            pytest.fail("it was used")

    assert "this is no message" not in caplog.text
    assert ("Failed to parse" in caplog.text) == (behaviour == "garbage")
