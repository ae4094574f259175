"""No way around: a canary at every edge of the loop, and what stays of a turn that a shield ended."""

from __future__ import annotations

from typing import Annotated

import pytest

from agentkit import (
    ApprovalRequest,
    BlockedError,
    Code,
    RunStatus,
    ShieldInput,
    Stage,
    TextDelta,
    tool,
)
from agentkit.memory import MemoryStore
from agentkit.messages import Role
from agentkit.testing import FailingShield, StaticShield
from tests.agent.support import STAGES, call, policy, policy_of, scripted

CANARY = "xyzzy"
RUNS: list[str] = []


@tool(effect="read")
def look_up(topic: str) -> str:
    """Look a topic up."""
    RUNS.append(topic)
    return f"All about {topic}."


@tool(effect="read")
def run_python(code: Annotated[str, Code("python")]) -> str:
    """Run Python code."""
    RUNS.append(code)
    return "done"


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    RUNS.clear()


def canary() -> StaticShield:
    return StaticShield(flagged=lambda content: CANARY in content.text, category="canary")


async def test_blocked_input_never_reaches_the_model_the_memory_or_the_store():
    agent, engine = scripted("Hello.", shield=canary(), under=policy(user_input="block"))
    store = MemoryStore()
    async with agent:
        session = agent.session("t/1", store=store)
        result = await session.run(f"Say {CANARY}")
        assert result.status is RunStatus.BLOCKED
        assert engine.prompts == []
        assert [message.role for message in session.messages] == [Role.SYSTEM]
        assert await store.load("t/1") is None
        assert (await session.run("Hi")).output == "Hello."


async def test_a_blocked_run_is_a_value_that_can_be_raised():
    agent, _ = scripted(shield=canary(), under=policy(user_input="block"))
    async with agent:
        result = await agent.run(CANARY)
    assert result.blocked_by is not None
    with pytest.raises(BlockedError, match="blocked at stage user_input by shield canary") as caught:
        result.raise_if_blocked()
    assert (caught.value.stage, caught.value.category) == ("user_input", "canary")
    assert CANARY not in str(caught.value)


async def test_a_blocked_call_never_runs():
    agent, _ = scripted(
        call("look_up", topic=CANARY), tools=[look_up], shield=canary(), under=policy(tool_call="block")
    )
    async with agent:
        session = agent.session()
        result = await session.run("Look it up")
    assert result.status is RunStatus.BLOCKED
    assert RUNS == []
    assert [message.role for message in session.messages] == [Role.SYSTEM]


async def test_blocked_code_never_runs():
    agent, _ = scripted(
        call("run_python", code=f"{CANARY}()"),
        tools=[run_python],
        shield=canary(),
        under=policy(code="block"),
    )
    async with agent:
        result = await agent.run("Run it")
    assert result.status is RunStatus.BLOCKED
    assert result.blocked_by is not None
    assert result.blocked_by.stage is Stage.CODE
    assert RUNS == []


async def test_a_withheld_call_is_answered_but_not_made():
    agent, engine = scripted(
        call("look_up", topic=CANARY),
        "Never mind.",
        tools=[look_up],
        shield=canary(),
        under=policy(tool_call="withhold"),
    )
    async with agent:
        result = await agent.run("Look it up")
    assert result.output == "Never mind."
    assert RUNS == []
    assert CANARY not in engine.prompts[1]


async def test_a_withheld_tool_result_never_reaches_the_model():
    agent, engine = scripted(
        call("look_up", topic="birds"),
        "I could not read it.",
        tools=[look_up],
        shield=StaticShield(flagged=lambda content: "All about" in content.text),
        under=policy(tool_result="withhold"),
    )
    async with agent:
        result = await agent.run("Look it up")
    assert result.output == "I could not read it."
    assert RUNS == ["birds"]
    assert "All about" not in engine.prompts[1]
    assert "withheld" in engine.prompts[1]


async def test_a_blocked_tool_result_ends_the_run_and_leaves_a_note_that_the_call_was_made():
    agent, engine = scripted(
        call("look_up", topic="birds"),
        tools=[look_up],
        shield=StaticShield(flagged=lambda content: "All about" in content.text),
        under=policy(tool_result="block"),
    )
    async with agent:
        session = agent.session()
        result = await session.run("Look it up")
    assert result.status is RunStatus.BLOCKED
    assert len(engine.prompts) == 1
    assert [message.role for message in session.messages][-2:] == [Role.ASSISTANT, Role.TOOL]
    assert "All about" not in session.messages[-1].content


@pytest.mark.parametrize("segment_tokens", [1, 3, 48])
async def test_a_blocked_answer_shows_nothing_from_the_hit_on(segment_tokens: int):
    agent, _ = scripted(
        f"This is fine, and so is this. {CANARY} is not. Neither is this.",
        shield=canary(),
        under=policy(model_output="block", segment_tokens=segment_tokens),
    )
    async with agent:
        session = agent.session()
        async with session.stream("Talk") as run:
            shown = "".join([event.text async for event in run if isinstance(event, TextDelta)])
    assert run.result.status is RunStatus.BLOCKED
    assert CANARY not in shown
    assert "This is fine, and so is this. ".startswith(shown)
    assert [message.role for message in session.messages] == [Role.SYSTEM]


