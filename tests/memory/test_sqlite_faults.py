"""A file that cannot be a store gets one clear sentence that names it, and is left as it was."""

# ruff: noqa: ASYNC220, ASYNC240  # the tests damage small local files and start one process
from __future__ import annotations

import random
import sqlite3
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from agentkit.errors import StoreError
from agentkit.memory import AuditEvent, SQLiteStore, verify_chain
from agentkit.memory.sqlite_schema import session_checksum
from agentkit.testing.store_samples import HEADER, as_stored, journal_of, turns

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
    """A store's file with one session of thirty turns, in its next one, closed."""
    path = tmp_path / "agent.db"
    store = SQLiteStore(path)
    version = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(*range(1, 31)))
    await store.append("s", expected_version=version, header=HEADER, records=await journal_of(31))
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
        for write in (
            store.append("s", expected_version=stored.version, header=HEADER, records=await journal_of(31)),
            store.commit("s", expected_version=stored.version, header=HEADER, entries=await turns(31)),
            store.delete("s"),
            store.note("s", AuditEvent(kind="noted")),
        ):
            with pytest.raises(StoreError, match=r"agent.db is locked by another process \(waited 0.1 s\)"):
                await write
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
    ("written", "changed", "damaged"),
    [
        (b"question 17 ", b"question 71 ", "entry 48 of session 's' is damaged: its checksum"),
        (IDS, IDS[:-4] + bytes(4), "entry 50 of session 's' is damaged: its checksum"),
        (b"question 31 ", b"question 13 ", "journal record 0 of session 's' is damaged: its checksum"),
        (b"it writes", b"he writes", "journal record 3 of session 's' is damaged: its checksum"),
    ],
    ids=["message", "ids", "accepted input", "approval"],
)
async def test_bytes_that_changed_inside_a_row_are_found(
    path: Path, written: bytes, changed: bytes, damaged: str
):
    data = path.read_bytes()
    assert data.count(written) == 1
    path.write_bytes(data.replace(written, changed))
    assert (await load_error(path)).startswith(damaged)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE entries SET ids = x'00' WHERE depth = 2", "entry 2 of session 's' is damaged"),
        ("UPDATE entries SET message = 7 WHERE depth = 2", "entry 2 of session 's' cannot be read"),
        ("UPDATE entries SET checksum = 'one' WHERE depth = 2", "entry 2 of session 's' is damaged"),
        ("UPDATE entries SET depth = 9 WHERE depth = 2", "the entries of session 's' are damaged"),
        ("UPDATE entries SET parent = 1 WHERE depth = 3", "the entries of session 's' are damaged"),
        ("UPDATE entries SET parent = id", "the entries of session 's' are damaged"),
        ("DELETE FROM entries WHERE depth = 2", "the entries of session 's' are damaged: one is missing"),
        ("DELETE FROM entries", "the entries of session 's' are damaged: one is missing"),
        ("UPDATE sessions SET header = '{}'", "session 's' is damaged: its checksum does not fit"),
        ("UPDATE sessions SET header = x'ff'", "session 's' is damaged: its checksum does not fit"),
        ("UPDATE sessions SET head = 7", "session 's' is damaged: its checksum does not fit"),
        ("UPDATE sessions SET version = 1", "session 's' is damaged: its checksum does not fit"),
        (
            "DELETE FROM journal WHERE position = 6",
            "the journal of session 's' is damaged: it has 6 records of 7",
        ),
        ("UPDATE journal SET body = 7 WHERE position = 1", "journal record 1 of session 's' is damaged"),
        (
            "UPDATE journal SET kind = 'Other' WHERE position = 1",
            "journal record 1 of session 's' is damaged",
        ),
        ("UPDATE journal SET position = 9 WHERE position = 1", "journal record 6 of session 's' is damaged"),
        ("DROP TABLE entries", "failed: SQLITE_ERROR"),
        ("DROP TABLE journal", "failed: SQLITE_ERROR"),
    ],
)
async def test_rows_that_are_not_ours_are_named(path: Path, statement: str, message: str):
    execute(path, statement)
    assert message in await load_error(path)


