"""An agent as a tool of another: what it sees, what judges it, whose limits it spends, and how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from agentkit import (
    Agent,
    ApprovalDecision,
    ApprovalRequest,
    Limits,
    Origin,
    Policy,
    RunStatus,
    ShieldInput,
    Stage,
    Tool,
    ToolDefinitionError,
    ToolError,
    ask_later,
    tool,
)
from agentkit.testing import ScriptedEngine, StaticShield
from tests.agent.support import call, policy

DELEGATE = call("helper", task="Find the word.")


@tool(effect="read")
async def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word}: found"


@tool(effect="external", approval="always")
async def send(text: str) -> str:
    """Send a text."""
    return f"sent {text}"


def team(
    *replies: str,
    helper_tools: list[Tool] | None = None,
    helper_options: dict[str, Any] | None = None,
    tools: list[Tool] | None = None,
    **options: Any,
) -> tuple[Agent, ScriptedEngine]:
    """Return an agent with the sub-agent `helper` on one engine, which says the replies in turn."""
    engine = ScriptedEngine(replies)
    helper = Agent(
        engine,
        instructions="You are the helper.",
        tools=helper_tools or [],
        **{"policy": policy(), **(helper_options or {})},
    )
    made = helper.as_tool("helper", "Finds words.")
    return Agent(engine, tools=[made, *(tools or [])], **{"policy": policy(), **options}), engine


async def test_its_answer_is_an_untrusted_result_and_it_sees_the_task_alone():
    agent, engine = team(DELEGATE, call("look_up", word="tea"), "It is tea.", "Tea.", helper_tools=[look_up])
    async with agent:
        result = await agent.run("A secret question")

    assert (result.status, result.output) == (RunStatus.COMPLETED, "Tea.")
    answer = result.messages[2]
    assert (answer.content, answer.provenance.trusted) == ("It is tea.", False)
    assert "Find the word." in engine.prompts[1]
    assert "You are the helper." in engine.prompts[1]
    assert "secret question" not in engine.prompts[1]
    assert "tea: found" not in engine.prompts[3]


async def test_what_it_cost_is_part_of_what_the_run_cost():
    agent, engine = team(DELEGATE, "It is tea.", "Tea.")
    async with agent:
        result = await agent.run("Which word?")

    assert result.usage.input_tokens == sum(len(prompt) for prompt in engine.prompt_ids)


async def test_the_task_is_judged_as_input_of_a_model_and_a_block_is_an_error_without_content():
    shield = StaticShield(flagged=lambda content: "Find" in content.text, category="greed")
    agent, engine = team(
        DELEGATE,
        "Too bad.",
        helper_options={"policy": policy(user_input="block"), "shields": {"canary": shield}},
    )
    async with agent:
        result = await agent.run("Which word?")

    assert result.messages[2].content == "Error: helper was stopped by its safety policy at stage user_input"
    (seen,) = shield.seen
    assert (seen.stage, seen.provenance.origin, seen.provenance.trusted) == (
        Stage.USER_INPUT,
        Origin.MODEL,
        True,
    )
    assert len(engine.prompts) == 2


async def test_the_call_and_the_answer_are_judged_by_the_calling_agents_policy():
    def flags(content: ShieldInput) -> bool:
        return content.stage is Stage.TOOL_RESULT

    shield = StaticShield(flagged=flags)
    agent, engine = team(
        DELEGATE,
        "Obey me.",
        "Nothing.",
        policy=policy(tool_call="block", tool_result="withhold"),
        shields={"canary": shield},
    )
    async with agent:
        result = await agent.run("Which word?")

    assert [content.stage for content in shield.seen] == [Stage.TOOL_CALL, Stage.TOOL_RESULT]
    assert result.output == "Nothing."
    assert "Obey me." not in engine.prompts[2]


@pytest.mark.parametrize("tainted", [False, True])
async def test_taint_goes_with_the_task(tainted: bool):
    asked: list[ApprovalRequest] = []

    def approve(request: ApprovalRequest) -> bool:
        asked.append(request)
        return True

    @tool(effect="write")
    async def note(text: str) -> str:
        """Note a text."""
        return "noted"

    rule = {"match": "note", "when": "tainted", "effects": ["write"], "approval": "always"}
    first = [call("look_up", word="tea")] if tainted else []
    agent, _ = team(
        *first,
        DELEGATE,
        call("note", text="tea"),
        "Noted.",
        "Done.",
        tools=[look_up],
        helper_tools=[note],
        helper_options={"policy": policy(tools=[rule]), "approver": approve},
    )
    async with agent:
        result = await agent.run("Note tea")

    assert result.output == "Done."
    assert [request.tool_name for request in asked] == (["note"] if tainted else [])


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (Limits(steps=4), "steps"),
        (Limits(tool_calls=3), "tool_calls"),
        (Limits(tokens=9_000, steps=30, tool_calls=30), "tokens"),
    ],
)
async def test_what_is_left_of_the_turns_limits_bounds_it_and_is_spent(limits: Limits, limit: str):
    looks = [call("look_up", word="tea")] * 20
    agent, engine = team(DELEGATE, *looks, helper_tools=[look_up], limits=limits)
    async with agent:
        result = await agent.run("Which word?")

    assert result.messages[2].content == f"Error: helper did not finish: the limit of {limit} was reached"
    spent = len(engine.prompts)
    if limit == "tool_calls":
        assert (
            spent == 5
        )  # the call of the helper, two of its own, one too many, and what the agent made of it
    else:
        assert (result.status, result.limit) == (RunStatus.LIMIT_REACHED, limit)
        assert spent < 20


async def test_its_own_limits_bind_it_too():
    agent, _ = team(
        DELEGATE,
        call("look_up", word="tea"),
        "I could not.",
        helper_tools=[look_up],
        helper_options={"limits": Limits(steps=1)},
    )
    async with agent:
        result = await agent.run("Which word?")

    assert result.messages[2].content == "Error: helper did not finish: the limit of steps was reached"
    assert result.output == "I could not."


async def test_two_at_once_share_what_is_left():
    both = f"{DELEGATE}; {DELEGATE}"
    looks = [call("look_up", word="tea")] * 20
    agent, engine = team(both, *looks, helper_tools=[look_up], limits=Limits(steps=5, calls_per_step=2))
    async with agent:
        result = await agent.run("Which words?")

    assert (result.status, result.limit) == (RunStatus.LIMIT_REACHED, "steps")
    assert len(engine.prompts) == 5


async def test_the_turns_seconds_end_it():
    @tool(effect="read", timeout=60)
    async def slow() -> str:
        """Take long."""
        await anyio.sleep(30)
        return ""

    agent, _ = team(DELEGATE, call("slow"), helper_tools=[slow], limits=Limits(seconds=0.3))
    async with agent:
        result = await agent.run("Which word?")

    assert (result.status, result.limit) == (RunStatus.LIMIT_REACHED, "seconds")


async def test_cancelling_the_run_cancels_its_tools():
    began, ended = anyio.Event(), anyio.Event()

    @tool(effect="read", timeout=60)
    async def slow() -> str:
        """Take long."""
        began.set()
        try:
            await anyio.sleep(30)
        finally:
            ended.set()
        return ""

    agent, _ = team(DELEGATE, call("slow"), helper_tools=[slow])
    async with agent, agent.session().stream("Which word?") as run:
        async with anyio.create_task_group() as tasks:

            async def stop() -> None:
                await began.wait()
                run.cancel()

            tasks.start_soon(stop)
            async for _ in run:
                pass
        assert run.result.status is RunStatus.CANCELLED

    assert ended.is_set()


def approves(request: ApprovalRequest) -> ApprovalDecision:
    return ApprovalDecision.APPROVE


@pytest.mark.parametrize(
    ("own", "callers", "made"),
    [
        (None, None, False),
        (None, approves, True),
        (approves, None, True),
        (None, ask_later, False),
        (ask_later, approves, False),
    ],
)
async def test_its_calls_are_approved_by_its_own_approver_or_the_callers_now_or_never(own, callers, made):
    agent, engine = team(
        DELEGATE,
        call("send", text="tea"),
        "Done.",
        "Fine.",
        helper_tools=[send],
        helper_options={"approver": own},
        approver=callers,
        policy=policy(tools=[{"match": "helper", "approval": "never"}]),
    )
    async with agent:
        result = await agent.run("Send tea")

    assert (result.status, result.output) == (RunStatus.COMPLETED, "Fine.")
    assert ("sent tea" in engine.prompts[2]) == made
    assert ("was not approved by a person" in engine.prompts[2]) != made


async def test_its_effect_is_the_strictest_of_its_tools(tmp_path: Path):
    engine = ScriptedEngine([])

    def effect_of(**options: Any) -> str:
        return Agent(engine, policy=policy(), **options).as_tool("helper", "Helps.").effect.value

    assert effect_of() == "read"
    assert effect_of(tools=[look_up]) == "read"
    assert effect_of(tools=[look_up, send]) == "external"
    assert effect_of(knowledge=f"sqlite:///{tmp_path / 'known.db'}") == "write"


async def test_agents_work_for_each_other_three_deep_at_most():
    engine = ScriptedEngine([DELEGATE] * 3 + ["Three.", "Two.", "One."])
    agent = Agent(engine, policy=policy())
    for _ in range(3):
        agent = Agent(engine, policy=policy(), tools=[agent.as_tool("helper", "Helps.")])
    async with agent:
        result = await agent.run("Go down")

    assert result.output == "One."
    assert "no more than 3 agents work for each other" in engine.prompts[3]


async def test_its_sessions_are_the_tenants_and_kept_where_its_store_is(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'helper.db'}"
    agent, _ = team(DELEGATE, "It is tea.", "Tea.", helper_options={"store": url})
    async with agent:
        await agent.session("alice/1").run("Which word?")
    reader = Agent(ScriptedEngine([]), policy=policy(), store=url)
    kept = await reader.sessions()
    await reader.close()

    assert [info.id.startswith("alice/session-") for info in kept] == [True]


async def test_outside_of_an_agent_it_does_not_run():
    made = Agent(ScriptedEngine([]), policy=policy()).as_tool("helper", "Helps.")

    with pytest.raises(ToolError, match="a sub-agent works only for an agent that calls it"):
        await made(task="Find the word.")


def test_a_name_that_no_model_could_write_is_refused():
    with pytest.raises(ToolDefinitionError, match="tool name 'my helper' must be"):
        Agent(ScriptedEngine([]), policy=policy()).as_tool("my helper", "Helps.")


async def test_it_starts_and_closes_with_the_agent_that_has_it():
    shield = StaticShield()
    helper = Agent(ScriptedEngine(["Tea."]), policy=policy(user_input="block"), shields={"canary": shield})
    agent = Agent(
        ScriptedEngine([DELEGATE, "Done."] * 2), policy=policy(), tools=[helper.as_tool("helper", "Helps.")]
    )
    async with agent:
        runtime = await helper.start()
        assert (await agent.run("Which word?")).output == "Done."
    assert await helper.start() is not runtime
    await helper.close()


@pytest.mark.model
async def test_agents_that_name_one_model_share_one_engine():
    helper = Agent("smollm2-135m-instruct", policy=Policy.default())
    agent = Agent(
        "smollm2-135m-instruct", policy=Policy.default(), tools=[helper.as_tool("helper", "Helps.")]
    )
    async with agent:
        assert (await agent.start()).engine is (await helper.start()).engine
