"""The edges: every way in which content comes to the model, a tool, the store or the user, as a story with a canary.

A story spells the canary with a line through it, as in `xy_zzy`, where its own edge is what makes it whole.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from agentkit import (
    Agent,
    AgentKitError,
    BlockedError,
    Document,
    Origin,
    Provenance,
    Stage,
    Tool,
    Window,
    ask_later,
    mcp_tools,
)
from tests.agent.edges import CANARY, World
from tests.agent.support import call
from tests.tools.mcp.support import old

SPLIT = "xy_zzy"
ESCAPED = '{"name": "xy\\u007azy", "parameters": {}}'
"""A call of no tool: the canary is in what it means, not in what the model wrote."""
Story: TypeAlias = Callable[[World], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One way in. `judged_in` is the function that asks the shields, as `module.function`.

    `reaches` is where the canary gets while nothing is blocked; `before` is where it was already, ahead of the edge:
    there a block need not and cannot remove it.
    """

    story: Story
    stage: Stage
    judged_in: str
    reaches: frozenset[str]
    before: frozenset[str] = frozenset()


EDGES: dict[str, Edge] = {}


def edge(stage: Stage, judged_in: str, *, reaches: str, before: str = "") -> Callable[[Story], Story]:
    """Enter a story among the edges, under its name."""

    def enter(story: Story) -> Story:
        EDGES[story.__name__.replace("_", " ")] = Edge(
            story=story,
            stage=stage,
            judged_in=judged_in,
            reaches=frozenset(reaches.split()),
            before=frozenset(before.split()),
        )
        return story

    return enter


@edge(Stage.USER_INPUT, "loop.run", reaches="engine kv store events")
async def what_the_user_says(world: World) -> None:
    async with world.agent("Fine.") as agent:
        await world.run(agent, f"Say {CANARY}")


@edge(Stage.TOOL_DESCRIPTION, "runtime._cleared_words", reaches="engine kv")
async def a_tools_description(world: World) -> None:
    await _describing(world, Tool(name="odd", description=f"Do {CANARY}.", parameters=_NOTHING, function=str))


@edge(Stage.TOOL_DESCRIPTION, "runtime._cleared_words", reaches="engine kv")
async def a_word_in_a_tools_schema(world: World) -> None:
    schema = {"type": "object", "properties": {"topic": {"type": "string", "description": f"A {CANARY}."}}}
    await _describing(world, Tool(name="odd", description="Do it.", parameters=schema, function=str))


@edge(Stage.TOOL_CALL, "clearing._clear_call", reaches="engine kv tool store events")
async def an_argument_of_a_call(world: World) -> None:
    async with world.agent(call("fail", topic=CANARY), "Fine.") as agent:
        await world.run(agent, "Go")


@edge(Stage.CODE, "clearing._clear_call", reaches="engine kv tool store events")
async def code_in_a_call(world: World) -> None:
    async with world.agent(call("run_python", code=f"{CANARY} = 1"), "Fine.") as agent:
        await world.run(agent, "Go")


@edge(Stage.TOOL_RESULT, "calls._judged", reaches="engine kv store events")
async def what_a_tool_returns(world: World) -> None:
    async with world.agent(call("look_up", topic=SPLIT), "Fine.") as agent:
        await world.run(agent, "Go")


@edge(Stage.TOOL_RESULT, "calls._judged", reaches="engine kv store events")
async def what_an_mcp_server_returns(world: World) -> None:
    async with (
        mcp_tools(old("backwards")) as tools,
        world.agent(call("old__repeat_text", text=CANARY[::-1]), "Fine.", tools=tools) as agent,
    ):
        await world.run(agent, "Go")


@edge(Stage.TOOL_RESULT, "calls._judged", reaches="engine kv store events")
async def what_an_error_of_a_tool_says(world: World) -> None:
    async with world.agent(call("fail", topic=SPLIT), "Fine.") as agent:
        await world.run(agent, "Go")


@edge(Stage.TOOL_CALL, "clearing.clear", reaches="engine kv store events")
async def an_attempt_at_a_call_that_is_tried_again(world: World) -> None:
    async with world.agent(f'{{"name": "look_up", "parameters": {{"topic": "{CANARY}', "Fine.") as agent:
        await world.run(agent, "Go")


