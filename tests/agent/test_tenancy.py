"""One tenant never reaches another's sessions, cache or audit log: not by ids, forks, prefixes or exports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentkit import (
    Agent,
    BlockedError,
    ConfigurationError,
    LocalEngine,
    MemoryStore,
    SamplingParams,
    SQLiteStore,
    Store,
)
from agentkit.memory import verify_chain
from agentkit.testing import StaticShield
from tests.agent.support import policy, scripted
from tests.inference.tiny import build_tiny_checkpoint

TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
SECRET = "My number is 4711."


async def alice(store: Store, session_id: str = "alice/1") -> None:
    agent, _ = scripted("Noted.", store=store)
    async with agent:
        await agent.session(session_id).run(SECRET)


@pytest.mark.parametrize(
    "session_id",
    ["bob/../alice/1", "bob/alice/1", "alice//1", "/alice/1", "alice/1/", "Alice/1", "alice/./1"],
)
async def test_an_id_that_looks_like_a_path_is_only_an_id(tmp_path: Path, session_id: str):
    store = SQLiteStore(tmp_path / "agent.db")
    await alice(store)
    agent, engine = scripted("Who?", store=store)
    async with agent:
        session = await agent.session(session_id).load()
        assert not any(SECRET in message.content for message in session.messages)
        await session.run("What is my number?")
    assert SECRET not in engine.prompts[0]
    assert [record.session_id for record in await store.audit("alice")] == ["alice/1"]
    await store.close()


@pytest.mark.parametrize(
    "session_id", ["%/1", "alice/1\0", "alice/1'", "alice/*", "alice\\1", "älice/1", "alice/1\n"]
)
async def test_an_id_with_other_characters_is_refused(session_id: str):
    agent, _ = scripted(store=MemoryStore())
    async with agent:
        with pytest.raises(ConfigurationError, match="a session id has only letters, digits and"):
            await agent.session(session_id).load()


@pytest.mark.parametrize(
    ("prefix", "found"),
    [("bob/", []), ("_lice/", []), ("alice", ["alice/1", "alice2/1"]), ("alice/", ["alice/1"])],
)
async def test_a_list_has_what_begins_with_its_prefix_and_no_pattern(prefix: str, found: list[str]):
    store = MemoryStore()
    for session_id in ("alice/1", "alice2/1"):
        await alice(store, session_id)
    assert [info.id for info in await store.list(prefix)] == found


@pytest.mark.parametrize("target", ["bob/1", "alice", "alice/team/1", "alice2/1", "Alice/1"])
async def test_a_fork_to_another_tenant_is_refused(target: str):
    store = MemoryStore()
    await alice(store)
    agent, _ = scripted(store=store)
    async with agent:
        session = await agent.session("alice/1").load()
        with pytest.raises(ConfigurationError, match="a fork stays with its tenant 'alice'"):
            await session.fork(target)
    assert [info.id for info in await store.list()] == ["alice/1"]


async def test_audit_logs_are_apart_and_whole():
    store = MemoryStore()
    agent, _ = scripted("One.", "Two.", "Three.", store=store)
    async with agent:
        for session_id in ("alice/1", "bob/1", "alice/2"):
            await agent.session(session_id).run("Count")
        await agent.session("bob/1").delete()
    for tenant, ids in (("alice", ["alice/1", "alice/2"]), ("bob", ["bob/1", "bob/1"]), ("", [])):
        log = await store.audit(tenant)
        verify_chain(log, tenant=tenant)
        assert [record.session_id for record in log] == ids


async def test_an_export_that_another_tenant_imports_is_judged_again_and_goes_its_own_way():
    store = MemoryStore()
    await alice(store)
    plain, _ = scripted(store=store)
    strict, _ = scripted(
        store=store,
        under=policy(memory="block"),
        shield=StaticShield(flagged=lambda said: SECRET in said.text),
    )
    async with plain, strict:
        exported = await (await plain.session("alice/1").load()).export()
        with pytest.raises(BlockedError, match="session bob/1 holds a message of role user"):
            await strict.import_session(exported, "bob/1")
        assert await store.load("bob/1") is None
        imported = await plain.import_session(exported, "bob/2")
        await plain.session("alice/1").delete()
        assert any(SECRET in message.content for message in (await imported.load()).messages)
    assert [record.session_id for record in await store.audit("bob")] == ["bob/2"]


async def test_one_tenant_s_cache_says_nothing_to_another(tmp_path: Path):
    checkpoint = build_tiny_checkpoint(tmp_path)
    config = checkpoint / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": TEMPLATE}))
    engine = await LocalEngine.load(str(checkpoint))
    agent = Agent(
        engine,
        instructions="You keep a secret.",
        policy=policy(),
        store=MemoryStore(),
        sampling=SamplingParams(max_tokens=4),
    )
    async with agent:
        usages = {
            session_id: (await agent.session(session_id).run(SECRET)).usage
            for session_id in ("alice/1", "alice/2", "bob/1", "alice2/1", "alice/team/1", "alice")
        }
    await engine.close()
    cached = [session_id for session_id, usage in usages.items() if usage.cached_tokens]
    assert cached == ["alice/2"]