async def test_a_blocked_description_stops_the_agent_from_starting():
    @tool(effect="read")
    def innocent(topic: str) -> str:
        """Do xyzzy."""
        return topic

    agent, _ = scripted(tools=[innocent], shield=canary(), under=policy(tool_description="block"))
    with pytest.raises(BlockedError, match="description of tool innocent was blocked"):
        await agent.start()


async def test_stored_history_is_judged_again():
    store = MemoryStore()
    agent, _ = scripted(f"The word is {CANARY}.")
    async with agent:
        await agent.session("t/1", store=store).run("Tell me the word")
    stricter, engine = scripted("Hello again.", shield=canary(), under=policy(memory="withhold"))
    async with stricter:
        session = stricter.session("t/1", store=store)
        await session.run("Hi")
    assert CANARY not in engine.prompts[0]
    assert "withheld" in engine.prompts[0]
    blocking, _ = scripted(shield=canary(), under=policy(memory="block"))
    async with blocking:
        await blocking.session("t/1", store=store).load()  # the word is gone from the store as well


async def test_stored_history_that_is_blocked_does_not_load():
    store = MemoryStore()
    agent, _ = scripted(f"The word is {CANARY}.")
    async with agent:
        await agent.session("t/1", store=store).run("Tell me the word")
    blocking, _ = scripted(shield=canary(), under=policy(memory="block"))
    async with blocking:
        with pytest.raises(BlockedError, match="a message of role assistant"):
            await blocking.session("t/1", store=store).load()


@pytest.mark.parametrize("stage", ["user_input", "tool_call", "code", "tool_result", "model_output"])
@pytest.mark.parametrize(
    "shield", [FailingShield(), FailingShield(error=ValueError("odd")), FailingShield(seconds=60)]
)
async def test_a_broken_shield_blocks_and_the_session_goes_on(stage: str, shield: FailingShield):
    broken = BreaksOnce(shield)
    agent, _ = scripted(
        call("run_python", code="1"),
        "Done.",
        "Done.",
        "Done.",
        tools=[run_python],
        shield=broken,
        under=policy_of({stage: "annotate"}),
    )
    async with agent:
        session = agent.session()
        assert (await session.run("Go")).status is RunStatus.BLOCKED
        broken.shield = StaticShield()
        assert (await session.run("Go")).status is RunStatus.COMPLETED


class BreaksOnce:
    """A shield whose mind can be changed."""

    def __init__(self, shield: FailingShield | StaticShield) -> None:
        self.shield = shield

    async def start(self) -> None: ...

    async def check(self, content: ShieldInput):
        return await self.shield.check(content)

    async def close(self) -> None: ...


async def test_every_stage_of_a_turn_is_judged():
    shield = StaticShield()
    agent, _ = scripted(
        call("run_python", code="1 + 1"),
        "Done.",
        tools=[run_python],
        shield=shield,
        under=policy_of(dict.fromkeys(STAGES, "block")),
    )
    store = MemoryStore()
    async with agent:
        await agent.session("t/1", store=store).run("Go")
        await agent.session("t/1", store=store).load()
    assert {content.stage for content in shield.seen} == set(Stage)


@tool(effect="write")
def send(text: str) -> str:
    """Send a text."""
    RUNS.append(text)
    return "sent"


ALWAYS = [{"match": "send", "approval": "always"}]


async def test_without_an_approver_a_call_that_needs_one_is_refused():
    agent, _ = scripted(call("send", text="hi"), "It was not sent.", tools=[send], under=policy(tools=ALWAYS))
    async with agent:
        result = await agent.run("Send it")
    assert RUNS == []
    assert result.output == "It was not sent."
    assert "not approved" in result.messages[2].content


@pytest.mark.parametrize(("answer", "runs"), [(True, ["hi"]), (False, [])])
async def test_an_approver_decides(answer: bool, runs: list[str]):
    asked: list[ApprovalRequest] = []

    async def approver(request: ApprovalRequest) -> bool:
        asked.append(request)
        return answer

    agent, _ = scripted(
        call("send", text="hi"), "Done.", tools=[send], under=policy(tools=ALWAYS), approver=approver
    )
    async with agent:
        await agent.run("Send it")
    assert runs == RUNS
    assert [request.tool_name for request in asked] == ["send"]


async def test_a_tainted_context_asks_before_it_writes():
    rule = [{"match": "*", "when": "tainted", "effects": ["write", "external"], "approval": "always"}]
    agent, _ = scripted(
        call("send", text="first"),
        call("send", text="second"),
        "Done.",
        tools=[look_up, send],
        under=policy(tools=rule),
    )
    async with agent:
        await agent.run("Send twice")
    assert RUNS == ["first"]  # the first result is untrusted content
