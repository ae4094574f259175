"""A file of an older version is migrated as a whole when it is opened, or stays as it was."""

# ruff: noqa: ASYNC221  # the tests look at small local files and start one process
from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import zlib
from array import array
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import anyio
import pytest

from agentkit.memory import Entry, SQLiteStore, StoredEntry
from agentkit.messages import message_to_json
from agentkit.testing.store_samples import HEADER, as_stored, turns

VERSION_1 = """
PRAGMA journal_mode = WAL;
CREATE TABLE versions (last INTEGER NOT NULL);
INSERT INTO versions (last) VALUES (9);
CREATE TABLE sessions (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, header TEXT NOT NULL,
    created TEXT NOT NULL, updated TEXT NOT NULL
);
CREATE TABLE entries (
    session INTEGER NOT NULL REFERENCES sessions (key) ON DELETE CASCADE, position INTEGER NOT NULL,
    turn INTEGER NOT NULL, generated INTEGER NOT NULL, message BLOB NOT NULL, ids BLOB NOT NULL,
    checksum INTEGER NOT NULL, PRIMARY KEY (session, position)
);
PRAGMA application_id = 0x61676E74;
PRAGMA user_version = 1;
"""
"""What version 1 of the format made, in its own words."""

CREATED, UPDATED = "2026-01-02T03:04:05.000006+00:00", "2026-02-03T04:05:06.000007+00:00"

MIGRATE_AND_DIE = """
import os, signal, sqlite3, sys
from agentkit.memory.sqlite_schema import migrate
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")  # pages go to the disk before the commit
connection.execute("BEGIN IMMEDIATE")
migrate(connection, 1)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A file of version 1 with three sessions: of thirty turns, of two, and empty."""
    path = tmp_path / "agent.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
        for key, (session_id, version) in enumerate((("long", 7), ("a/short", 9), ("empty", 3)), start=1):
            header = json.dumps(asdict(HEADER))
            row = (key, session_id, version, header, CREATED, UPDATED)
            connection.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)", row)
        await fill(connection, 1, await turns(*range(1, 31)))
        await fill(connection, 2, await turns(1, 2))
        connection.commit()
    return path


async def fill(connection: sqlite3.Connection, key: int, entries: Iterable[Entry]) -> None:
    for position, entry in enumerate(entries):
        text = json.dumps(message_to_json(entry.message.value), ensure_ascii=False, separators=(",", ":"))
        message, ids = text.encode(), array("i", entry.ids).tobytes()
        head = f"{entry.turn} {int(entry.generated)} {len(message)} {len(ids)} ".encode()
        checksum = zlib.crc32(ids, zlib.crc32(message, zlib.crc32(head)))
        row = (key, position, entry.turn, entry.generated, message, ids, checksum)
        connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def of_version_1(entries: Iterable[Entry]) -> tuple[StoredEntry, ...]:
    """Version 1 kept no ids of messages and decisions, and pinned nothing."""
    return tuple(replace(entry, message_id="", decision_ids=(), pinned=False) for entry in as_stored(entries))


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


async def check_content(path: Path) -> None:
    store = SQLiteStore(path)
    infos = await store.list()
    assert [(info.id, info.version, info.turns, info.entries) for info in infos] == [
        ("a/short", 9, 2, 6),
        ("empty", 3, 0, 0),
        ("long", 7, 30, 90),
    ]
    assert {(info.created.isoformat(), info.updated.isoformat()) for info in infos} == {(CREATED, UPDATED)}
    expected = {"long": await turns(*range(1, 31)), "a/short": await turns(1, 2), "empty": []}
    for session_id, entries in expected.items():
        stored = await store.load(session_id)
        assert stored is not None
        assert (stored.header, stored.journal) == (HEADER, ())
        assert stored.entries == of_version_1(entries)
    await store.close()


async def test_content_and_versions_are_intact_after_a_migration(path: Path):
    await check_content(path)
    assert version_of(path) == 2
    await check_content(path)


async def test_a_migrated_session_goes_on(path: Path):
    store = SQLiteStore(path)
    version = await store.commit("long", expected_version=7, header=HEADER, entries=await turns(31))
    assert version == 10
    await store.fork("long", "branch", num_entries=90)
    assert await store.delete("long")
    branch = await store.load("branch")
    assert branch is not None
    assert branch.entries == of_version_1(await turns(*range(1, 31)))
    await store.close()


async def test_a_migrated_file_has_the_tables_of_a_new_one(path: Path, tmp_path: Path):
    schemas = []
    for file in (path, tmp_path / "new.db"):
        store = SQLiteStore(file)
        await store.list()
        await store.close()
        with closing(sqlite3.connect(file)) as connection:
            query = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"
            schemas.append([(*row, " ".join((sql or "").split())) for *row, sql in connection.execute(query)])
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert schemas[0] == schemas[1]


async def test_a_migration_that_is_killed_leaves_version_1(path: Path):
    killed = subprocess.run([sys.executable, "-c", MIGRATE_AND_DIE, str(path)], check=False)
    assert killed.returncode == -9
    assert version_of(path) == 1
    await check_content(path)


async def test_a_file_that_many_migrate_at_once_is_migrated_once(path: Path):
    stores = [SQLiteStore(path) for _ in range(8)]
    async with anyio.create_task_group() as group:
        for store in stores:
            group.start_soon(store.list)
    for store in stores:
        await store.close()
    await check_content(path)
