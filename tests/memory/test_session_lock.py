"""A session of a file has one holder among all tasks, stores and processes, until that lets go or dies."""

# ruff: noqa: ASYNC220, ASYNC240  # the tests look at small local files and start processes
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from agentkit.errors import SessionBusyError, StoreError
from agentkit.memory import SQLiteStore
from agentkit.memory.session_lock import locked

HOLD = """
import sys
from pathlib import Path
from agentkit.memory.session_lock import locked
with locked(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""

CONTEND = """
import os, sys
from pathlib import Path
from agentkit.errors import SessionBusyError
from agentkit.memory.session_lock import locked
path, rounds, held = Path(sys.argv[1]), 2_000, 0
for _ in range(rounds):
    try:
        with locked(path, "s"):
            # Fails where another holds the session too.
            os.close(os.open(f"{path}-inside", os.O_CREAT | os.O_EXCL))
            held += 1
            os.unlink(f"{path}-inside")
    except SessionBusyError:
        pass
print(held)
"""


def start_holding(path: Path, session_id: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), session_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


async def is_held(store: SQLiteStore, session_id: str) -> bool:
    try:
        async with store.hold(session_id):
            return False
    except SessionBusyError:
        return True


@pytest.mark.parametrize("signal", ["end of input", "SIGTERM", "SIGKILL"])
async def test_a_session_is_free_again_when_its_holder_s_process_ends(tmp_path: Path, signal: str):
    store = SQLiteStore(tmp_path / "agent.db")
    with start_holding(store.path, "s") as process:
        assert await is_held(store, "s")
        assert not await is_held(store, "t")
        if signal == "end of input":
            process.communicate()
        elif signal == "SIGTERM":
            process.terminate()
        else:
            process.kill()
        process.wait()
        assert not await is_held(store, "s")
    await store.close()


async def test_two_stores_of_one_process_share_the_holders(tmp_path: Path):
    first, second = SQLiteStore(tmp_path / "agent.db"), SQLiteStore(tmp_path / "agent.db")
    async with first.hold("s"):
        assert await is_held(second, "s")
    assert not await is_held(second, "s")
    await first.close()
    await second.close()


async def test_another_name_of_the_file_has_the_same_holders(tmp_path: Path):
    store = SQLiteStore(tmp_path / "agent.db")
    await store.list()
    (tmp_path / "link.db").symlink_to(store.path)
    linked = SQLiteStore(tmp_path / "link.db")
    async with store.hold("s"):
        assert await is_held(linked, "s")
    await store.close()
    await linked.close()


async def test_two_files_in_one_folder_have_their_own_holders(tmp_path: Path):
    first, second = SQLiteStore(tmp_path / "a.db"), SQLiteStore(tmp_path / "b.db")
    async with first.hold("s"):
        assert not await is_held(second, "s")
    await first.close()
    await second.close()


async def test_of_many_processes_at_once_one_holds(tmp_path: Path):
    command = [sys.executable, "-c", CONTEND, str(tmp_path / "agent.db")]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    held = 0
    for process in processes:
        output, errors = await anyio.to_thread.run_sync(process.communicate)
        assert errors == ""
        held += int(output)
    assert held > 0
    assert list(tmp_path.iterdir()) == []


async def test_a_free_session_leaves_no_file(tmp_path: Path):
    store = SQLiteStore(tmp_path / "agent.db")
    async with store.hold("alice/secret-project"):
        assert "alice" not in " ".join(path.name for path in tmp_path.iterdir())
    await store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["agent.db"]


async def test_what_a_dead_holder_left_does_not_matter(tmp_path: Path):
    store = SQLiteStore(tmp_path / "agent.db")
    with start_holding(store.path, "s") as process:
        process.kill()
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    assert not await is_held(store, "s")
    await store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["agent.db"]


def test_a_session_whose_lock_cannot_be_made_is_not_held(tmp_path: Path):
    with (
        pytest.raises(StoreError, match="session 's' cannot be held: File name too long; the folder of"),
        locked(tmp_path / ("x" * 250), "s"),
    ):
        pytest.fail("it was held")


async def test_a_store_can_be_closed_while_it_holds_a_session(tmp_path: Path):
    store, other = SQLiteStore(tmp_path / "agent.db"), SQLiteStore(tmp_path / "agent.db")
    async with store.hold("s"):
        await store.close()
        assert await is_held(other, "s")
    assert not await is_held(other, "s")
    await other.close()
