"""The SQLite store on disk: it outlives its process, is shared by many, and survives being killed."""

# ruff: noqa: ASYNC240  # the tests look at small local files
from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from agentkit.memory import SQLiteStore
from agentkit.testing.store_samples import HEADER, as_stored, as_stored_records, journal_of, turns

ROOT = Path(__file__).parents[2]
KILLS = 10


def start_committing(path: Path, session_id: str, last: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.memory.committing", str(path), session_id, str(last)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


async def test_a_session_goes_on_in_another_store_on_the_same_file(tmp_path: Path):
    path = tmp_path / "agent.db"
    first, second = SQLiteStore(path), SQLiteStore(path)
    version = await first.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
    version = await second.commit("s", expected_version=version, header=HEADER, entries=await turns(2))
    stored = await first.load("s")
    assert stored is not None
    assert stored.version == version
    assert stored.entries == as_stored(await turns(1, 2))
    await first.close()
    await second.close()


async def test_a_closed_store_leaves_one_file(tmp_path: Path):
    store = SQLiteStore(tmp_path / "agent.db")
    await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
    await store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["agent.db"]


async def test_many_processes_make_and_share_one_file(tmp_path: Path):
    path = tmp_path / "agent.db"
    processes = {f"s{number}": start_committing(path, f"s{number}", 10) for number in range(4)}
    for process in processes.values():
        output, _ = await anyio.to_thread.run_sync(process.communicate)
        assert process.returncode == 0
        assert output.split() == [str(number) for number in range(1, 11)]
    store = SQLiteStore(path)
    infos = await store.list()
    await store.close()
    assert [(info.id, info.turns, info.entries) for info in infos] == [(id_, 10, 30) for id_ in processes]
    assert max(info.version for info in infos) == 120


async def test_every_acknowledged_turn_survives_a_kill(tmp_path: Path):
    path, chance = tmp_path / "agent.db", random.Random(0)
    acknowledged = 0
    for _ in range(KILLS):
        with start_committing(path, "s", 1_000_000) as process:
            assert process.stdout is not None
            acknowledged = int(process.stdout.readline())
            time.sleep(chance.uniform(0, 0.1))  # noqa: ASYNC251  # nothing else runs here
            process.kill()
            acknowledged = int(["", *process.stdout.read().split()][-1] or acknowledged)
        store = SQLiteStore(path)
        stored = await store.load("s")
        await store.close()
        assert stored is not None
        last = stored.entries[-1].turn
        assert last in (acknowledged, acknowledged + 1)
        assert stored.entries == as_stored(await turns(*range(1, last + 1)))
        begun = as_stored_records((await journal_of(last + 1))[:2])
        assert stored.journal in (begun[:0], begun[:1], begun)
    assert acknowledged > KILLS


@pytest.mark.parametrize("steps", range(1, 14))
async def test_a_task_cancelled_from_outside_leaves_all_or_nothing_and_a_usable_store(
    tmp_path: Path, steps: int
):
    store = SQLiteStore(tmp_path / "agent.db")
    await store.list()
    entries = (await turns(1)) * 1_000  # long enough that the cancellation falls into the transaction
    task = asyncio.create_task(store.commit("s", expected_version=0, header=HEADER, entries=entries))
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    stored = await store.load("s")
    await store.close()
    assert stored is None or stored.entries == as_stored(entries)


@pytest.mark.parametrize("round_", range(10))
async def test_a_file_that_many_open_at_once_is_made_once(tmp_path: Path, round_: int):
    stores = [SQLiteStore(tmp_path / "agent.db") for _ in range(8)]
    async with anyio.create_task_group() as group:
        for store in stores:
            group.start_soon(store.list)
    for store in stores:
        await store.close()
