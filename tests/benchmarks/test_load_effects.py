"""The load test sees an effect that is lost, one that was made twice, and one that nobody asked for."""

from __future__ import annotations

import psycopg

from agentkit import MemoryStore, Message, ToolCall
from agentkit.memory import Entry
from agentkit.testing.store_samples import HEADER, cleared
from agentkit.tools.call_context import serving
from agentkit.tools.state import SessionKey
from benchmarks.load_vllm.effects import Effects, Verdict, make_table, verdict

SESSION = "tenant/1"


def call(number: int) -> ToolCall:
    return ToolCall(id=f"t.{number}", name="note", arguments={"text": "An order has arrived."})


async def noted(store: MemoryStore, *numbers: int) -> None:
    messages = [Message.tool("Noted.", call=call(number)) for number in numbers]
    entries = [Entry(message=await cleared(message), ids=(1,), turn=1) for message in messages]
    await store.commit(SESSION, expected_version=0, header=HEADER, entries=entries)


async def test_lost_doubled_and_unknown_effects_are_counted(postgres_server):
    postgres_server.execute("CREATE DATABASE effects")
    database = postgres_server.url(database="effects")
    make_table(database)
    store = MemoryStore()
    await noted(store, 1, 2, 3)
    effects = await Effects.open(database)
    for number in (1, 2, 2, 4):
        with serving(call(number), SessionKey(session_id=SESSION, place=store)):
            await effects.as_tool().function(text="An order has arrived.")
    await effects.close()
    assert await verdict(database, store, [SESSION]) == Verdict(calls=3, lost=1, doubled=1, unknown=1)
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM effects").fetchone() == (3,)
