"""Both stores pass the conformance suite."""

from __future__ import annotations

from pathlib import Path

from agentkit.memory import MemoryStore, SQLiteStore, Store
from tests.memory.conformance import StoreConformance


class TestMemoryStore(StoreConformance):
    def make_store(self, folder: Path) -> Store:
        return MemoryStore()


class TestSQLiteStore(StoreConformance):
    def make_store(self, folder: Path) -> Store:
        return SQLiteStore(folder / "agent.db")
