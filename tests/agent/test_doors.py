"""The doors: what is not cleared goes to no model, tool, store or user, by the types and when it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, get_args, get_origin, get_type_hints

import pytest

from agentkit import Document, Origin, Provenance, SQLiteStore
from agentkit.agent.doors import GuardedEngine
from agentkit.agent.events import EventSink, TextDelta
from agentkit.agent.generation import Generation
from agentkit.agent.summary import SummaryWriter
from agentkit.cleared import Cleared, Held
from agentkit.inference.base import SamplingParams
from agentkit.memory.journal import InputAccepted, StepGenerated
from agentkit.memory.knowledge import KnowledgeStore
from agentkit.memory.knowledge_sqlite import SQLiteKnowledge
from agentkit.memory.store import Store
from agentkit.memory.transcript import Entry, StoredEntry, Transcript
from agentkit.messages import USER, Message, ToolCall
from agentkit.shields import Pipeline, ShieldInput, Stage
from agentkit.testing import ScriptedEngine, StaticShield
from agentkit.testing.store_samples import HEADER, turn_of
from agentkit.tools import Executor, Toolset
from tests.agent.support import policy_of

ENGINE: Final = ScriptedEngine([])
HELLO: Final = Message.user("hello")
NOTE: Final = Document(text="hello", provenance=Provenance(origin=Origin.USER, source="test"))
STORED: Final = StoredEntry(message=HELLO, ids=(1,), turn=1, generated=False)
CALL: Final = ToolCall(id="c", name="no_tool", arguments={})


class Lookalike:
    """Has a value, as cleared content has."""

    def __init__(self, value: object) -> None:
        self.value = value


class ModelShield(StaticShield):
    """Takes long, and lets everything through."""

    runs_model = True


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "agent.db")
    yield store
    await store.close()


async def to_the_engine(content: Any) -> None:
    GuardedEngine(ENGINE, scope="").generate(content, SamplingParams(), grammar=None)


async def to_a_tool(content: Any) -> None:
    await Executor(Toolset([])).run(content)


async def to_tools_side_by_side(content: Any) -> None:
    await Executor(Toolset([])).run_all([content, content])


async def to_the_transcript(content: Any) -> None:
    Transcript().append(content, [1])


async def to_the_user(content: Any) -> None:
    async def show(event: object) -> None:
        raise AssertionError("something came through")

    await EventSink(show).emit(content)


@pytest.mark.parametrize("disguise", [lambda value: value, Lookalike, lambda value: (value,)])
@pytest.mark.parametrize(
    ("door", "value"),
    [
        (to_the_engine, (1, 2, 3)),
        (to_a_tool, CALL),
        (to_tools_side_by_side, CALL),
        (to_the_transcript, HELLO),
        (to_the_user, TextDelta(text="hello")),
    ],
)
async def test_a_door_refuses_what_is_not_cleared(
    door: Callable[[Any], Awaitable[None]], value: object, disguise: Callable[[object], object]
) -> None:
    with pytest.raises(TypeError, match="only cleared content"):
        await door(disguise(value))
    assert ENGINE.prompts == []


async def test_a_store_refuses_entries_and_records_that_are_not_cleared(store: SQLiteStore) -> None:
    session = {"expected_version": 0, "header": HEADER}
    with pytest.raises((TypeError, AttributeError)):
        await store.commit("a/1", entries=[STORED], **session)  # type: ignore[arg-type, list-item]
    (asked, *_) = await turn_of(1)
    opened = InputAccepted(entries=(STORED,), turn=1, turn_key="k", seed=1, options={})
    corrected = StepGenerated(entry=asked, withheld=(), corrections=("Try again.",), usage={})
    for record in (opened, corrected):
        with pytest.raises(TypeError, match="only cleared content"):
            await store.append("a/1", records=[record], **session)  # type: ignore[arg-type]
    assert await store.load("a/1") is None


async def test_knowledge_refuses_a_document_that_is_not_cleared(tmp_path: Path) -> None:
    knowledge = SQLiteKnowledge(tmp_path / "knowledge.db")
    with pytest.raises(TypeError, match="only cleared content"):
        await knowledge.add("a", NOTE)  # type: ignore[arg-type]
    assert await knowledge.search("a", "hello", limit=1) == ()
    await knowledge.close()


async def test_what_is_held_goes_through_no_door_and_to_no_engine_that_could_not_drop_it() -> None:
    held: list[Held[str]] = []
    async with Pipeline(policy_of({"user_input": "block"}), overrides={"canary": ModelShield()}) as pipeline:
        said = ShieldInput(text="hello", stage=Stage.USER_INPUT, provenance=USER)
        await pipeline.judge(said, meanwhile=lambda text, layers: held.append(text))
    (content,) = held
    for door in (to_the_engine, to_a_tool, to_the_transcript, to_the_user):
        with pytest.raises(TypeError, match="only cleared content, got Held"):
            await door(content)
    assert not hasattr(content, "value")
    assert "hello" not in repr(content)
    engine = GuardedEngine(ENGINE, scope="")
    engine.begin(content.map(lambda text: (len(text),)), SamplingParams(), grammar=None, cleared_tokens=0)
    assert ENGINE.prompts == []
    for value in ((1, 2), Lookalike((1, 2))):
        with pytest.raises(TypeError, match="only held content"):
            engine.begin(value, SamplingParams(), grammar=None, cleared_tokens=0)  # type: ignore[arg-type]


def test_an_entry_is_made_of_cleared_content_alone() -> None:
    with pytest.raises(TypeError, match="only cleared content"):
        Entry(message=HELLO, ids=(1,), turn=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (GuardedEngine.generate, "prompt"),
        (Executor.run, "call"),
        (Transcript.append, "message"),
        (EventSink.emit, "event"),
        (KnowledgeStore.add, "document"),
        (Entry, "message"),
    ],
)
def test_the_types_of_the_doors_say_so(function: Any, argument: str) -> None:
    assert get_origin(get_type_hints(function)[argument]) is Cleared


def test_what_reaches_the_engine_and_the_store_goes_through_these_types() -> None:
    assert get_type_hints(Generation)["engine"] is GuardedEngine
    assert get_type_hints(SummaryWriter.__init__)["engine"] is GuardedEngine
    assert get_args(get_type_hints(Store.commit)["entries"]) == (Entry,)
