"""A call that waits for a person: decided later, elsewhere, without a model; until then nothing of its step runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from agentkit import (
    Agent,
    ApprovalDecision,
    ApprovalRequest,
    ApprovalRequested,
    ConfigurationError,
    RunStatus,
    SessionBusyError,
    SQLiteStore,
    UnfinishedTurnError,
    ask_later,
)
from agentkit.agent.approvals import ASKED, MAYBE_MADE
from agentkit.messages import Role
from agentkit.tools import call_digest
from tests.agent.interrupting import Errands
from tests.agent.support import call, policy, scripted

STRICT = policy(tools=[{"match": "send", "approval": "always"}])
MAYBE = "It may have taken effect; its result is not known."
REFUSED = "This call was not approved by a person, so it was not made. Go on without it."


@pytest.fixture
async def errands(tmp_path: Path):
    errands = Errands(tmp_path)
    yield errands
    await errands.store.close()
    await errands.left.close()


def agent_of(errands: Errands, *replies: str, store: SQLiteStore | None = None) -> Agent:
    agent, _ = scripted(
        *replies, tools=errands.tools(), store=store or errands.store, under=STRICT, approver=ask_later
    )
    return agent


async def wait(errands: Errands, *replies: str) -> tuple[ApprovalRequest, ...]:
    """Run a turn of session `t/1` until it waits; return what it waits for."""
    async with agent_of(errands, *replies) as agent:
        result = await agent.session("t/1").run("Go")
    assert result.status is RunStatus.AWAITING_APPROVAL
    assert result.output is None
    return result.approvals


async def resume(errands: Errands, *replies: str, store: SQLiteStore | None = None):
    async with agent_of(errands, *replies, store=store) as agent:
        return await (await agent.session("t/1").load()).resume()


def nobody(errands: Errands) -> Agent:
    """An agent whose model does not exist: whoever decides needs none."""
    return Agent("no such model", store=errands.store, policy=STRICT)


async def test_a_call_that_waits_is_told_bound_to_its_digest_and_not_made(errands: Errands):
    async with agent_of(errands, call("send", text="a")) as agent:
        session = agent.session("t/1")
        async with session.stream("Go") as run:
            events = [event async for event in run]
        (request,) = run.result.approvals
        assert [event.request for event in events if isinstance(event, ApprovalRequested)] == [request]
        assert await session.approvals() == (request,)
        (sent,) = session.messages[-1].tool_calls
    assert (request.call_id, request.tool_name, request.reason) == (sent.id, "send", ASKED)
    assert (dict(request.arguments), request.digest) == ({"text": "a"}, call_digest(sent))
    assert errands.done == []


@pytest.mark.parametrize("approved", [True, False])
async def test_a_decision_needs_no_model_and_is_carried_out_by_the_resumption(
    errands: Errands, approved: bool
):
    (request,) = await wait(errands, call("send", text="a"))
    session = nobody(errands).session("t/1")
    await (session.approve if approved else session.deny)(request.call_id)
    assert errands.done == []
    result = await resume(errands, "Done.")
    assert result.status is RunStatus.COMPLETED
    assert errands.done == (["a"] if approved else [])
    assert result.messages[2].content == ("done with a" if approved else REFUSED)


async def test_a_decision_comes_from_another_process(errands: Errands):
    (request,) = await wait(errands, call("send", text="a"))
    script = (
        "import sys, anyio; from agentkit import Agent; "
        "session = Agent('no such model').session('t/1', store=f'sqlite:///{sys.argv[1]}'); "
        "anyio.run(session.approve, sys.argv[2]); print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(errands.store.path), request.call_id]
    ended = await anyio.run_process(command, stderr=subprocess.STDOUT)
    assert ended.stdout == b"False\n"
    assert (await resume(errands, "Done.")).output == "Done."
    assert errands.done == ["a"]


async def test_a_wrong_call_or_a_second_decision_is_refused_by_name(errands: Errands):
    (request,) = await wait(errands, call("send", text="a"))
    session = nobody(errands).session("t/1")
    with pytest.raises(
        ConfigurationError,
        match=f"'t/1' has no call 'call_x' that waits for a person; there is {request.call_id}",
    ):
        await session.approve("call_x")
    await session.approve(request.call_id)
    for decide in (session.approve, session.deny):
        with pytest.raises(
            ConfigurationError, match=f"'{request.call_id}' that waits for a person; none waits"
        ):
            await decide(request.call_id)
    with pytest.raises(ConfigurationError, match="none waits"):
        await nobody(errands).session("t/other").approve(request.call_id)


async def test_a_turn_that_waits_is_not_run_over_and_can_be_abandoned(errands: Errands):
    (request,) = await wait(errands, call("send", text="a"))
    async with agent_of(errands, "Fine.") as agent:
        session = agent.session("t/1")
        with pytest.raises(UnfinishedTurnError, match=f"waits for an approval of {request.call_id}; resume"):
            await session.run("More")
        await session.abandon()
        assert await session.approvals() == ()
        with pytest.raises(ConfigurationError, match="none waits"):
            await session.approve(request.call_id)
        assert (await session.run("More")).output == "Fine."
        assert [message.role for message in session.messages[1:]] == [Role.USER, Role.ASSISTANT]
    assert errands.done == []


async def test_nothing_of_a_step_runs_while_one_of_its_calls_waits(errands: Errands):
    step = f"{call('book', text='x')}; {call('send', text='a')}; {call('send', text='b')}"
    first, second = await wait(errands, step)
    assert errands.done == []
    await nobody(errands).session("t/1").deny(first.call_id)
    again = await resume(errands)
    assert (again.status, again.approvals, errands.done) == (RunStatus.AWAITING_APPROVAL, (second,), [])
    await nobody(errands).session("t/1").approve(second.call_id)
    result = await resume(errands, "Done.")
    assert errands.done == ["x", "b"]
    answers = [message.content for message in result.messages if message.role is Role.TOOL]
    assert answers == ["done with x", REFUSED, "done with b"]


async def test_two_steps_may_wait_one_after_the_other(errands: Errands):
    (first,) = await wait(errands, call("send", text="a"))
    await nobody(errands).session("t/1").approve(first.call_id)
    again = await resume(errands, call("send", text="c"))
    (second,) = again.approvals
    assert errands.done == ["a"]
    assert second.call_id != first.call_id
    await nobody(errands).session("t/1").approve(second.call_id)
    assert (await resume(errands, "Done.")).output == "Done."
    assert errands.done == ["a", "c"]


async def test_a_yes_is_for_the_same_arguments_of_the_same_turn(errands: Errands):
    (first,) = await wait(errands, call("send", text="a"))
    async with agent_of(errands, call("send", text="a")) as agent:
        session = await agent.session("t/1").load()
        await session.approve(first.call_id)
        await session.abandon()
        result = await session.run("Go")
    assert result.status is RunStatus.AWAITING_APPROVAL
    assert [request.call_id for request in result.approvals] != [first.call_id]
    assert errands.done == []


@pytest.mark.parametrize("decision", ["approve", "deny"])
async def test_a_yes_from_before_a_crash_allows_no_second_try(errands: Errands, decision: str):
    (first,) = await wait(errands, call("send", text="b"))
    await nobody(errands).session("t/1").approve(first.call_id)
    await resume(errands, "Done.")  # `left` is the store as a kill in the call leaves it
    assert errands.done == ["b"]
    left = errands.left
    again = await resume(errands, store=left)
    (second,) = again.approvals
    assert (again.status, second.reason) == (RunStatus.AWAITING_APPROVAL, MAYBE_MADE)
    assert (second.call_id, second.digest) == (first.call_id, first.digest)
    decide = Agent("no such model", store=left, policy=STRICT).session("t/1")
    await (decide.approve if decision == "approve" else decide.deny)(second.call_id)
    result = await resume(errands, "Done.", store=left)
    assert errands.done == (["b", "b"] if decision == "approve" else ["b"])
    assert (MAYBE in result.messages[2].content) == (decision == "deny")


async def test_a_yes_that_a_crash_came_after_need_not_be_said_again(errands: Errands):
    (request,) = await wait(errands, call("send", text="a"))
    await nobody(errands).session("t/1").approve(request.call_id)
    await errands.store.backup(errands.left.path)
    assert (await resume(errands, "Done.", store=errands.left)).status is RunStatus.COMPLETED
    assert errands.done == ["a"]


async def test_nobody_decides_while_the_turn_runs(errands: Errands):
    (request,) = await wait(errands, call("send", text="a"))
    async with errands.store.hold("t/1"):
        with pytest.raises(SessionBusyError, match="in use by another run"):
            await nobody(errands).session("t/1").approve(request.call_id)


async def test_an_approver_that_is_asked_may_put_it_off(errands: Errands):
    asked: list[str] = []

    def approver(request: ApprovalRequest) -> ApprovalDecision:
        asked.append(str(request.arguments["text"]))
        return ApprovalDecision.LATER if request.arguments["text"] == "c" else ApprovalDecision.APPROVE

    step = f"{call('send', text='a')}; {call('send', text='c')}"
    agent, _ = scripted(
        step, "Done.", tools=errands.tools(), store=errands.store, under=STRICT, approver=approver
    )
    async with agent:
        session = agent.session("t/1")
        result = await session.run("Go")
        (request,) = result.approvals
        await session.approve(request.call_id)
        assert (await session.resume()).output == "Done."
    assert asked == ["a", "c"]
    assert errands.done == ["a", "c"]
