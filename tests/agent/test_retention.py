"""What an agent's store holds, and what of it goes when nobody has used it for long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agentkit import ConfigurationError
from agentkit.agent.saved_kv import kv_path
from agentkit.memory import MemoryStore
from tests.agent.support import scripted


async def test_sessions_are_listed_by_tenant():
    agent, _ = scripted("One.", "Two.", store=MemoryStore())
    async with agent:
        await agent.session("alice/1").run("Hi")
        await agent.session("bob/1").run("Hi")
        assert [info.id for info in await agent.sessions()] == ["alice/1", "bob/1"]
        assert [(info.id, info.turns) for info in await agent.sessions("bob/")] == [("bob/1", 1)]


async def test_old_sessions_go_with_their_kv_files_and_young_ones_stay(tmp_path: Path):
    agent, _ = scripted("One.", "Two.", store=MemoryStore(), kv_folder=tmp_path)
    async with agent:
        await agent.session("alice/old").run("Hi")
        since = datetime.now(UTC)
        await agent.session("alice/young").run("Hi")
        files = [kv_path(tmp_path, session_id) for session_id in ("alice/old", "alice/young")]
        files[0].parent.mkdir()
        for file in files:
            file.write_bytes(b"pairs")
        assert await agent.prune_sessions(before=since - timedelta(days=1)) == ()
        assert await agent.prune_sessions(before=since) == ("alice/old",)
        assert [info.id for info in await agent.sessions()] == ["alice/young"]
    assert [file.exists() for file in files] == [False, True]


async def test_a_time_without_a_zone_is_refused():
    agent, _ = scripted(store=MemoryStore())
    async with agent:
        with pytest.raises(ConfigurationError, match="time zone"):
            await agent.prune_sessions(before=datetime(2026, 1, 1))


async def test_loading_a_long_session_adds_a_number_to_the_audit_log_not_a_record_a_message():
    store = MemoryStore()
    first, _ = scripted(*["One."] * 20, store=store)
    async with first:
        session = first.session("t/1")
        for _ in range(20):
            await session.run("Hi")
    second, _ = scripted("Two.", store=store)
    async with second:
        result = await second.session("t/1").run("Hi")
    details = (await store.audit("t"))[-1].details
    assert details["readmitted"] == 40
    assert len(details["decisions"]) < 5
    assert len(result.decisions) == 40 + len(details["decisions"])
