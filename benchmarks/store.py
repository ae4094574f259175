"""What a store costs: `python -m benchmarks.store [URL] [--sessions N] [--turns N]`. A table and a JSON line.

Without a URL it measures SQLite in a new file. Each turn journals as a guarded turn with one tool call does, then
commits; every write is a durable transaction of its own, one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, TypeVar

import anyio

from agentkit.memory import Entry, JournalRecord, SQLiteStore, Store, open_store
from agentkit.memory.codec import encode_entries
from agentkit.memory.journal import CallFinished, CallIntended, InputAccepted, StepGenerated
from agentkit.messages import Message, ToolCall
from agentkit.testing.store_samples import HEADER, cleared

T = TypeVar("T")

LONG_SESSION = 1_000
"""Messages of the session whose load is measured apart."""

CALL = ToolCall(id="1", name="search", arguments={"query": "temperature in Paris tomorrow", "count": 5})


class Clock:
    """Milliseconds that each kind of operation took."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = defaultdict(list)

    async def time(self, name: str, operation: Awaitable[T]) -> T:
        """Wait for an operation and keep how long it took."""
        start = time.perf_counter()
        result = await operation
        self.taken[name].append((time.perf_counter() - start) * 1000)
        return result

    def row(self, name: str) -> dict[str, float]:
        """Return what the operations of a kind took."""
        taken = sorted(self.taken[name])
        return {
            "count": len(taken),
            "p50_ms": round(statistics.median(taken), 3),
            "p95_ms": round(taken[int(len(taken) * 0.95)], 3),
            "max_ms": round(taken[-1], 3),
        }


async def turn() -> list[Entry]:
    """Return the four messages of a turn: a question, a call, its result and the answer."""
    question = "How warm will it be in Paris tomorrow, and should I take a coat? " * 2
    forecast = "Forecast: 14 degrees, light rain in the afternoon, wind from the west. " * 12
    answer = "It will be about 14 degrees with some rain: take a light coat. " * 5
    messages = (
        (Message.user(question), 30),
        (Message.assistant("", tool_calls=(CALL,)), 40),
        (Message.tool(forecast, call=CALL), 220),
        (Message.assistant(answer), 80),
    )
    return [
        Entry(message=await cleared(message), ids=tuple(range(1_000, 1_000 + num_ids)), turn=1)
        for message, num_ids in messages
    ]


def of_turn(number: int, entries: list[Entry]) -> list[Entry]:
    """Return the same messages as those of another turn."""
    return [
        replace(entry, turn=number, message_id=f"{number}.{index}") for index, entry in enumerate(entries)
    ]


def journal(number: int, entries: list[Entry]) -> list[JournalRecord]:
    """Return what such a turn writes before its commit, one append each."""
    digest = "d" * 64
    return [
        InputAccepted(entries=(entries[0],), turn=number, turn_key="9f3a7c21", seed=number, options={}),
        StepGenerated(entry=entries[1], withheld=(), corrections=(), usage={"output_tokens": 40}),
        CallIntended(call_id="1", tool="search", digest=digest, idempotency_key="9f3a7c21.1"),
        CallFinished(entry=entries[2], call_id="1", status="ok", blocked=False),
    ]


async def write_and_load(store: Store, clock: Clock, num_sessions: int, num_turns: int) -> None:
    """Write all sessions, turn by turn across them, then load each of them."""
    entries = await turn()
    versions = dict.fromkeys((f"tenant-{number % 10}/{number}" for number in range(num_sessions)), 0)
    for number in range(1, num_turns + 1):
        said = of_turn(number, entries)
        for session_id, version in versions.items():
            versions[session_id] = await _write(store, clock, session_id, version, number, said)
    for session_id in versions:
        await clock.time("load", store.load(session_id))


async def _write(
    store: Store, clock: Clock, session_id: str, version: int, number: int, said: list[Entry]
) -> int:
    for record in journal(number, said):
        append = store.append(session_id, expected_version=version, header=HEADER, records=[record])
        version = await clock.time("append", append)
    commit = store.commit(session_id, expected_version=version, header=HEADER, entries=said)
    return await clock.time("commit", commit)


async def load_long(store: Store, clock: Clock) -> None:
    """Load, fork and delete a session of many messages."""
    entries = await turn()
    numbers = range(1, LONG_SESSION // len(entries) + 1)
    said = [entry for number in numbers for entry in of_turn(number, entries)]
    await store.commit("long/source", expected_version=0, header=HEADER, entries=said)
    for number in range(20):
        await clock.time(f"load of {LONG_SESSION} messages", store.load("long/source"))
        await clock.time(f"fork of {LONG_SESSION} messages", store.fork("long/source", f"long/{number}"))
        await clock.time("delete of a fork", store.delete(f"long/{number}"))
    await clock.time(f"delete of {LONG_SESSION} messages", store.delete("long/source"))


def _stored_bytes(store: Store, url: str) -> int:
    if isinstance(store, SQLiteStore):
        return sum(path.stat().st_size for path in store.path.parent.glob(f"{store.path.name}*"))
    if url.startswith("postgres"):
        import psycopg

        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
            return int(row[0]) if row else 0
    return 0


async def measure(store: Store, url: str, num_sessions: int, num_turns: int) -> dict[str, Any]:
    """Measure a store that has none of these sessions."""
    clock = Clock()
    await store.list()
    before = await anyio.to_thread.run_sync(_stored_bytes, store, url)
    await write_and_load(store, clock, num_sessions, num_turns)
    after = await anyio.to_thread.run_sync(_stored_bytes, store, url)
    await load_long(store, clock)
    await store.close()
    content = sum(len(record.message) + len(record.ids) for record in encode_entries(await turn()))
    return {
        "store": type(store).__name__,
        "sessions": num_sessions,
        "turns": num_turns,
        "cores": os.cpu_count(),
        "bytes_per_turn": round((after - before) / (num_sessions * num_turns)),
        "content_bytes_per_turn": content,
        "operations": {name: clock.row(name) for name in clock.taken},
    }


def main() -> None:
    """Print the table and the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", help="the URL of a store without these sessions")
    parser.add_argument("--sessions", type=int, default=1_000)
    parser.add_argument("--turns", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.url or f"sqlite:///{folder}/agent.db"
        result = anyio.run(measure, open_store(url), url, arguments.sessions, arguments.turns)
    print(f"{'operation':<28}{'count':>8}{'p50 ms':>10}{'p95 ms':>10}{'max ms':>10}")
    for name, row in result["operations"].items():
        print(f"{name:<28}{row['count']:>8}{row['p50_ms']:>10}{row['p95_ms']:>10}{row['max_ms']:>10}")
    print(f"{result['bytes_per_turn']} bytes a turn, of which {result['content_bytes_per_turn']} are content")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
