"""Sessions in the store of a folder, made by an agent on a script: finished turns, and turns that stay open."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

import anyio

from agentkit import Agent, RunStatus, SQLiteStore, ask_later
from agentkit.cli.loading import load_policy, load_tools
from agentkit.memory import JournalRecord, StoredSession
from agentkit.memory.journal import ApprovalAsked, ApprovalGiven, CallIntended
from agentkit.testing import ScriptedEngine

T = TypeVar("T")

SEND_MAIL: Final = json.dumps({"name": "send_mail", "parameters": {"text": "hi"}})


class KeptSessions:
    """Makes sessions in `agentkit.db` of a folder, and looks at what became of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "agentkit.db"

    def talk(self, session_id: str, *replies: str, instructions: str = "", policy: str | None = None) -> None:
        """Run a turn for each reply; one that is `SEND_MAIL` leaves its turn waiting for a person."""

        async def work(store: SQLiteStore) -> None:
            with contextlib.chdir(self._folder):
                tools = load_tools(["cli_test_tools:send_mail"])
            agent = Agent(
                ScriptedEngine(replies),
                instructions=instructions,
                tools=tools,
                policy=load_policy(self._folder / policy if policy else None),
                approver=ask_later,
                store=store,
            )
            session = agent.session(session_id)
            for number, reply in enumerate(replies, start=1):
                result = await session.run(f"Question {number}?")
                waits = result.status is RunStatus.AWAITING_APPROVAL
                assert waits == (reply == SEND_MAIL), result

        self.do(work)

    def waiting(self, session_id: str, *, instructions: str = "", policy: str | None = None) -> str:
        """Make a session with a finished turn and one that waits for a person; return the id of its call."""
        self.talk(session_id, "One.", SEND_MAIL, instructions=instructions, policy=policy)
        asked = self.load(session_id).journal[-1]
        assert isinstance(asked, ApprovalAsked)
        return asked.call_id

    def begin_the_call(self, session_id: str) -> str:
        """Go on as a process did that was killed right after it began the call that waits; return the call's id."""

        async def work(store: SQLiteStore) -> str:
            stored = await store.load(session_id)
            assert stored is not None
            asked = next(record for record in stored.journal if isinstance(record, ApprovalAsked))
            records: list[JournalRecord] = [
                ApprovalGiven(call_id=asked.call_id, digest=asked.digest, approved=True),
                CallIntended(
                    call_id=asked.call_id, tool="send_mail", digest=asked.digest, idempotency_key="k"
                ),
            ]
            await store.append(
                session_id, expected_version=stored.version, header=stored.header, records=records
            )
            return asked.call_id

        return self.do(work)

    def load(self, session_id: str) -> StoredSession:
        """Return a session that must be there."""

        async def work(store: SQLiteStore) -> StoredSession | None:
            return await store.load(session_id)

        stored = self.do(work)
        assert stored is not None
        return stored

    def ids(self) -> list[str]:
        """Return the ids of the sessions that there are."""

        async def work(store: SQLiteStore) -> list[str]:
            return [info.id for info in await store.list()]

        return self.do(work)

    def make_old(self, *session_ids: str) -> None:
        """Have the store say that sessions were last used 35 days ago."""
        then = (datetime.now(UTC) - timedelta(days=35)).isoformat()
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for session_id in session_ids:
                connection.execute("UPDATE sessions SET updated = ? WHERE id = ?", (then, session_id))

    @contextlib.contextmanager
    def held(self, session_id: str) -> Iterator[None]:
        """Hold a session inside the block, as whoever runs it does."""
        is_held, release = threading.Event(), threading.Event()

        async def work(store: SQLiteStore) -> None:
            async with store.hold(session_id):
                is_held.set()
                await anyio.to_thread.run_sync(release.wait)

        holder = threading.Thread(target=self.do, args=(work,))
        holder.start()
        try:
            assert is_held.wait(60)
            yield
        finally:
            release.set()
            holder.join()

    def do(self, work: Callable[[SQLiteStore], Awaitable[T]]) -> T:
        """Do something with the store."""

        async def run() -> T:
            store = SQLiteStore(self.path)
            try:
                return await work(store)
            finally:
                await store.close()

        return anyio.run(run)
