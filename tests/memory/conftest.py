"""What the tests of memory share: knowledge stores on both databases. The conformance suite explains its asserts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from agentkit.memory.knowledge import KnowledgeStore
from agentkit.memory.knowledge_postgres import PostgresKnowledge
from agentkit.memory.knowledge_sqlite import SQLiteKnowledge
from tests.memory.knowing import Make
from tests.postgres_server import PostgresServer

pytest.register_assert_rewrite("agentkit.testing.store_conformance")


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[Callable[..., PostgresKnowledge]]:
    """Makes stores on one schema of a database."""
    schema = f"test_{uuid4().hex}"
    yield partial(PostgresKnowledge, postgres_server.url(), schema=schema)
    postgres_server.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


@pytest.fixture(params=["sqlite", "postgres"])
async def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Make]:
    """Makes stores that share what they keep."""
    made: list[KnowledgeStore] = []
    new = partial(SQLiteKnowledge, tmp_path / "agent.db")
    if request.param == "postgres":
        new = request.getfixturevalue("database")

    def make(**options: Any) -> KnowledgeStore:
        made.append(new(**options))
        return made[-1]

    yield make
    for store in made:
        await store.close()
