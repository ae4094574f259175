"""A backup is a store of its own, of one moment, taken while others write; nothing half-done gets its name."""

# ruff: noqa: ASYNC220  # the tests look at small local files and start one process
from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from agentkit.errors import StoreError
from agentkit.memory import AuditEvent, SQLiteStore, verify_chain
from agentkit.memory.sqlite_backup import copy_database
from agentkit.testing.store_samples import HEADER, as_stored, as_stored_records, journal_of, turns

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def store(tmp_path: Path):
    """A store with a session that has a fork, an archive, a journal and a log."""
    store = SQLiteStore(tmp_path / "agent.db")
    version = await store.commit(
        "s",
        expected_version=0,
        header=HEADER,
        entries=await turns(*range(1, 31)),
        event=AuditEvent(kind="made"),
    )
    await store.fork("s", "branch", num_entries=6)
    version = await store.commit(
        "s", expected_version=version, header=HEADER, entries=[], replace_from=3, archive=True
    )
    await store.append("s", expected_version=version, header=HEADER, records=await journal_of(31))
    yield store
    await store.close()


async def test_a_backup_is_a_store_with_all_that_there_was(store: SQLiteStore, tmp_path: Path):
    await store.backup(tmp_path / "copy.db")
    await store.delete("s")
    copy = SQLiteStore(tmp_path / "copy.db")
    stored, branch = await copy.load("s"), await copy.load("branch")
    assert stored is not None
    assert branch is not None
    assert (stored.entries, branch.entries) == (as_stored(await turns(1)), as_stored(await turns(1, 2)))
    assert stored.journal == as_stored_records(await journal_of(31))
    assert await copy.archived("s") == (as_stored(await turns(*range(1, 31))),)
    verify_chain(await copy.audit(""), tenant="")
    await copy.commit("s", expected_version=stored.version, header=HEADER, entries=await turns(2))
    assert await store.load("s") is None
    await copy.close()


async def test_a_backup_is_of_one_moment_while_another_process_writes(tmp_path: Path):
    path = tmp_path / "agent.db"
    command = [sys.executable, "-m", "tests.memory.committing", str(path), "s", "1000000"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        store = SQLiteStore(path)
        for number in range(5):
            before = await store.load("s")
            await store.backup(tmp_path / f"copy-{number}.db")
            process.stdout.readline()
            assert before is not None
            with closing(sqlite3.connect(tmp_path / f"copy-{number}.db")) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            copy = SQLiteStore(tmp_path / f"copy-{number}.db")
            stored = await copy.load("s")
            await copy.close()
            assert stored is not None
            last = stored.entries[-1].turn
            assert stored.version >= before.version
            assert stored.entries == as_stored(await turns(*range(1, last + 1)))
        process.kill()
        await store.close()


async def test_the_store_itself_can_write_during_a_backup(store: SQLiteStore, tmp_path: Path):
    version = await store.version("branch")
    async with anyio.create_task_group() as group:
        group.start_soon(store.backup, tmp_path / "copy.db")
        for number in range(3, 8):
            version = await store.commit(
                "branch", expected_version=version, header=HEADER, entries=await turns(number)
            )
    copy = SQLiteStore(tmp_path / "copy.db")
    stored = await copy.load("branch")
    await copy.close()
    assert stored is not None
    last = stored.entries[-1].turn
    assert stored.entries == as_stored(await turns(*range(1, last + 1)))


@pytest.mark.parametrize("name", ["copy.db", "agent.db"])
async def test_a_backup_replaces_no_file(store: SQLiteStore, tmp_path: Path, name: str):
    (tmp_path / "copy.db").write_text("precious")
    before = (tmp_path / name).read_bytes()
    with pytest.raises(StoreError, match=f"{name} exists; name a new file"):
        await store.backup(tmp_path / name)
    assert (tmp_path / name).read_bytes() == before


async def test_a_backup_needs_a_folder(store: SQLiteStore, tmp_path: Path):
    target = tmp_path / "missing" / "copy.db"
    with pytest.raises(StoreError, match=f"backup {target} of store .* cannot be opened: No such file"):
        await store.backup(target)


class CutOffError(Exception):
    pass


@pytest.mark.parametrize("steps", [0, 1, 2])
async def test_a_backup_that_is_cut_off_leaves_nothing(tmp_path: Path, steps: int):
    (tmp_path / "copies").mkdir()
    store = SQLiteStore(tmp_path / "agent.db")
    await store.commit("s", expected_version=0, header=HEADER, entries=(await turns(1)) * 5_000)
    looks = iter(range(steps))

    def cut_off_after_the_last_look() -> None:
        if next(looks, None) is None:
            raise CutOffError

    with pytest.raises(CutOffError):
        copy_database(
            store.path, tmp_path / "copies" / "copy.db", check_cancelled=cut_off_after_the_last_look
        )
    assert list((tmp_path / "copies").iterdir()) == []
    await store.close()


@pytest.mark.parametrize("steps", [1, 3, 30, 300])
async def test_a_cancelled_backup_leaves_nothing_or_a_whole_one(
    store: SQLiteStore, tmp_path: Path, steps: int
):
    (tmp_path / "copies").mkdir()
    async with anyio.create_task_group() as group:
        group.start_soon(store.backup, tmp_path / "copies" / "copy.db")
        for _ in range(steps):
            await checkpoint()
        group.cancel_scope.cancel()
    for path in (tmp_path / "copies").iterdir():
        copy = SQLiteStore(path)
        assert path.name == "copy.db"
        assert await copy.load("s") == await store.load("s")
        await copy.close()


async def test_a_closed_store_is_not_backed_up(store: SQLiteStore, tmp_path: Path):
    await store.close()
    with pytest.raises(StoreError, match="is closed"):
        await store.backup(tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()
