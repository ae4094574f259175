"""What was deleted is gone from the bytes of the store's files, and what others share is not."""

# the tests look at small local files
from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from agentkit.memory import AuditEvent, Entry, SQLiteStore
from agentkit.memory.journal import CallFinished
from agentkit.messages import Message
from agentkit.testing.store_samples import HEADER, cleared, turns

SECRET = "correct horse battery staple"
SIZES = [1, 20, 2_000]


async def telling(size: int, *, turn: int) -> list[Entry]:
    """A turn whose every message is the secret, over and over."""
    message = await cleared(Message.user(SECRET * size))
    return [Entry(message=message, ids=(1, 2), turn=turn) for _ in range(3)]


def secrets_in(folder: Path) -> int:
    """How often the secret stands in the files of a folder, where no page's end cuts it."""
    return sum(path.read_bytes().count(SECRET.encode()) for path in folder.iterdir())


@pytest.fixture
async def store(tmp_path: Path):
    store = SQLiteStore(tmp_path / "agent.db", busy_timeout=0.1)
    await store.commit("other", expected_version=0, header=HEADER, entries=await turns(*range(1, 20)))
    yield store
    await store.close()


@pytest.mark.parametrize("size", SIZES)
async def test_a_deleted_session_leaves_no_byte(store: SQLiteStore, tmp_path: Path, size: int):
    version = await store.commit("s", expected_version=0, header=HEADER, entries=await telling(size, turn=1))
    record = CallFinished(entry=(await telling(size, turn=2))[0], call_id="1", status="ok", blocked=False)
    await store.append("s", expected_version=version, header=HEADER, records=[record])
    assert secrets_in(tmp_path) >= 3 * size
    await store.delete("s")
    assert secrets_in(tmp_path) == 0


@pytest.mark.parametrize("size", SIZES)
async def test_a_turn_that_was_taken_back_leaves_no_byte(store: SQLiteStore, tmp_path: Path, size: int):
    version = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
    version = await store.commit(
        "s", expected_version=version, header=HEADER, entries=await telling(size, turn=2)
    )
    assert secrets_in(tmp_path) >= 2 * size
    await store.commit("s", expected_version=version, header=HEADER, entries=[], replace_from=3)
    assert secrets_in(tmp_path) == 0


async def test_an_archive_keeps_its_content_until_its_session_is_deleted(store: SQLiteStore, tmp_path: Path):
    version = await store.commit("s", expected_version=0, header=HEADER, entries=await telling(1, turn=1))
    await store.commit("s", expected_version=version, header=HEADER, entries=[], replace_from=0, archive=True)
    assert secrets_in(tmp_path) > 0
    await store.delete("s")
    assert secrets_in(tmp_path) == 0


async def test_content_goes_with_the_last_session_that_shares_it(store: SQLiteStore, tmp_path: Path):
    await store.commit("s", expected_version=0, header=HEADER, entries=await telling(1, turn=1))
    await store.fork("s", "branch")
    await store.delete("s")
    assert secrets_in(tmp_path) > 0
    await store.delete("branch")
    assert secrets_in(tmp_path) == 0


async def test_content_goes_while_other_stores_have_the_file_open(store: SQLiteStore, tmp_path: Path):
    other = SQLiteStore(store.path)
    await store.commit("s", expected_version=0, header=HEADER, entries=await telling(1, turn=1))
    assert await other.load("s") is not None
    await store.delete("s")
    assert secrets_in(tmp_path) == 0
    await other.close()


async def test_a_reader_delays_the_erasure_but_not_the_deletion(store: SQLiteStore, tmp_path: Path):
    await store.commit("s", expected_version=0, header=HEADER, entries=await telling(1, turn=1))
    with closing(sqlite3.connect(store.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sessions").fetchone()
        assert await store.delete("s") is True
        assert await store.load("s") is None
        assert secrets_in(tmp_path) > 0
    await store.note("other", AuditEvent(kind="noted"))
    assert secrets_in(tmp_path) == 0


async def test_an_erasure_that_waits_for_a_reader_holds_up_no_other_operation(tmp_path: Path):
    store = SQLiteStore(tmp_path / "agent.db", busy_timeout=60)
    await store.commit("s", expected_version=0, header=HEADER, entries=await telling(1, turn=1))
    async with anyio.create_task_group() as group:
        with closing(sqlite3.connect(store.path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sessions").fetchone()
            group.start_soon(store.delete, "s")
            version = 0
            for number in range(1, 6):
                version = await store.commit(
                    "other", expected_version=version, header=HEADER, entries=await turns(number)
                )
            assert await store.load("s") is None
            assert secrets_in(tmp_path) > 0
    assert secrets_in(tmp_path) == 0
    await store.close()


async def test_what_a_killed_process_could_not_erase_goes_with_the_next_write(
    store: SQLiteStore, tmp_path: Path
):
    await store.commit("s", expected_version=0, header=HEADER, entries=await telling(1, turn=1))
    left = tmp_path / "left"
    left.mkdir()
    with closing(sqlite3.connect(store.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sessions").fetchone()
        await store.delete("s")
        for suffix in ("", "-wal"):
            shutil.copy(f"{store.path}{suffix}", left / f"agent.db{suffix}")
    assert secrets_in(left) > 0
    next_store = SQLiteStore(left / "agent.db")
    await next_store.note("other", AuditEvent(kind="noted"))
    assert secrets_in(left) == 0
    await next_store.close()
