"""Only sessions that are old, ended and nobody's are deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from agentkit.errors import ConfigurationError
from agentkit.memory import MemoryStore, SessionInfo, SQLiteStore, Store
from agentkit.memory.retention import prune
from agentkit.testing.store_samples import HEADER, journal_of, turns

LATER = timedelta(hours=1)


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path):
    store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "agent.db")
    for session_id in ("alice/1", "alice/2", "bob/1"):
        await store.commit(session_id, expected_version=0, header=HEADER, entries=await turns(1))
    yield store
    await store.close()


async def ids(store: Store) -> list[str]:
    return [info.id for info in await store.list()]


async def test_old_sessions_are_deleted_and_on_record(store: Store):
    assert await prune(store, before=datetime.now(UTC) + LATER) == ("alice/1", "alice/2", "bob/1")
    assert await ids(store) == []
    assert [record.session_id for record in await store.audit("alice")] == ["alice/1", "alice/2"]


async def test_a_session_updated_since_stays(store: Store):
    between = datetime.now(UTC)
    version = await store.version("alice/2")
    await store.commit("alice/2", expected_version=version, header=HEADER, entries=[])
    assert await prune(store, before=between) == ("alice/1", "bob/1")
    assert await ids(store) == ["alice/2"]


async def test_only_sessions_with_the_prefix_are_deleted(store: Store):
    assert await prune(store, before=datetime.now(UTC) + LATER, prefix="alice/") == ("alice/1", "alice/2")
    assert await ids(store) == ["bob/1"]


async def test_a_session_that_is_held_stays(store: Store):
    async with store.hold("alice/1"):
        assert await prune(store, before=datetime.now(UTC) + LATER, prefix="alice/") == ("alice/2",)
    assert await prune(store, before=datetime.now(UTC) + LATER, prefix="alice/") == ("alice/1",)


async def test_a_session_whose_turn_has_not_ended_stays(store: Store):
    version = await store.version("bob/1")
    await store.append("bob/1", expected_version=version, header=HEADER, records=(await journal_of(2))[:1])
    assert await prune(store, before=datetime.now(UTC) + LATER) == ("alice/1", "alice/2")
    assert await ids(store) == ["bob/1"]


class ChangesAfterListing(MemoryStore):
    """A store in which somebody adds a turn as soon as the sessions are listed."""

    async def list(self, prefix: str = "") -> list[SessionInfo]:
        infos = await super().list(prefix)
        await self.commit("s", expected_version=infos[0].version, header=HEADER, entries=await turns(2))
        return infos


async def test_a_session_that_changes_meanwhile_stays():
    store = ChangesAfterListing()
    version = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
    assert await prune(store, before=datetime.now(UTC) + LATER) == ()
    assert await store.version("s") > version


async def test_any_time_zone_will_do(store: Store):
    east = timezone(timedelta(hours=9))
    assert await prune(store, before=datetime.now(east) - LATER) == ()
    assert len(await prune(store, before=datetime.now(east) + LATER)) == 3


async def test_a_time_without_a_zone_is_refused(store: Store):
    with pytest.raises(ConfigurationError, match="before must have a time zone, got 2026-07-26T00:00:00;"):
        await prune(store, before=datetime(2026, 7, 26))  # it has none: that is the point
    assert len(await ids(store)) == 3
