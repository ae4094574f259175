"""What the tests of MCP share: servers as processes, and calls as the agent's executor makes them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Any

from agentkit import MCPHttp, MCPStdio, Tool
from agentkit.tools import Executor, ToolOutcome, Toolset
from tests.tools.calling import cleared

ROOT = Path(__file__).parents[3]
_SERVING = [sys.executable, "-m", "tests.tools.mcp.serving"]
_ENVIRONMENT = {"PATH": os.environ.get("PATH", ""), "OMP_NUM_THREADS": "1"}


def real(**options: Any) -> MCPStdio:
    """Return a server made with the `mcp` package, as a process."""
    return MCPStdio(name="demo", command=[*_SERVING, "stdio"], cwd=ROOT, **options)


def old(behaviour: str, **options: Any) -> MCPStdio:
    """Return the hand-made server, as a process."""
    program = str(Path(__file__).with_name("old_server.py"))
    return MCPStdio(name="old", command=[sys.executable, program, behaviour], **options)


@contextmanager
def listening(port: int) -> Iterator[tuple[MCPHttp, subprocess.Popen[bytes]]]:
    """Serve on a port of this machine in the block; 0 finds a free one."""
    if not port:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    process = subprocess.Popen([*_SERVING, "http", str(port)], cwd=ROOT, env=_ENVIRONMENT)
    try:
        _wait_for(port, process)
        yield MCPHttp(name="demo", url=f"http://127.0.0.1:{port}/mcp"), process
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            sleep(0.05)
        else:
            return
    raise AssertionError("the server does not listen")


async def run(tools: Sequence[Tool], name: str, **arguments: Any) -> ToolOutcome:
    """Call a tool as an agent does."""
    return await Executor(Toolset(tools)).run(cleared(name, **arguments))


def is_running(pid: int) -> bool:
    """Tell whether a process is there and is no zombie."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
