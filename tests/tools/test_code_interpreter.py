"""`code_interpreter`: a Python session for each session of an agent, in a sandbox, in Llama's form."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from agentkit import (
    Attachment,
    ConfigurationError,
    SandboxLimits,
    Tool,
    ToolCall,
    code_interpreter,
    current_call,
)
from agentkit.cleared import _SEAL, Cleared
from agentkit.inference.formats.calls import CODE_TOOL, read_code
from agentkit.tools.executor import Executor, ToolOutcome
from agentkit.tools.state import SessionKey
from agentkit.tools.toolset import Toolset
from tests.tools.sandboxes import (
    left_in,
    needs_bubblewrap,
    needs_monty,
    sandboxed_processes,
    small_limits,
)

PLACE = object()
"""Stands for the store that sessions are kept in."""


def key(session_id: str = "alice/42", place: object = PLACE) -> SessionKey:
    return SessionKey(session_id=session_id, place=place)


async def call(tool: Tool, code: str, session: SessionKey | None = None) -> ToolOutcome:
    executor = Executor(Toolset([tool]), session=session or key())
    made = ToolCall(id="call-1", name=CODE_TOOL, arguments={"code": code})
    # The pipeline's part, played here so that the tools room is tested by itself.
    return await executor.run(Cleared(made, seal=_SEAL))


async def freed(tool: Tool) -> None:
    assert tool.state is not None
    await tool.state.end_all()


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A stand-in with what is used of matplotlib, which is too large to install for a test."""
    tmp_path.chmod(0o755)
    folder = tmp_path / "matplotlib"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "pyplot.py").write_text(
        "_open = []\n"
        "def plot(): _open.append(Figure())\n"
        "def get_fignums(): return list(range(1, len(_open) + 1))\n"
        "def figure(number): return _open[number - 1]\n"
        "def close(which): _open.clear()\n"
        "class Figure:\n"
        "    def savefig(self, path): open(path, 'wb').write(b'PNG')\n"
    )
    return tmp_path


@needs_bubblewrap
async def test_packages_are_those_that_were_given_and_plots_are_returned(packages: Path):
    kept: list[Attachment] = []

    async def keep(files: tuple[Attachment, ...]) -> None:
        assert current_call().session == key()
        kept.extend(files)

    tool = code_interpreter(packages=packages, keep_files=keep, limits=small_limits())
    plotted = await call(tool, "import matplotlib.pyplot as plt; plt.plot()")
    again = await call(tool, "plt.get_fignums()")
    await freed(tool)
    assert plotted.content == "completed\n[file: figure_1.png, 3 bytes]"
    assert kept == [Attachment(name="figure_1.png", content=b"PNG")]
    assert again.content == "completed\n[stdout][][/stdout]"


@needs_bubblewrap
async def test_a_result_is_in_llamas_form():
    tool = code_interpreter(limits=small_limits())
    told = await call(
        tool, "import sys; print('out'); print('err', file=sys.stderr); open('a', 'w').write('x')"
    )
    silent = await call(tool, "y = 2")
    await freed(tool)
    assert told.content == "completed\n[stdout]out\n1[/stdout]\n[stderr]err[/stderr]\n[file: a, 1 bytes]"
    assert silent.content == "completed"


@needs_bubblewrap
async def test_code_that_is_stopped_is_a_timeout_and_the_next_call_says_what_is_lost():
    tool = code_interpreter(limits=small_limits(seconds=1.0))
    await call(tool, "kept = 1")
    stopped = await call(tool, "print('so far')\nwhile True: pass")
    after = await call(tool, "1 + 1")
    later = await call(tool, "2 + 2")
    await freed(tool)
    assert stopped.status.value == "timeout"
    assert stopped.content == (
        "Error: the code did not end within 1 seconds and was stopped; its variables and files are lost, "
        "and the next call begins a new session\n[stdout]so far[/stdout]"
    )
    assert after.content == (
        "completed\n[stdout]2[/stdout]\n"
        "[this is a new session, without earlier variables and files: the call before was stopped]"
    )
    assert later.content == "completed\n[stdout]4[/stdout]"


@needs_bubblewrap
async def test_sessions_of_other_ids_and_of_other_stores_have_variables_of_their_own():
    tool = code_interpreter(limits=small_limits())
    await call(tool, "secret = 1", key("alice/42"))
    other_id = await call(tool, "secret", key("bob/42"))
    other_store = await call(tool, "secret", key("alice/42", place=object()))
    own = await call(tool, "secret", key("alice/42"))
    await freed(tool)
    assert "NameError" in other_id.content
    assert "NameError" in other_store.content
    assert own.content == "completed\n[stdout]1[/stdout]"


@needs_bubblewrap
async def test_the_sandbox_that_was_idle_longest_makes_room():
    tool = code_interpreter(limits=small_limits(), max_sessions=2)
    for name in ("one", "two", "one", "three"):
        await call(tool, "kept = 1", key(name))
    inside = len(sandboxed_processes())
    one = await call(tool, "kept", key("one"))
    two = await call(tool, "1", key("two"))
    await freed(tool)
    assert inside == 4  # two sandboxes, each a reaper and a worker
    assert one.content == "completed\n[stdout]1[/stdout]"
    assert (
        "[this is a new session, without earlier variables and files: the session was idle for long]"
        in two.content
    )


