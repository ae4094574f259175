"""Whatever part of the log a dead process left, the file opens to a state that once was whole."""

# ruff: noqa: ASYNC240  # the tests look at small local files and start one process
from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agentkit.memory import SQLiteStore, StoredSession
from agentkit.testing.store_samples import as_stored, as_stored_records, journal_of, turns

ROOT = Path(__file__).parents[2]
NUM_TURNS = 4
FRAME, HEAD = 24 + 4096, 32
"""Bytes of a page with its header in the log, and of the log's own header."""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The file of a process that was killed in the middle of its turns, with the log beside it."""
    path = tmp_path / "agent.db"
    command = [sys.executable, "-m", "tests.memory.committing", str(path), "s", "1000000"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(NUM_TURNS):
            process.stdout.readline()
        process.kill()
    return path


async def opened(folder: Path) -> StoredSession | None:
    store = SQLiteStore(folder / "agent.db")
    stored = await store.load("s")
    await store.close()
    return stored


async def as_it_was(stored: StoredSession | None) -> int:
    """Return how many writes led to this state, which must be one of those that the process went through."""
    if stored is None:
        return 0
    num_turns = stored.entries[-1].turn if stored.entries else 0
    assert stored.entries == as_stored(await turns(*range(1, num_turns + 1)))
    records = as_stored_records((await journal_of(num_turns + 1))[:2])
    assert stored.journal == records[: len(stored.journal)]
    assert stored.version == 3 * num_turns + len(stored.journal)
    return stored.version


async def test_a_log_cut_anywhere_opens_to_an_earlier_whole_state(killed: Path, tmp_path: Path):
    log = Path(f"{killed}-wal").read_bytes()
    frames = range(HEAD, len(log) + 1, FRAME)
    chance = random.Random(0)
    cuts = {0, 1, HEAD - 1, len(log), *frames, *(end - 1 for end in frames), *(end + 24 for end in frames)}
    cuts |= {chance.randrange(len(log)) for _ in range(50)}
    writes = 0
    for number, cut in enumerate(sorted(cuts)):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(killed, folder)
        (folder / "agent.db-wal").write_bytes(log[:cut])
        reached = await as_it_was(await opened(folder))
        assert reached >= writes
        writes = reached
    assert len(cuts) > 100
    assert writes >= 3 * NUM_TURNS


async def test_a_log_damaged_anywhere_opens_to_an_earlier_whole_state(killed: Path, tmp_path: Path):
    log = Path(f"{killed}-wal").read_bytes()
    chance = random.Random(0)
    whole = 0
    for number in range(50):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(killed, folder)
        position = chance.randrange(len(log))
        damaged = bytes([log[position] ^ 1 << chance.randrange(8)])
        (folder / "agent.db-wal").write_bytes(log[:position] + damaged + log[position + 1 :])
        whole += await as_it_was(await opened(folder)) > 0
    assert whole > 0
