"""Documents in a SQLite file: beside sessions, and gone from its bytes when they are deleted."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from agentkit.errors import StoreError
from agentkit.memory import SQLiteStore
from agentkit.memory.knowledge_sqlite import SQLiteKnowledge
from agentkit.memory.knowledge_sqlite_tables import create_table
from agentkit.testing.store_samples import HEADER, turns
from tests.memory.knowing import CharacterEmbedder, cleared_document


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_documents_and_sessions_share_a_file(tmp_path: Path):
    knowledge, store = SQLiteKnowledge(tmp_path / "agent.db"), SQLiteStore(tmp_path / "agent.db")
    await knowledge.add("alice", await cleared_document("Tea at 5."))
    await store.commit("alice/1", expected_version=0, header=HEADER, entries=await turns(1))
    await knowledge.add("alice", await cleared_document("Coffee at 6."))
    assert len(await knowledge.search("alice", "tea coffee")) == 2
    assert [info.id for info in await store.list()] == ["alice/1"]
    assert await store.delete("alice/1") is True
    assert len(await knowledge.list("alice")) == 2
    await knowledge.close()
    await store.close()
    assert names_in(tmp_path) == ["agent.db"]


async def test_documents_go_into_a_file_that_sessions_made(tmp_path: Path):
    store = SQLiteStore(tmp_path / "agent.db")
    await store.commit("alice/1", expected_version=0, header=HEADER, entries=await turns(1))
    await store.close()
    knowledge = SQLiteKnowledge(tmp_path / "agent.db")
    await knowledge.add("alice", await cleared_document("Tea at 5."))
    assert len(await knowledge.search("alice", "tea")) == 1
    await knowledge.close()


async def test_nothing_of_a_deleted_document_is_left_in_the_files_while_they_are_open(tmp_path: Path):
    knowledge = SQLiteKnowledge(tmp_path / "agent.db", embedder=CharacterEmbedder())
    secret = "The Xylophagous Quokka is under the third pot. " * 100
    for number in range(30):
        await knowledge.add("alice", await cleared_document(f"Kept {number}. " * 50, source=f"{number}"))
    forgotten = await knowledge.add(
        "alice", await cleared_document(secret, source="Vault", title="Zephyrine")
    )
    for number in range(30):  # merges of the index move what it holds
        await knowledge.add("alice", await cleared_document(f"After {number}. " * 50, source=f"{number}"))
    assert b"xylophagous" in bytes_of(tmp_path).lower()
    assert await knowledge.delete("alice", forgotten)
    for word in (b"xylophagous", b"quokka", b"vault", b"zephyrine", forgotten.encode()):
        assert word not in bytes_of(tmp_path).lower()
    assert b"kept" in bytes_of(tmp_path).lower()
    assert len(await knowledge.search("alice", "kept after", limit=50)) == 50
    await knowledge.close()


async def test_the_index_is_whole_after_additions_and_deletions(tmp_path: Path):
    knowledge = SQLiteKnowledge(tmp_path / "agent.db")
    ids = [
        await knowledge.add(
            "alice", await cleared_document(f"Word{number} tea. " * 200, title=f"Title {number}")
        )
        for number in range(20)
    ]
    for document_id in ids[::2]:
        await knowledge.delete("alice", document_id)
    await knowledge.close()
    connection = sqlite3.connect(tmp_path / "agent.db")
    connection.execute("INSERT INTO knowledge_words (knowledge_words) VALUES ('integrity-check')")
    found = connection.execute("SELECT rowid FROM knowledge_words WHERE knowledge_words MATCH '\"1xtea\"'")
    passages = connection.execute("SELECT key FROM knowledge_passages")
    assert found.fetchall() == passages.fetchall() != []
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()


async def test_knowledge_of_a_newer_version_is_refused(tmp_path: Path):
    knowledge = SQLiteKnowledge(tmp_path / "agent.db")
    await knowledge.list("alice")
    await knowledge.close()
    connection = sqlite3.connect(tmp_path / "agent.db")
    connection.execute("UPDATE knowledge_version SET version = 2")
    connection.commit()
    connection.close()
    knowledge = SQLiteKnowledge(tmp_path / "agent.db")
    with pytest.raises(StoreError, match="has format version 2, this agentkit reads version 1"):
        await knowledge.list("alice")
    await knowledge.close()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE knowledge_documents SET about = '{'", "cannot be read; restore a backup or delete"),
        ("UPDATE knowledge_documents SET added = 'soon'", "time of a stored document cannot be read"),
        ("UPDATE knowledge_passages SET text = x'ff'", "is damaged: its text is not UTF-8"),
    ],
)
async def test_a_damaged_row_says_so(tmp_path: Path, change: str, reason: str):
    knowledge = SQLiteKnowledge(tmp_path / "agent.db")
    await knowledge.add("alice", await cleared_document("Tea at 5."))
    connection = sqlite3.connect(tmp_path / "agent.db")
    connection.execute(change)
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match=reason):
        await knowledge.search("alice", "tea")
    await knowledge.close()


async def test_a_row_that_claims_trust_for_a_stranger_is_not_believed(tmp_path: Path):
    knowledge = SQLiteKnowledge(tmp_path / "agent.db")
    await knowledge.add("alice", await cleared_document("Tea at 5."))
    connection = sqlite3.connect(tmp_path / "agent.db")
    connection.execute("UPDATE knowledge_documents SET about = replace(about, 'false', 'true')")
    connection.commit()
    connection.close()
    (hit,) = await knowledge.search("alice", "tea")
    assert hit.document.provenance.trusted is False
    await knowledge.close()


def test_a_sqlite_that_lacks_a_module_is_named():
    connection = sqlite3.connect(":memory:")
    with pytest.raises(StoreError, match=r"the SQLite [0-9.]+ of this Python has no such module: fts9; use"):
        create_table(connection, "CREATE VIRTUAL TABLE words USING fts9 (text)")
    connection.close()
