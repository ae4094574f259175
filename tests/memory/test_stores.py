"""Both stores pass the conformance suite."""

from __future__ import annotations

from pathlib import Path

from agentkit.memory import MemoryStore, SQLiteStore, Store
from agentkit.testing.store_conformance import StoreConformance


class TestMemoryStore(StoreConformance):
    async def make_store(self, folder: Path) -> Store:
        return MemoryStore()


class TestSQLiteStore(StoreConformance):
    async def make_store(self, folder: Path) -> Store:
        return SQLiteStore(folder / "agent.db")