@edge(Stage.MODEL_OUTPUT, "clearing.clear", reaches="engine kv store events")
async def an_attempt_at_a_call_read_as_an_answer(world: World) -> None:
    async with world.agent(f'{{"name": "look_up", "parameters": {{"topic": "{CANARY}', "Fine.") as agent:
        await world.run(agent, "Go")


@edge(Stage.TOOL_RESULT, "clearing.clear", reaches="engine kv store events")
async def what_the_model_is_told_about_its_attempt(world: World) -> None:
    async with world.agent(ESCAPED, "Fine.") as agent:
        await world.run(agent, "Go")


@edge(Stage.MODEL_OUTPUT, "generation._judge_output", reaches="kv store events")
async def an_answer(world: World) -> None:
    async with world.agent(f"The word is {CANARY}.") as agent:
        await world.run(agent, "Go")


@edge(Stage.MODEL_OUTPUT, "generation._judge_output", reaches="kv store events")
async def a_segment_in_the_middle_of_an_answer(world: World) -> None:
    async with world.agent(
        f"All of this is fine, and more of it too. {CANARY} is not, but {'on ' * 20}"
    ) as agent:
        await world.run(agent, "Go")


@edge(Stage.MEMORY, "readmission.clear", reaches="engine kv store", before="store")
async def a_session_that_goes_on(world: World) -> None:
    await _talk_before(world)
    async with world.agent("Again.") as agent:
        await world.run(agent, "Go on")


@edge(Stage.MEMORY, "readmission.clear", reaches="engine kv tool store events", before="store")
async def a_turn_that_was_left_open(world: World) -> None:
    await _leave_open(world, call("send", text=CANARY), **world.unguarded)
    _forget_the_past(world)
    await _resume(world)


@edge(
    Stage.TOOL_CALL,
    "clearing._clear_call",
    reaches="engine kv tool store events",
    before="engine kv store events",
)
async def a_call_of_a_turn_that_was_left_open(world: World) -> None:
    await _leave_open(world, call("send", text=CANARY), **world.unguarded)
    await _resume(world)


@edge(Stage.TOOL_RESULT, "clearing._correction", reaches="engine kv store events")
async def a_correction_of_a_turn_that_was_left_open(world: World) -> None:
    await _leave_open(world, call("send", text="it"), ESCAPED, **world.unguarded)
    _forget_the_past(world)
    await _resume(world)


@edge(Stage.MEMORY, "readmission.clear", reaches="store", before="")
async def a_session_from_a_file(world: World) -> None:
    async with Agent(
        world.helper_engine, store=f"sqlite:///{world.folder}/elsewhere.db", **world.unguarded
    ) as other:
        world.helper_engine.replies = [f"The word is {CANARY}."]
        await other.session("t/1").run("Go")
        exported = await other.session("t/1").export()
    world.helper_engine.sequences.clear()
    async with world.agent() as agent:
        try:
            await agent.import_session(exported)
        except BlockedError as error:
            world.fails(error)


@edge(Stage.MEMORY, "knowledge._judge_notes", reaches="engine kv store events", before="knowledge")
async def a_note_that_is_searched_for(world: World) -> None:
    await _know(world)
    knowledge = f"sqlite:///{world.folder}/knowledge.db"
    async with world.agent(call("search_knowledge", query="word"), "Fine.", knowledge=knowledge) as agent:
        await world.run(agent, "Go")


@edge(Stage.MEMORY, "knowledge._judge_notes", reaches="engine kv store events", before="knowledge")
async def a_note_behind_what_the_user_says(world: World) -> None:
    await _know(world)
    knowledge = f"sqlite:///{world.folder}/knowledge.db"
    async with world.agent("Fine.", knowledge=knowledge, knowledge_passages=1) as agent:
        await world.run(agent, "Which word?")


@edge(
    Stage.MEMORY,
    "knowledge._cleared_document",
    reaches="knowledge engine kv store events",
    before="engine kv store events",
)
async def a_note_that_the_model_keeps(world: World) -> None:
    knowledge = f"sqlite:///{world.folder}/knowledge.db"
    async with world.agent(call("remember", text=f"It is {CANARY}."), "Fine.", knowledge=knowledge) as agent:
        await world.run(agent, "Go")


