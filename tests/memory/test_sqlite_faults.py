"""A file that cannot be a store gets one clear sentence that names it, and is left as it was."""

# ruff: noqa: ASYNC220, ASYNC240  # the tests damage small local files and start one process
from __future__ import annotations

import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentkit.errors import StoreError
from agentkit.memory import SQLiteStore
from tests.memory.samples import HEADER, as_stored, turns

LOCKING = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
connection.rollback()
connection.close()
"""


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A store's file with one session of thirty turns, closed."""
    path = tmp_path / "agent.db"
    store = SQLiteStore(path)
    await store.commit("s", expected_version=0, header=HEADER, entries=await turns(*range(1, 31)))
    await store.close()
    return path


async def load_error(path: Path) -> str:
    store = SQLiteStore(path, busy_timeout=0.1)
    with pytest.raises(StoreError) as caught:
        await store.load("s")
    await store.close()
    return str(caught.value)


def execute(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


async def test_a_locked_file_says_so_and_works_again_afterwards(path: Path):
    store = SQLiteStore(path, busy_timeout=0.1)
    stored = await store.load("s")
    assert stored is not None
    with subprocess.Popen(
        [sys.executable, "-c", LOCKING, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        with pytest.raises(StoreError, match=r"agent.db is locked by another process \(waited 0.1 s\)"):
            await store.commit("s", expected_version=stored.version, header=HEADER, entries=await turns(31))
        assert await store.load("s") == stored
        process.stdin.close()
        process.wait()
    await store.commit("s", expected_version=stored.version, header=HEADER, entries=await turns(31))
    stored = await store.load("s")
    assert stored is not None
    assert stored.entries == as_stored(await turns(*range(1, 32)))
    await store.close()


def overwrite_start(data: bytes) -> bytes:
    return b"\xff" * 100 + data[100:]


def overwrite_pages(data: bytes) -> bytes:
    return data[:4096] + b"\xff" * (len(data) - 4096)


def cut_in_half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def text_file(data: bytes) -> bytes:
    return b"sessions: none\n" * 100


@pytest.mark.parametrize("damage", [overwrite_start, overwrite_pages, cut_in_half, text_file])
async def test_a_corrupt_file_is_named_with_what_to_do(path: Path, damage: Callable[[bytes], bytes]):
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    error = await load_error(path)
    assert error.startswith(f"store {path} is ")
    assert "corrupt" in error
    assert "restore a backup" in error
    assert "\n" not in error
    assert path.read_bytes() == damaged


IDS = struct.pack("<15i", *range(17, 32))


@pytest.mark.parametrize(
    ("written", "changed", "index"),
    [(b"question 17 ", b"question 71 ", 48), (IDS, IDS[:-4] + bytes(4), 50)],
    ids=["message", "ids"],
)
async def test_bytes_that_changed_inside_an_entry_are_found(
    path: Path, written: bytes, changed: bytes, index: int
):
    data = path.read_bytes()
    assert data.count(written) == 1
    path.write_bytes(data.replace(written, changed))
    error = await load_error(path)
    assert error.startswith(f"entry {index} of session 's' is damaged: its checksum does not fit;")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE entries SET ids = x'00' WHERE position = 2", "entry 2 of session 's' is damaged"),
        ("UPDATE entries SET message = 7 WHERE position = 2", "entry 2 of session 's' cannot be read"),
        ("UPDATE sessions SET header = '{}'", "the header of session 's' cannot be read"),
        ("UPDATE sessions SET header = x'ff'", "the header of session 's' cannot be read"),
        ("DROP TABLE entries", "failed: SQLITE_ERROR"),
    ],
)
async def test_rows_that_are_not_ours_are_named(path: Path, statement: str, message: str):
    execute(path, statement)
    assert message in await load_error(path)


async def test_a_time_that_is_none_is_named(path: Path):
    execute(path, "UPDATE sessions SET updated = 'yesterday'")
    store = SQLiteStore(path)
    with pytest.raises(StoreError, match="the times of session 's' cannot be read"):
        await store.list()
    await store.close()


async def test_a_file_of_a_newer_version_is_refused_with_both_numbers(path: Path):
    execute(path, "PRAGMA user_version = 7")
    before = path.read_bytes()
    assert "has format version 7, this agentkit reads version 1" in await load_error(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("statement", ["CREATE TABLE birds (name TEXT)", "PRAGMA user_version = 3"])
async def test_a_file_of_another_application_is_refused_and_left_alone(tmp_path: Path, statement: str):
    path = tmp_path / "birds.db"
    execute(path, statement)
    before = path.read_bytes()
    assert "birds.db is a SQLite file of another application" in await load_error(path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["birds.db"]


async def test_an_empty_file_becomes_a_store(tmp_path: Path):
    path = tmp_path / "agent.db"
    path.touch()
    store = SQLiteStore(path)
    assert await store.list() == []
    await store.close()


async def test_a_missing_folder_is_named(tmp_path: Path):
    error = await load_error(tmp_path / "missing" / "agent.db")
    assert error.endswith(f"there is no folder {tmp_path / 'missing'}; create it first")


async def test_a_path_that_the_system_refuses_is_named(tmp_path: Path):
    error = await load_error(tmp_path / ("x" * 300) / "agent.db")
    assert "agent.db cannot be opened: File name too long" in error


async def test_a_folder_is_not_a_store(tmp_path: Path):
    assert await load_error(tmp_path) == f"store {tmp_path} is a folder; name a file"


async def test_a_store_that_could_not_be_opened_tries_again(tmp_path: Path):
    store = SQLiteStore(tmp_path / "later" / "agent.db")
    with pytest.raises(StoreError):
        await store.list()
    (tmp_path / "later").mkdir()
    assert await store.list() == []
    await store.close()
