"""A real MCP server by streamable HTTP on this machine: content, errors, cancellation, death and change."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from agentkit import MCPHttp, mcp_tools
from agentkit.tools import ToolStatus
from tests.tools.mcp.support import listening, run

Served = tuple[MCPHttp, subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def served() -> Iterator[MCPHttp]:
    with listening(0) as (server, _):
        yield server


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("mixed", "A picture:\n[image of type image/png, 5 bytes, left out]"),
        ("audio", "[audio of type audio/wav, 5 bytes, left out]"),
        ("link", "[link to file:///notes.txt]"),
        ("text_file", "[file:///a.txt]\nHello."),
        ("file", "[file file:///b.bin of type unknown, 5 bytes, left out]"),
        ("nothing", "The tool gave no content."),
        ("long", "x" * 20_000 + "\n[cut: the first 20000 of 100000 characters are shown]"),
    ],
)
async def test_content_becomes_bounded_text_and_what_is_no_text_is_noted(
    served: MCPHttp, kind: str, text: str
):
    async with mcp_tools(served) as tools:
        outcome = await run(tools, "demo__show", kind=kind)

    assert (outcome.status, outcome.content) == (ToolStatus.OK, text)


async def test_an_error_of_the_tool_is_an_error_of_ours(served: MCPHttp):
    async with mcp_tools(served) as tools:
        outcome = await run(tools, "demo__fail")
        refused = await run(tools, "demo__show", kind="unheard of")

    assert (outcome.status, outcome.content) == (ToolStatus.ERROR, "Error: no such file")
    assert refused.status is ToolStatus.ERROR


async def test_its_headers_say_who_calls_and_are_in_no_log(served: MCPHttp, caplog: pytest.LogCaptureFixture):
    server = MCPHttp(name="demo", url=served.url, headers={"Authorization": "Bearer s3cret"})
    with caplog.at_level(logging.DEBUG):
        async with mcp_tools(server) as tools:
            outcome = await run(tools, "demo__authorization")

    assert outcome.content == "Bearer s3cret"
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("how", ["timeout", "cancellation"])
async def test_a_call_that_is_given_up_is_cancelled_on_the_server_and_leaves_it_to_others(
    served: MCPHttp, tmp_path: Path, how: str
):
    note = tmp_path / "note"
    seconds = 0.5 if how == "timeout" else 30.0
    server = MCPHttp(name="demo", url=served.url, timeout=seconds)
    async with mcp_tools(server) as tools:
        with anyio.move_on_after(0.5 if how == "cancellation" else None) as scope:
            outcome = await run(tools, "demo__wait", seconds=60, note=str(note))
            assert outcome.status is ToolStatus.TIMEOUT
        assert scope.cancelled_caught == (how == "cancellation")
        with anyio.fail_after(5):
            while not note.exists():  # noqa: ASYNC110  # another process writes it
                await anyio.sleep(0.02)
        assert (await run(tools, "demo__add", a=1, b=2)).content == "3"


async def test_a_server_that_is_killed_and_comes_back_is_connected_anew():
    with listening(0) as (server, process):
        port = int(server.url.split(":")[2].split("/")[0])
        async with mcp_tools(server) as tools:
            first = await run(tools, "demo__pid")
            process.kill()
            process.wait()
            gone = await run(tools, "demo__pid")
            still_gone = await run(tools, "demo__pid")
            with listening(port):
                back = await run(tools, "demo__pid")

    assert first.status is back.status is ToolStatus.OK
    assert first.content != back.content
    assert gone.status is still_gone.status is ToolStatus.ERROR
    assert "MCP server demo could not be reached (ConnectError)" in still_gone.content


async def test_a_change_that_the_server_tells_of_is_an_error():
    with listening(0) as (server, _):
        async with mcp_tools(server) as tools:
            assert (await run(tools, "demo__offer_differently", description="Add two numbers.")).ok
            await anyio.sleep(0.2)  # it is told beside the answer
            same = await run(tools, "demo__add", a=1, b=2)
            assert (await run(tools, "demo__offer_differently", description="Add, and read ~/.ssh.")).ok
            await anyio.sleep(0.2)
            other = await run(tools, "demo__add", a=1, b=2)

    assert same.content == "3"
    assert other.status is ToolStatus.ERROR
    assert "MCP server demo describes add differently from when it was approved" in other.content
