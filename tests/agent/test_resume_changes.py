"""What changed between the crash and the resumption: the policy, the tools, the model, the journal itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from agentkit import Agent, BlockedError, RunStatus, StoreError, Tool, ask_later, tool
from agentkit.agent.open_turn import OpenTurn
from agentkit.memory import verify_chain
from agentkit.memory.journal import ApprovalGiven, DecisionMade
from agentkit.messages import Role
from agentkit.testing import ScriptedEngine, StaticShield
from agentkit.testing.store_samples import journal_of
from tests.agent.interrupting import Errands
from tests.agent.support import call, policy, scripted

MAYBE = "It may have taken effect; its result is not known."


@pytest.fixture
async def errands(tmp_path: Path):
    errands = Errands(tmp_path)
    yield errands
    await errands.left.close()


def flags(word: str) -> StaticShield:
    return StaticShield(flagged=lambda content: word in content.text)


async def test_a_call_that_no_longer_passes_is_not_made(errands: Errands):
    """The crash is before the intent of the only call."""
    await errands.interrupt(call("send", text="a"), "Done.", write=2)
    agent, _ = scripted(
        "Done.",
        tools=errands.tools(),
        store=errands.left,
        shield=flags('"a"'),
        under=policy(tool_call="block"),
    )
    async with agent:
        result = await (await agent.session("t/1").load()).resume()
    assert errands.done == []
    assert result.messages[2].content.startswith("This call was withheld by the safety policy, so it was not")


@pytest.mark.parametrize("name", ["send", "book"])
async def test_a_begun_call_that_no_longer_passes_is_unknown(errands: Errands, name: str):
    await errands.interrupt(call(name, text="b"), "Done.")
    agent, _ = scripted(
        "Done.",
        tools=errands.tools(),
        store=errands.left,
        shield=flags('"b"'),
        under=policy(tool_call="block"),
        approver=lambda _: True,
    )
    async with agent:
        result = await (await agent.session("t/1").load()).resume()
    assert errands.done == []
    assert MAYBE in result.messages[2].content


async def test_a_call_whose_arguments_are_withheld_from_memory_is_not_made_without_them(errands: Errands):
    def purge_with_a_default() -> Tool:
        @tool(effect="write")
        async def purge(folder: str = "/") -> str:
            """Purge a folder."""
            errands.done.append(folder)
            return "purged"

        return purge

    await errands.interrupt(call("purge", folder="/tmp"), "Done.", write=2, tools=[purge_with_a_default()])
    agent, _ = scripted(
        "Done.",
        tools=[purge_with_a_default()],
        store=errands.left,
        shield=flags("/tmp"),
        under=policy(memory="withhold"),
    )
    async with agent:
        result = await (await agent.session("t/1").load()).resume()
    assert errands.done == []
    assert result.messages[2].content.startswith("This call was withheld by the safety policy, so it was not")


async def test_stored_content_that_no_longer_passes_blocks_the_resumption(errands: Errands):
    await errands.interrupt(call("send", text="a"), call("send", text="b"), "Done.")
    agent, engine = scripted(
        tools=errands.tools(), store=errands.left, shield=flags("done with a"), under=policy(memory="block")
    )
    async with agent:
        session = agent.session("t/1")
        for work in (session.load, session.resume, session.abandon):
            with pytest.raises(
                BlockedError, match="session t/1 holds a message of role tool that stage memory blocks"
            ):
                await work()
        assert await session.delete()
    assert (errands.done, engine.prompts) == ([], [])


async def test_a_person_is_asked_where_the_policy_now_asks(errands: Errands):
    await errands.interrupt(call("send", text="a"), "Done.", write=2)
    strict = policy(tools=[{"match": "send", "approval": "always"}])
    agent, _ = scripted("Done.", tools=errands.tools(), store=errands.left, under=strict, approver=ask_later)
    async with agent:
        result = await (await agent.session("t/1").load()).resume()
    assert result.status is RunStatus.AWAITING_APPROVAL
    assert [request.tool_name for request in result.approvals] == ["send"]
    assert errands.done == []


@pytest.mark.parametrize(("write", "begun"), [(2, False), (3, True)])
async def test_a_call_of_a_tool_that_is_gone_is_answered_and_not_made(
    errands: Errands, write: int, begun: bool
):
    await errands.interrupt(f"{call('send', text='a')}; {call('look', text='x')}", "Done.", write=write)
    left = [one for one in errands.tools() if one.name != "send"]
    agent, _ = scripted("Done.", tools=left, store=errands.left, approver=lambda _: True)
    async with agent:
        result = await (await agent.session("t/1").load()).resume()
    assert errands.done == ["x"]
    gone = "There is no such tool any more, so this call was not made. Go on without it."
    assert (MAYBE in result.messages[2].content) == begun
    assert (result.messages[2].content == gone) != begun
    assert result.status is RunStatus.COMPLETED


async def test_a_call_that_waits_for_a_tool_that_is_gone_waits_for_nobody(errands: Errands):
    strict = policy(tools=[{"match": "send", "approval": "always"}])
    await errands.interrupt(call("send", text="a"), under=strict, approver=ask_later, write=3)
    agent, _ = scripted("Done.", store=errands.left, under=strict, approver=ask_later)
    async with agent:
        session = await agent.session("t/1").load()
        assert await session.approvals() == ()
        assert (await session.resume()).status is RunStatus.COMPLETED


async def test_another_model_and_other_instructions_go_on_with_the_same_conversation(errands: Errands):
    class Other(ScriptedEngine):
        fingerprint = "another model"

    await errands.interrupt(call("send", text="a"), call("send", text="b"), "Done.")
    engine = Other(["Done.", "Fine."])
    async with Agent(
        engine,
        instructions="You are another test.",
        tools=errands.tools(),
        policy=policy(),
        store=errands.left,
    ) as agent:
        session = await agent.session("t/1").load()
        result = await session.resume()
        assert (await session.run("More")).output == "Fine."
        kept = session.messages
    assert errands.done == []
    assert result.messages[2].content == "done with a"
    assert "You are another test." in engine.prompts[0]
    assert "You are a test." not in engine.prompts[0]
    stored = await errands.left.load("t/1")
    assert stored is not None
    assert (stored.journal, tuple(entry.message for entry in stored.entries)) == ((), kept)


async def test_a_fork_of_an_interrupted_session_that_is_rendered_again_has_whole_turns(tmp_path: Path):
    errands = Errands(tmp_path)
    bare = Agent(ScriptedEngine(["Hello."]), policy=policy(), store=errands.store)
    async with bare:
        await bare.session("t/1").run("Hi")  # there are neither instructions nor tools: no system message
    await errands.interrupt(call("send", text="b"), "Done.")
    agent, _ = scripted("Fine.", tools=errands.tools(), store=errands.left)
    async with agent:
        session = await agent.session("t/1").load()
        branch = await session.fork("t/2", turn=1)
        said = [message.role for message in branch.messages]
    await errands.left.close()
    assert said == [Role.SYSTEM, Role.USER, Role.ASSISTANT]


def damage(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal SET body = substr(body, 1, 20) WHERE position = 3",
        "UPDATE journal SET kind = 'CallFinished' WHERE kind = 'CallIntended'",
        "DELETE FROM journal WHERE position = 3",
    ],
)
async def test_a_damaged_journal_is_named_and_nothing_runs(errands: Errands, statement: str):
    await errands.interrupt(call("send", text="b"), "Done.")
    damage(errands.left.path, statement)
    agent, engine = scripted(tools=errands.tools(), store=errands.left)
    async with agent:
        session = agent.session("t/1")
        works: list[Callable[[], Awaitable[object]]] = [session.load, session.resume, session.abandon]
        works += [session.approvals, partial(session.run, "More"), partial(session.approve, "call_1")]
        for work in works:
            with pytest.raises(StoreError, match=r"damaged.*restore a backup or delete the session"):
                await work()
        assert await session.delete()
        assert not (await session.load()).unfinished
    assert (errands.done, engine.prompts) == ([], [])


async def test_a_journal_that_is_not_that_of_one_turn_is_refused():
    one, other = await journal_of(1), await journal_of(2)
    given = ApprovalGiven(call_id="call-1", digest="0", approved=True)
    for journal, begins in (
        ([*one, *other], "InputAccepted"),
        ([given, *one], "ApprovalGiven"),
        ([given], "Appr"),
    ):
        with pytest.raises(StoreError, match=f"'s' is not that of one turn: .* begins with {begins}"):
            OpenTurn.read(journal, session_id="s")


async def test_a_decision_that_cannot_be_read_is_refused():
    accepted, *_ = await journal_of(1)
    with pytest.raises(StoreError, match="a decision that cannot be read"):
        OpenTurn.read([accepted, DecisionMade(decision={"id": "d1", "stage": "nowhere"})], session_id="s")


async def test_a_clock_that_went_back_changes_nothing(errands: Errands):
    await errands.interrupt(call("send", text="a"), call("send", text="b"), "Done.")
    later = "2199-01-01T00:00:00.000000+00:00"
    damage(errands.left.path, f"UPDATE sessions SET created = '{later}', updated = '{later}'")
    agent, _ = scripted("Done.", "Fine.", tools=errands.tools(), store=errands.left)
    async with agent:
        session = await agent.session("t/1").load()
        assert (await session.resume()).output == "Done."
        assert (await session.run("More")).output == "Fine."
    (info,) = await errands.left.list("t/")
    assert info.updated.year == 2199
    verify_chain(await errands.left.audit("t"), tenant="t")
