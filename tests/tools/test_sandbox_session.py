"""A sandboxed Python session, in bubblewrap and in Monty: what it keeps, shows, cuts and refuses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import anyio
import pytest

from agentkit.tools.sandbox.base import SandboxSession
from tests.tools.sandboxes import (
    bubblewrap_session,
    left_in,
    monty_session,
    needs_bubblewrap,
    needs_monty,
    sandboxed_processes,
)

Open = Callable[[], AbstractAsyncContextManager[SandboxSession]]
both_sandboxes = pytest.mark.parametrize(
    "open_session",
    [
        pytest.param(bubblewrap_session, marks=needs_bubblewrap),
        pytest.param(monty_session, marks=needs_monty),
    ],
)


@both_sandboxes
async def test_variables_and_functions_live_from_call_to_call(open_session: Open):
    async with open_session() as session:
        await session.run("def double(x):\n    return 2 * x\nnumber = 21")
        assert (await session.run("double(number)")).stdout == "42\n"


@both_sandboxes
async def test_the_value_of_a_last_expression_is_shown_after_what_was_printed(open_session: Open):
    async with open_session() as session:
        assert (await session.run("print('a')\n'b'")).stdout == "a\n'b'\n"
        assert (await session.run("None")).stdout == ""
        assert (await session.run("x = 1")).stdout == ""


@both_sandboxes
async def test_an_exception_is_told_with_its_line_and_leaves_the_session(open_session: Open):
    async with open_session() as session:
        failed = await session.run("kept = 1\nprint('before')\n1 / 0")
        after = await session.run("kept")
    assert failed.stdout == "before\n"
    assert "line 3" in failed.stderr
    assert "ZeroDivisionError: division by zero" in failed.stderr
    assert "worker" not in failed.stderr
    assert after.stdout == "1\n"


@both_sandboxes
@pytest.mark.parametrize("code", ["x = (", "", "   ", "# nothing", "'\\ud800'"])
async def test_odd_code_is_answered(open_session: Open, code: str):
    async with open_session() as session:
        await session.run(code)
        assert (await session.run("1 + 1")).stdout == "2\n"


@both_sandboxes
async def test_output_is_cut_at_its_limit_and_says_so(open_session: Open):
    async with open_session() as session:
        cut = await session.run("print('é' * 20_000)")
    assert cut.stdout == "é" * 8000
    assert cut.notes == ("cut: the first 8000 characters of 40001 printed bytes are shown",)


@needs_bubblewrap
async def test_what_c_code_prints_is_captured_too():
    async with bubblewrap_session() as session:
        told = await session.run("import os, sys; _ = os.write(1, b'one\\n'), os.write(2, b'two\\n')")
    assert (told.stdout, told.stderr) == ("one\n", "two\n")


@needs_bubblewrap
async def test_leaving_python_in_the_usual_way_keeps_the_session():
    async with bubblewrap_session() as session:
        ended = await session.run("kept = 1\nraise SystemExit")
        failed = await session.run("import sys; sys.exit('no luck')")
        after = await session.run("kept")
    assert (ended.stderr, after.stdout) == ("", "1\n")
    assert "SystemExit: no luck" in failed.stderr


@both_sandboxes
async def test_cancelling_a_call_stops_the_work_and_ends_the_session(open_session: Open):
    async with open_session() as session:
        await session.run("kept = 1")
        namespaces = set(sandboxed_processes().values())
        with anyio.move_on_after(0.2) as scope:
            await session.run("while True: pass")
        assert scope.cancelled_caught
        assert left_in(namespaces) == []
        assert "NameError" in (await session.run("kept")).stderr


@needs_bubblewrap
async def test_the_loop_goes_on_while_code_runs():
    async with bubblewrap_session(seconds=1.0) as session:
        ticks = 0
        async with anyio.create_task_group() as tasks:

            async def tick() -> None:
                nonlocal ticks
                while True:
                    await anyio.sleep(0.01)
                    ticks += 1

            tasks.start_soon(tick)
            await session.run("while True: pass")
            tasks.cancel_scope.cancel()
    assert ticks > 20


MONTY_REFUSES = {
    "files": ("open('/etc/shadow').read()", "PermissionError"),
    "the environment": ("import os; os.environ", "RuntimeError"),
    "a listing": ("from pathlib import Path; list(Path('/root').iterdir())", "PermissionError"),
    "sockets": ("import socket", "ModuleNotFoundError"),
    "processes": ("import subprocess", "ModuleNotFoundError"),
    "forks": ("import os; os.fork()", "AttributeError"),
    "memory": ("blocks = []\nwhile True: blocks.append('x' * 10**7)", "MemoryError"),
    "memory of the host": ("'x' * 10**9", "MemoryError"),
    "depth": ("def deeper(): return deeper()\ndeeper()", "RecursionError"),
    "classes of the host": ("().__class__.__base__.__subclasses__()", "AttributeError"),
}


@needs_monty
@pytest.mark.parametrize(("code", "error"), MONTY_REFUSES.values(), ids=MONTY_REFUSES)
async def test_monty_knows_no_way_to_the_host(code: str, error: str):
    async with monty_session() as session:
        told = await session.run(code)
        after = await session.run("1 + 1")
    assert error in told.stderr
    assert after.stdout == "2\n"


@needs_monty
@pytest.mark.parametrize("code", ["10 ** 5000", "deep = []\nfor _ in range(900): deep = [deep]\ndeep"])
async def test_a_value_that_the_host_cannot_write_is_said_to_be_one(code: str):
    async with monty_session() as session:
        told = await session.run(code)
        after = await session.run("1 + 1")
    assert len(told.stdout + told.stderr) > 0
    assert after.stdout == "2\n"