@edge(Stage.MEMORY, "knowledge._cleared_document", reaches="knowledge")
async def a_document_of_the_application(world: World) -> None:
    async with world.agent(knowledge=f"sqlite:///{world.folder}/knowledge.db") as agent:
        try:
            await agent.add_document(_document(), tenant="t")
        except BlockedError as error:
            world.fails(error)


@edge(Stage.USER_INPUT, "loop.run", reaches="helper kv engine store events", before="engine kv store events")
async def a_task_for_a_sub_agent(world: World) -> None:
    world.helper_engine.replies = ["Done."]
    helper = Agent(world.helper_engine, **world.guarding).as_tool("helper", "Helps.")
    async with world.agent(call("helper", task=f"Find {CANARY}"), "Fine.", tools=[helper]) as agent:
        await world.run(agent, "Go")


@edge(Stage.TOOL_RESULT, "calls._judged", reaches="engine kv store events", before="kv")
async def what_a_sub_agent_answers(world: World) -> None:
    world.helper_engine.replies = [f"It is {CANARY}."]
    helper = Agent(world.helper_engine, **world.unguarded).as_tool("helper", "Helps.")
    async with world.agent(call("helper", task="Find it"), "Fine.", tools=[helper]) as agent:
        await world.run(agent, "Go")


@edge(Stage.MODEL_OUTPUT, "generation._judge_output", reaches="engine kv store events")
async def what_a_sub_agent_says_under_its_own_policy(world: World) -> None:
    world.helper_engine.replies = [f"It is {CANARY}."]
    helper = Agent(world.helper_engine, **world.guarding).as_tool("helper", "Helps.")
    async with world.agent(
        call("helper", task="Find it"), "Fine.", tools=[helper], **world.unguarded
    ) as agent:
        await world.run(agent, "Go")


@edge(Stage.MEMORY, "summary.write", reaches="engine kv store")
async def a_summary_of_what_left_the_context(world: World) -> None:
    window = Window(strategy="summarise", keep_turns=1, summary_tokens=300)
    replies = ["Fine.", "Fine.", f"It was {CANARY}.", "Fine."]
    async with world.agent(*replies, tools=[], window=window) as agent:
        for _ in range(3):
            await world.run(agent, "It is cold. " * 250)


_NOTHING = {"type": "object", "properties": {}}


async def _describing(world: World, odd: Tool) -> None:
    try:
        async with world.agent("Fine.", tools=[odd]) as agent:
            await world.run(agent, "Go")
    except BlockedError as error:
        world.fails(error)


async def _talk_before(world: World) -> None:
    """Leave a session in the store that holds the canary, and forget how it came there."""
    async with world.agent(f"The word is {CANARY}.", **world.unguarded) as agent:
        await world.run(agent, "Go")
    _forget_the_past(world)


def _forget_the_past(world: World) -> None:
    world.engine.sequences.clear()
    world.engine.prompts.clear()
    world.told.clear()


async def _leave_open(world: World, *calls: str, **options: Any) -> None:
    """Leave a turn open in the store, whose calls wait for a person; the person then approves the first."""
    async with world.agent("; ".join(calls), approver=ask_later, **options) as agent:
        await world.run(agent, "Go")
        session = agent.session("t/1")
        (asked, *_) = await session.approvals()
        await session.approve(asked.call_id)


async def _resume(world: World) -> None:
    """Go on with the open turn under the story's policy."""
    async with world.agent("Fine.") as agent:
        try:
            async with agent.session("t/1").stream_resume() as run:
                world.told += [event async for event in run]
        except AgentKitError as error:
            world.fails(error)


async def _know(world: World) -> None:
    """Put a document with the canary into the knowledge."""
    knowledge = f"sqlite:///{world.folder}/knowledge.db"
    async with Agent(world.engine, knowledge=knowledge, **world.unguarded) as agent:
        await agent.add_document(_document(), tenant="t")


def _document() -> Document:
    return Document(
        text=f"The word is {CANARY}.", provenance=Provenance(origin=Origin.DEVELOPER, source="test")
    )