@needs_bubblewrap
async def test_calls_of_one_session_run_one_after_the_other_and_of_two_at_once():
    tool = code_interpreter(limits=small_limits())
    code = "import time; began = time.monotonic(); time.sleep(0.3); print(began, time.monotonic())"
    spans: dict[str, list[tuple[float, float]]] = {"one": [], "two": []}

    async def timed(name: str) -> None:
        words = (await call(tool, code, key(name))).content.replace("[", " ").replace("]", " ").split()
        spans[name].append((float(words[2]), float(words[3])))

    await call(tool, "1", key("one"))
    await call(tool, "1", key("two"))
    async with anyio.create_task_group() as tasks:
        for name in ("one", "one", "two"):
            tasks.start_soon(timed, name)
    await freed(tool)
    first, second = sorted(spans["one"])
    assert first[1] <= second[0]
    assert spans["two"][0][0] < second[0]


@needs_bubblewrap
async def test_ending_a_session_stops_a_call_that_runs_and_one_that_waits():
    tool = code_interpreter(limits=small_limits())
    outcomes: list[ToolOutcome] = []

    async def run(code: str) -> None:
        outcomes.append(await call(tool, code))

    await call(tool, "1")
    namespaces = set(sandboxed_processes().values())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, "while True: pass")
        tasks.start_soon(run, "1")
        await anyio.sleep(0.2)
        assert tool.state is not None
        await tool.state.end(key())
    assert {outcome.content for outcome in outcomes} == {
        "Error: the session was closed while the call was being made"
    }
    assert left_in(namespaces) == []


@needs_monty
async def test_monty_runs_where_it_is_asked_for():
    tool = code_interpreter(sandbox="monty", limits=small_limits(seconds=1.0))
    told = await call(tool, "[n * n for n in range(4)]")
    stopped = await call(tool, "while True: pass")
    await freed(tool)
    assert "part of Python" in tool.description
    assert told.content == "completed\n[stdout][0, 1, 4, 9][/stdout]"
    assert stopped.status.value == "timeout"


def without_monty(code: str, path: Path) -> str:
    """What code prints that makes the tool, where there is no Monty, and of programs those in a folder alone."""
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules['pydantic_monty'] = None\n{code}"],
        env={**os.environ, "PATH": str(path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stderr == ""
    return ended.stdout


MAKE = """
from agentkit import ConfigurationError, code_interpreter
try: code_interpreter()
except ConfigurationError as error: print(error)
"""


def test_without_any_sandbox_the_tool_cannot_be_made(tmp_path: Path):
    assert without_monty(MAKE, tmp_path) == (
        "there is no sandbox to run code in, and it never runs outside one: bubblewrap is not installed: there is "
        "no bwrap; install your system's package bubblewrap; pydantic-monty is not installed: pip install "
        "'agentkit[sandbox]'\n"
    )


def test_a_bubblewrap_that_cannot_build_a_sandbox_is_none(tmp_path: Path):
    """A stand-in for what bubblewrap says where the kernel or a container forbids namespaces."""
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    program.chmod(0o755)
    assert (
        "it never runs outside one: bubblewrap cannot build a sandbox here: "
        "bwrap: No permissions to create new namespace; pydantic-monty"
    ) in without_monty(MAKE, tmp_path)


def test_a_wrong_setting_is_told_at_construction(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="sandbox must be auto, bubblewrap or monty, got 'none'"):
        code_interpreter(sandbox="none")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="max_sessions must be at least 1, got 0"):
        code_interpreter(max_sessions=0)
    with pytest.raises(ConfigurationError, match="Monty knows no packages"):
        code_interpreter(sandbox="monty", packages=tmp_path)
    with pytest.raises(
        ConfigurationError, match="memory_bytes must be an integer of at least 67108864, got 1"
    ):
        SandboxLimits(memory_bytes=1)
    with pytest.raises(ConfigurationError, match="seconds must be above 0 and finite, got inf"):
        SandboxLimits(seconds=float("inf"))


@needs_bubblewrap
def test_a_folder_without_packages_is_told_at_construction(tmp_path: Path):
    (tmp_path / "pyvenv.cfg").touch()
    with pytest.raises(ConfigurationError, match=r"there are no packages at .*site-packages"):
        code_interpreter(packages=tmp_path)


@needs_bubblewrap
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: anybody else keeps their own eyes inside")
def test_packages_that_nobody_inside_could_read_are_told_at_construction(tmp_path: Path):
    tmp_path.chmod(0o700)
    with pytest.raises(ConfigurationError, match="can be read by root alone; chmod"):
        code_interpreter(packages=tmp_path)


@needs_bubblewrap
def test_the_tool_is_the_one_that_llamas_formats_name():
    tool = code_interpreter()
    read = read_code("print(1)", [tool.name])
    assert tool.name == CODE_TOOL
    assert list(tool.parameters["properties"]) == ["code"]
    assert tool.code_arguments == {"code": "python"}
    assert getattr(read, "arguments", None) == {"code": "print(1)"}
