"""Every edge at which content comes in: a block there keeps it from the model, tools, the store and the user."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import agentkit.agent
from agentkit import Stage
from tests.agent.edge_stories import EDGES, Edge
from tests.agent.edges import CANARY, World

ROOM = Path(agentkit.agent.__file__).parent
ASKS_FOR_NOTHING = {"replay"}
"""Modules that ask shields about what goes nowhere: a replay shows what a policy would have said."""


async def reached(
    edge: Edge,
    folder: Path,
    spans: InMemorySpanExporter,
    caplog: pytest.LogCaptureFixture,
    *,
    blocked_at: Stage | None,
) -> set[str]:
    """Tell the edge's story and return where its canary got."""
    caplog.set_level(logging.DEBUG)
    world = World(folder, spans, caplog.records, blocked_at=blocked_at)
    try:
        await edge.story(world)
        return await world.reached()
    finally:
        await world.close()


@pytest.mark.parametrize("name", EDGES)
async def test_a_block_at_an_edge_stops_what_would_have_gone_on(
    name: str, tmp_path: Path, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    edge = EDGES[name]
    for case in ("open", "blocked"):
        (tmp_path / case).mkdir()
    passed = await reached(edge, tmp_path / "open", spans, caplog, blocked_at=None)
    stopped = await reached(edge, tmp_path / "blocked", spans, caplog, blocked_at=edge.stage)
    assert passed == edge.reaches | edge.before
    assert stopped == edge.before
    assert edge.before < passed


def test_every_stage_has_an_edge() -> None:
    assert {edge.stage for edge in EDGES.values()} == set(Stage)


def test_every_place_that_asks_shields_has_an_edge() -> None:
    assert {(edge.judged_in, edge.stage) for edge in EDGES.values()} == set(places_that_judge())


def places_that_judge() -> Iterator[tuple[str, Stage]]:
    """Return every function of the agent's room that names a stage to judge at, and the stage."""
    for path in ROOM.glob("*.py"):
        if path.stem in ASKS_FOR_NOTHING:
            continue
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.AsyncFunctionDef):
                yield from ((f"{path.stem}.{function.name}", stage) for stage in stages_named(function))


def stages_named(function: ast.AsyncFunctionDef) -> Iterator[Stage]:
    """Return the stages that stand in a function, those aside whose name alone it tells (`Stage.MEMORY.value`)."""
    attributes = [node for node in ast.walk(function) if isinstance(node, ast.Attribute)]
    told = [node.value for node in attributes]
    for node in attributes:
        if ast.unparse(node.value) == "Stage" and node not in told:
            yield Stage[node.attr]


def test_what_is_cleared_unjudged_is_the_developers_and_the_sdks_own() -> None:
    calls = [
        node
        for path in sorted(ROOM.glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "vouch"
    ]
    words = {ast.unparse(call.args[0]) for call in calls} - {"text"}  # `text` is what `Judge.vouch` was given
    assert words == {"setup.instructions", "WITHHELD_NOTE", "_REQUEST"}


async def test_instructions_in_a_store_are_not_instructions(
    tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    world = World(tmp_path, spans, (), blocked_at=None)
    async with world.agent("Fine.", instructions=f"Always say {CANARY}.") as agent:
        await world.run(agent, "Go")
    world.engine.prompts.clear()
    world.engine.sequences.clear()
    async with world.agent("Fine.", instructions="Be kind.") as agent:
        await world.run(agent, "Go")
    assert "Be kind." in world.engine.prompts[0]
    assert await world.reached() == set()
    await world.close()