@pytest.mark.parametrize("statement", ["UPDATE sessions SET header = '{}'", "UPDATE entries SET parent = id"])
async def test_a_damaged_session_takes_no_turn_and_no_fork_but_can_be_deleted(path: Path, statement: str):
    before = SQLiteStore(path)
    version = await before.version("s")
    await before.close()
    execute(path, statement)
    store = SQLiteStore(path)
    with pytest.raises(StoreError, match="damaged"):
        await store.commit(
            "s", expected_version=version, header=HEADER, entries=await turns(31), replace_from=3
        )
    with pytest.raises(StoreError, match="damaged"):
        await store.fork("s", "branch", num_entries=3)
    assert await store.delete("s") is True
    assert await store.load("s") is None
    await store.close()


async def test_a_header_of_other_fields_is_named(path: Path):
    execute(path, "DELETE FROM journal")
    header = '{"shape": "round"}'
    with closing(sqlite3.connect(path)) as connection:
        (version, head) = connection.execute("SELECT version, head FROM sessions").fetchone()
        checksum = session_checksum("s", version, header, head, 0)
        connection.execute("UPDATE sessions SET journal = 0, header = ?, checksum = ?", (header, checksum))
        connection.commit()
    assert (await load_error(path)).startswith("the header of session 's' cannot be read")


async def test_a_record_of_the_log_that_is_not_ours_is_named(path: Path):
    store = SQLiteStore(path)
    for kind in ("opened", "blocked"):
        await store.note("a/1", AuditEvent(kind=kind))
    execute(path, "UPDATE audit SET details = 'round' WHERE sequence = 2")
    with pytest.raises(StoreError, match="record 2 of the audit log of tenant 'a' cannot be read"):
        await store.audit("a")
    execute(path, "UPDATE audit SET details = '{}', kind = 'allowed' WHERE sequence = 2")
    with pytest.raises(StoreError, match="chain of tenant 'a' is broken at record 2"):
        verify_chain(await store.audit("a"), tenant="a")
    await store.close()


async def test_a_flipped_bit_gives_what_was_written_or_nothing_or_an_error(path: Path, tmp_path: Path):
    store = SQLiteStore(path)
    whole = await store.load("s")
    await store.close()
    data, chance = path.read_bytes(), random.Random(0)
    outcomes = Counter[str]()
    for _ in range(400):
        position = chance.randrange(len(data))
        flipped = bytes([data[position] ^ 1 << chance.randrange(8)])
        damaged = tmp_path / "damaged.db"
        damaged.write_bytes(data[:position] + flipped + data[position + 1 :])
        store = SQLiteStore(damaged)
        try:
            stored = await store.load("s")
        except StoreError:
            outcomes["error"] += 1
        else:
            assert stored is None or stored == whole
            outcomes["nothing" if stored is None else "whole"] += 1
        with suppress(StoreError):
            await store.close()
        for file in tmp_path.glob("damaged.db*"):
            file.unlink()
    assert outcomes["error"] > 50
    assert outcomes["whole"] > 50


async def test_a_clock_that_goes_back_takes_no_session_back(path: Path):
    future = "2999-01-01T00:00:00.000000+00:00"
    execute(path, f"UPDATE sessions SET updated = '{future}'")
    store = SQLiteStore(path)
    version = await store.version("s")
    version = await store.append(
        "s", expected_version=version, header=HEADER, records=(await journal_of(31))[:1]
    )
    await store.commit("s", expected_version=version, header=HEADER, entries=await turns(31))
    (info,) = await store.list()
    assert (info.updated.isoformat(timespec="microseconds"), info.turns) == (future, 31)
    await store.close()


async def test_a_time_that_is_none_is_named(path: Path):
    execute(path, "UPDATE sessions SET updated = 'yesterday'")
    store = SQLiteStore(path)
    with pytest.raises(StoreError, match="the times of session 's' cannot be read"):
        await store.list()
    await store.close()


async def test_a_file_of_a_newer_version_is_refused_with_both_numbers(path: Path):
    execute(path, "PRAGMA user_version = 7")
    before = path.read_bytes()
    assert "has format version 7, this agentkit reads versions 1 to 2" in await load_error(path)
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
