"""Sessions carried elsewhere, cut back and branched: the ids stay what the model saw, and nothing is rendered again."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from agentkit import (
    Agent,
    ConfigurationError,
    MemoryStore,
    RunStatus,
    SamplingParams,
    SessionBusyError,
    StoreError,
    ToolCallStarted,
    tool,
)
from agentkit.memory import StoredSession, verify_chain
from agentkit.testing import ScriptedEngine
from tests.agent.support import call, policy, scripted


@tool(effect="read")
async def look(text: str) -> str:
    """Look at a thing."""
    return f"seen {text}"


REPLIES = [call("look", text="x"), "One.", "Two.", "Three."]


async def three_turns(store: MemoryStore, session_id: str = "t/1") -> None:
    agent, _ = scripted(*REPLIES, tools=[look], store=store)
    async with agent:
        session = agent.session(session_id)
        for text in ("First", "Second", "Third"):
            await session.run(text)


async def loaded(store: MemoryStore, session_id: str) -> StoredSession:
    stored = await store.load(session_id)
    assert stored is not None
    return stored


def ids_of(stored: StoredSession) -> list[tuple[int, ...]]:
    return [entry.ids for entry in stored.entries]


async def test_an_export_comes_back_as_it_was_with_the_same_ids():
    store, other = MemoryStore(), MemoryStore()
    await three_turns(store)
    agent, engine = scripted("Four.", tools=[look], store=other)
    source, _ = scripted(tools=[look], store=store)
    async with agent, source:
        exported = json.loads(json.dumps(await source.session("t/1").export()))
        session = await agent.import_session(exported)
        before, after = await loaded(store, "t/1"), await loaded(other, "t/1")
        assert (after.entries, after.header) == (before.entries, before.header)
        await session.run("Fourth")
    prefix = [token_id for ids in ids_of(before) for token_id in ids]
    assert list(engine.prompt_ids[0][: len(prefix)]) == prefix


async def test_an_import_never_replaces_a_session():
    store = MemoryStore()
    await three_turns(store)
    agent, _ = scripted(tools=[look], store=store)
    async with agent:
        exported = await agent.session("t/1").export()
        with pytest.raises(SessionBusyError, match="'t/1'"):
            await agent.import_session(exported)
        branch = await agent.import_session(exported, "t/2")
    assert branch.id == "t/2"
    assert (await loaded(store, "t/2")).entries == (await loaded(store, "t/1")).entries


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "this is no exported session"),
        ({"version": 2}, "the export has version 2, this agentkit reads version 1"),
        ({"version": "1"}, "the export has version '1'"),
        ({"entries": [{}]}, "cannot be read: KeyError"),
        ({"entries": None}, "cannot be read: TypeError"),
        ({"header": {}}, "cannot be read: TypeError"),
        ({"id": "a b"}, "a session id has only"),
        ({"id": ""}, "must not be empty"),
    ],
)
async def test_what_is_no_export_is_refused_and_nothing_is_kept(change: dict[str, Any], message: str):
    store, other = MemoryStore(), MemoryStore()
    await three_turns(store)
    agent, _ = scripted(tools=[look], store=other)
    source, _ = scripted(tools=[look], store=store)
    async with agent, source:
        exported = await source.session("t/1").export()
        with pytest.raises(ConfigurationError, match=message):
            await agent.import_session({**exported, **change})
    assert await other.list() == []


async def test_there_is_nothing_to_export_of_a_session_without_a_turn():
    agent, _ = scripted()
    async with agent:
        with pytest.raises(StoreError, match="there is no session 't/1' to export"):
            await agent.session("t/1").export()


async def test_a_rollback_leaves_what_never_had_the_turns():
    store = MemoryStore()
    for session_id, texts in (("t/1", ("First", "Second", "Third")), ("t/2", ("First",))):
        agent, _ = scripted(*REPLIES, tools=[look], store=store)
        async with agent:
            session = agent.session(session_id)
            for text in texts:
                await session.run(text)
            if session_id == "t/1":
                await session.rollback(1)
    rolled, fresh = await loaded(store, "t/1"), await loaded(store, "t/2")
    assert ids_of(rolled) == ids_of(fresh)
    assert [entry.turn for entry in rolled.entries] == [entry.turn for entry in fresh.entries]
    agent, engine = scripted("Again.", "Again.", tools=[look], store=store)
    async with agent:
        for session_id in ("t/1", "t/2"):
            await agent.session(session_id).run("Second")
    assert engine.prompt_ids[0] == engine.prompt_ids[1]
    assert [(await loaded(store, name)).entries[-1].turn for name in ("t/1", "t/2")] == [2, 2]
    log = await store.audit("t")
    verify_chain(log, tenant="t")
    assert [
        (record.kind, dict(record.details)) for record in log if record.kind == "session_rolled_back"
    ] == [("session_rolled_back", {"turn": 1})]


async def test_a_rollback_to_nothing_keeps_the_instructions_and_a_wrong_one_is_refused():
    store = MemoryStore()
    await three_turns(store)
    agent, engine = scripted("New.", tools=[look], store=store)
    async with agent:
        session = agent.session("t/1")
        for turn in (4, -1):
            with pytest.raises(
                ConfigurationError, match=f"'t/1' has no turn {turn} in its context; it has 0 to 3"
            ):
                await session.rollback(turn)
        await session.rollback(0)
        assert len((await loaded(store, "t/1")).entries) == 1
        await session.run("First")
    assert "One." not in engine.prompts[0]
    assert [info.turns for info in await store.list()] == [1]


@pytest.mark.parametrize("turn", [0, 1, 2, 3, None])
async def test_a_fork_may_begin_with_an_earlier_turn(turn: int | None):
    store = MemoryStore()
    await three_turns(store)
    agent, engine = scripted("Other.", tools=[look], store=store)
    async with agent:
        branch = await agent.session("t/1").fork("t/2", turn=turn)
        kept = [
            entry
            for entry in (await loaded(store, "t/1")).entries
            if entry.turn <= (3 if turn is None else turn)
        ]
        assert list((await loaded(store, "t/2")).entries) == kept
        await branch.run("Else")
    assert list(engine.prompt_ids[0][: sum(len(entry.ids) for entry in kept)]) == [
        token_id for entry in kept for token_id in entry.ids
    ]


async def test_a_deleted_session_leaves_a_whole_audit_log_and_no_content():
    store = MemoryStore()
    await three_turns(store)
    agent, _ = scripted(tools=[look], store=store)
    async with agent:
        session = agent.session("t/1")
        assert await session.delete()
        assert not await session.delete()
        assert not (await session.load()).unfinished
        assert len(session.messages) == 1
    log = await store.audit("t")
    verify_chain(log, tenant="t")
    assert [record.kind for record in log] == ["turn_ended"] * 3 + ["session_deleted"]
    written = json.dumps([dict(record.details) for record in log])
    assert not any(text in written for text in ("First", "One.", "seen x"))


async def test_every_message_and_decision_of_a_session_is_on_its_audit_log():
    store = MemoryStore()
    await three_turns(store)
    log = await store.audit("t")
    entries = [entry for entry in (await loaded(store, "t/1")).entries if entry.turn]
    messages = [message for record in log for message in record.details["messages"]]
    assert [message["id"] for message in messages] == [entry.message_id for entry in entries]
    assert len({entry.message_id for entry in entries}) == len(entries)
    decisions = {decision["id"] for record in log for decision in record.details["decisions"]}
    assert {decision_id for entry in entries for decision_id in entry.decision_ids} <= decisions
    assert all(record.details["policy_digest"] == policy().digest for record in log)


async def test_a_run_cancelled_after_its_step_keeps_that_step():
    cancelled = anyio.Event()

    @tool(effect="read")
    async def look(text: str) -> str:
        """Look at a thing."""
        await cancelled.wait()
        return f"seen {text}"

    agent, engine = scripted(*REPLIES, tools=[look])
    async with agent:
        session = agent.session("t/1")
        async with session.stream("First") as run:
            async for event in run:
                if isinstance(event, ToolCallStarted):
                    run.cancel(after_step=True)
                    cancelled.set()
        assert run.result.status is RunStatus.CANCELLED
        assert [message.content for message in session.messages[1:]] == ["First", "", "seen x"]
        assert (await session.run("Second")).output == "One."
    assert len(engine.prompts) == 2


async def test_a_seed_of_the_agent_is_every_turn_s():
    seeds: list[int | None] = []

    class Recording(ScriptedEngine):
        async def generate(self, prompt_ids: Any, params: SamplingParams, **options: Any) -> Any:
            seeds.append(params.seed)
            async for token in super().generate(prompt_ids, params, **options):
                yield token

    agent = Agent(Recording(REPLIES), tools=[look], policy=policy(), sampling=SamplingParams(seed=7))
    async with agent:
        session = agent.session("t/1")
        await session.run("First")
        await session.run("Second")
    assert seeds == [7, 8, 7]
