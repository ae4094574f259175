"""What every part of the suite stands on: how the store under test is made, and operations on any session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from agentkit.memory import AuditEvent, Store, StoredSession
from agentkit.testing.store_samples import HEADER


class StoreSuite:
    """Tests of one store; a subclass says how to make it."""

    pytestmark = pytest.mark.anyio

    async def make_store(self, folder: Path) -> Store:
        """Return a new, empty store, which may keep files in the folder. It is closed after the test."""
        raise NotImplementedError

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Stores run on asyncio."""
        return "asyncio"

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        """The store under test."""
        store = await self.make_store(tmp_path)
        yield store
        await store.close()


async def loaded(store: Store, session_id: str) -> StoredSession:
    """Return a session that must be there."""
    stored = await store.load(session_id)
    assert stored is not None  # noqa: S101  # it is a test's
    return stored


async def _hold(store: Store, session_id: str) -> None:
    async with store.hold(session_id):
        pass


OPERATIONS: Final[dict[str, Callable[[Store, str], Awaitable[object]]]] = {
    "hold": _hold,
    "load": lambda store, session_id: store.load(session_id),
    "version": lambda store, session_id: store.version(session_id),
    "append": lambda store, session_id: store.append(
        session_id, expected_version=0, header=HEADER, records=[]
    ),
    "commit": lambda store, session_id: store.commit(
        session_id, expected_version=0, header=HEADER, entries=[]
    ),
    "archived": lambda store, session_id: store.archived(session_id),
    "fork from": lambda store, session_id: store.fork(session_id, "target"),
    "fork to": lambda store, session_id: store.fork("source", session_id),
    "delete": lambda store, session_id: store.delete(session_id),
    "note": lambda store, session_id: store.note(session_id, AuditEvent(kind="noted")),
}
"""Every operation on one session, by name."""
