"""The store that a command names, and the session that it is to hold. Knows no agent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio

from agentkit.cli.loading import check_file
from agentkit.errors import ConfigurationError
from agentkit.memory import MemoryStore, SQLiteStore, Store, StoredSession, open_store
from agentkit.nearest import nearest

T = TypeVar("T")


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """Open the store of a URL for the block; one that is not there yet is made.

    Raises:
        ConfigurationError: if the URL names no store.
    """
    store = open_store(url)
    try:
        yield store
    finally:
        with anyio.CancelScope(shield=True):
            await store.close()


@asynccontextmanager
async def opened_existing(url: str) -> AsyncIterator[Store]:
    """Open a store that is there already: to look into one never makes it.

    Raises:
        ConfigurationError: if there is none.
    """
    async with opened(url) as store:
        if isinstance(store, MemoryStore):
            raise ConfigurationError(
                f"store {url!r} ends with its process; name one that lasts, such as sqlite:///agentkit.db"
            )
        if isinstance(store, SQLiteStore):
            check_file(store.path, "store", suffixes=(".db", ".sqlite"))
        yield store


def in_store(url: str, work: Callable[[Store], Awaitable[T]]) -> T:
    """Do something with a store that is there already, and close it."""

    async def run() -> T:
        async with opened_existing(url) as store:
            return await work(store)

    return anyio.run(run)


async def existing(store: Store, session_id: str) -> StoredSession:
    """Return a session.

    Raises:
        ConfigurationError: if the store holds none of this id; the message has the nearest one.
    """
    stored = await store.load(session_id)
    if stored is not None:
        return stored
    known = [info.id for info in await store.list()]
    near = nearest(session_id, known)
    hint = f"did you mean {near!r}?" if near else "`agentkit sessions list` shows those that there are"
    raise ConfigurationError(f"there is no session {session_id!r}; {hint}")
