"""An interrupted turn goes on where its journal ends: what was done stays done, what is not known is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agentkit import (
    Agent,
    ApprovalRequest,
    BlockedError,
    ConfigurationError,
    Limits,
    RunStatus,
    SamplingParams,
    SessionBusyError,
    StoreError,
    ToolCallFinished,
    UnfinishedTurnError,
)
from agentkit.agent.approvals import MAYBE_MADE
from agentkit.memory import verify_chain
from agentkit.messages import Role
from agentkit.testing import ScriptedEngine, StaticShield
from tests.agent.interrupting import Errands
from tests.agent.support import call, policy, scripted

MAYBE = "It may have taken effect; its result is not known."
NOT_MADE = "The turn ended before this call was made."


@pytest.fixture
async def errands(tmp_path: Path):
    errands = Errands(tmp_path)
    yield errands
    await errands.left.close()


async def test_a_finished_call_is_not_made_again_and_an_interrupted_one_is_told(errands: Errands):
    await errands.interrupt(
        call("send", text="a"), f"{call('send', text='b')}; {call('send', text='c')}", "Done."
    )
    agent, engine = scripted("Two, and perhaps a third.", tools=errands.tools(), store=errands.left)
    async with agent:
        session = await agent.session("t/1").load()
        async with session.stream_resume() as run:
            told = [event async for event in run if isinstance(event, ToolCallFinished)]
    assert errands.done == ["c"]
    assert [(event.status, MAYBE in event.content) for event in told] == [("unknown", True), ("ok", False)]
    assert run.result.status is RunStatus.COMPLETED
    assert [message.role for message in run.result.messages] == [
        Role.USER,
        Role.ASSISTANT,
        Role.TOOL,
        Role.ASSISTANT,
        Role.TOOL,
        Role.TOOL,
        Role.ASSISTANT,
    ]
    assert engine.prompts[0].count("done with a") == 1
    assert MAYBE in engine.prompts[0]


@pytest.mark.parametrize("name", ["look", "book"])
async def test_a_call_that_may_be_repeated_is_made_again_with_its_key(errands: Errands, name: str):
    await errands.interrupt(call(name, text="b"), "Done.")
    agent, _ = scripted("Done.", tools=errands.tools(), store=errands.left)
    async with agent:
        result = await (await agent.session("t/1").load()).resume()
    assert errands.done == ["b"]
    assert len(errands.keys) == 2
    assert len(set(errands.keys)) == 1
    assert "done with b" in result.messages[2].content


@pytest.mark.parametrize("approved", [True, False])
async def test_a_person_decides_whether_a_call_that_may_have_been_made_is_made_again(
    errands: Errands, approved: bool
):
    asked: list[ApprovalRequest] = []

    def decide(request: ApprovalRequest) -> bool:
        asked.append(request)
        return approved

    await errands.interrupt(call("send", text="b"), "Done.")
    agent, _ = scripted("Done.", tools=errands.tools(), store=errands.left, approver=decide)
    async with agent:
        result = await (await agent.session("t/1").load()).resume()
    assert [(request.reason, request.arguments) for request in asked] == [(MAYBE_MADE, {"text": "b"})]
    assert errands.done == (["b"] if approved else [])
    assert (MAYBE in result.messages[2].content) is not approved


async def test_what_shields_decided_before_the_crash_is_in_the_result_and_on_the_audit_log(errands: Errands):
    await errands.interrupt(call("send", text="a"), call("send", text="b"), "Done.")
    agent, _ = scripted("Done.", tools=errands.tools(), store=errands.left)
    async with agent:
        session = await agent.session("t/1").load()
        result = await session.resume()
    log = await errands.left.audit("t")
    verify_chain(log, tenant="t")
    (record,) = log
    assert record.details["status"] == "completed"
    decisions = {decision["id"] for decision in record.details["decisions"]}
    assert decisions == {decision.id for decision in result.decisions if decision.id}
    told = [(message["id"], message["decisions"]) for message in record.details["messages"]]
    stored = await errands.left.load("t/1")
    assert stored is not None
    assert told == [(entry.message_id, list(entry.decision_ids)) for entry in stored.entries[1:]]
    assert {decision_id for _, ids in told for decision_id in ids} <= decisions


async def test_every_step_draws_from_the_seed_that_it_had_before_the_crash(errands: Errands):
    class Recording(ScriptedEngine):
        async def generate(self, prompt_ids: Any, params: SamplingParams, **options: Any) -> Any:
            seeds.append(params.seed)
            async for token in super().generate(prompt_ids, params, **options):
                yield token

    seeds: list[int | None] = []
    replies = [call("send", text="a"), call("book", text="b"), "Done."]
    async with Agent(
        Recording(replies), tools=errands.tools(), policy=policy(), store=errands.store
    ) as agent:
        await agent.session("t/1").run("Go")
    async with Agent(
        Recording(["Done."]), tools=errands.tools(), policy=policy(), store=errands.left
    ) as agent:
        await (await agent.session("t/1").load()).resume()
    assert seeds[3] == seeds[2]
    assert len(set(seeds)) == 3


class Answer(BaseModel):
    text: str


class Other(BaseModel):
    number: int


async def test_a_turn_keeps_the_answer_s_type_and_may_get_other_limits(errands: Errands):
    await errands.interrupt(call("send", text="b"), '{"text": "x"}', options={"output_type": Answer})
    agent, engine = scripted('{"text": "sent"}', tools=errands.tools(), store=errands.left)
    async with agent:
        session = await agent.session("t/1").load()
        with pytest.raises(ConfigurationError, match="begun with another output_type than Other"):
            await session.resume(output_type=Other)
        result = await session.resume(output_type=Answer)
    assert result.output == Answer(text="sent")
    assert len(engine.prompts) == 1


async def test_the_steps_and_calls_from_before_the_crash_count(errands: Errands):
    await errands.interrupt(call("send", text="a"), call("send", text="b"), "Done.")
    agent, _ = scripted(call("send", text="c"), tools=errands.tools(), store=errands.left)
    async with agent:
        result = await (await agent.session("t/1").load()).resume(limits=Limits(steps=2))
    assert (result.status, result.limit) == (RunStatus.LIMIT_REACHED, "steps")
    assert errands.done == []
    assert MAYBE in result.messages[-1].content


async def test_a_block_in_the_middle_of_a_step_ends_the_turn_there_after_a_crash_too(errands: Errands):
    """The crash is between the blocked result of the first call and the answers to the others."""
    shield = StaticShield(flagged=lambda content: "done with a" in content.text)
    options: dict[str, Any] = {"shield": shield, "under": policy(tool_result="block")}
    await errands.interrupt(
        f"{call('send', text='a')}; {call('send', text='b')}", write=4, tools=errands.tools(), **options
    )
    agent, engine = scripted("Never said.", tools=errands.tools(), store=errands.left, **options)
    async with agent:
        session = await agent.session("t/1").load()
        assert session.unfinished
        result = await session.resume()
        assert session.messages[1:] == result.messages
    assert (result.status, errands.done, engine.prompts) == (RunStatus.BLOCKED, [], [])
    with pytest.raises(BlockedError, match="blocked at stage tool_result by shield canary"):
        result.raise_if_blocked()
    answers = [message.content for message in result.messages if message.role is Role.TOOL]
    assert len(answers) == 2
    assert answers[1] == NOT_MADE


async def test_without_an_unfinished_turn_there_is_nothing_to_resume_or_abandon():
    agent, _ = scripted("Hello.")
    async with agent:
        session = agent.session("t/1")
        await session.run("Hi")
        for work in (session.resume, session.abandon):
            with pytest.raises(StoreError, match="'t/1' has no unfinished turn"):
                await work()
        assert await session.approvals() == ()


async def test_an_unfinished_turn_is_named_and_can_be_abandoned(errands: Errands):
    await errands.interrupt(
        call("send", text="a"), f"{call('send', text='b')}; {call('send', text='c')}", "Done."
    )
    agent, engine = scripted("Fine.", tools=errands.tools(), store=errands.left)
    async with agent:
        session = agent.session("t/1")
        with pytest.raises(UnfinishedTurnError, match=r"'t/1' was interrupted in step 2; resume\(\) goes on"):
            await session.run("More")
        await session.abandon()
        answers = [message.content for message in session.messages if message.role is Role.TOOL]
        assert answers[0] == "done with a"
        assert "It may have taken effect" in answers[1]
        assert answers[2] == NOT_MADE
        assert (await session.run("More")).output == "Fine."
    assert errands.done == []
    assert engine.prompts[0].count("done with a") == 1
    ended, _ = await errands.left.audit("t")
    assert ended.details["status"] == "abandoned"
    assert len(ended.details["messages"]) == 6


async def test_a_turn_that_is_resumed_elsewhere_is_busy(errands: Errands):
    await errands.interrupt(call("send", text="b"), "Done.")
    slow = Agent(
        ScriptedEngine(["Slow and long."], seconds_per_token=0.02),
        policy=policy(),
        tools=errands.tools(),
        store=errands.left,
    )
    other, _ = scripted("Other.", tools=errands.tools(), store=errands.left)
    async with slow, other:
        session = await slow.session("t/1").load()
        async with session.stream_resume() as run:
            await run.__anext__()
            for work in (other.session("t/1").resume, other.session("t/1").abandon):
                with pytest.raises(SessionBusyError, match="in use by another run"):
                    await work()
            async for _event in run:
                pass
        assert run.result.output == "Slow and long."


async def test_an_engine_that_breaks_ends_the_turn_with_what_it_did(errands: Errands):
    class Broken(ScriptedEngine):
        async def generate(self, *args: Any, **options: Any) -> Any:
            if len(self.prompts) == 1:
                raise RuntimeError("broken")
            async for token in super().generate(*args, **options):
                yield token

    engine = Broken([call("send", text="a")])
    async with Agent(engine, tools=errands.tools(), policy=policy(), store=errands.store) as agent:
        session = agent.session("t/1")
        with pytest.raises(RuntimeError, match="broken"):
            await session.run("Go")
        kept = [message.content for message in session.messages if message.role is Role.TOOL]
        assert not (await session.load()).unfinished
    assert kept == ["done with a"]
    (ended,) = await errands.store.audit("t")
    assert ended.details["status"] == "failed"
    await errands.store.close()
