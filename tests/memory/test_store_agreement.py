"""Whatever is done in whatever order, the store in the process and the SQLite store answer the same."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agentkit.errors import AgentKitError
from agentkit.memory import AuditEvent, MemoryStore, SessionInfo, SQLiteStore, Store, verify_chain
from agentkit.testing.store_samples import HEADER, journal_of, turns

SESSION_IDS = st.sampled_from(["a/1", "a/2", "b"])
VERSIONS_BEHIND = st.sampled_from([0, 0, 0, 0, 1, -1])
REPLACE_FROM = st.none() | st.integers(0, 4)
UNREACHED = """
WITH RECURSIVE reached (id) AS (
    SELECT head FROM sessions UNION SELECT head FROM archives
    UNION SELECT parent FROM reached JOIN entries USING (id)
)
SELECT id FROM entries WHERE id NOT IN (SELECT id FROM reached WHERE id IS NOT NULL)
"""
NO_TIME = datetime(2026, 1, 1, tzinfo=UTC)


class StoresAgree(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.pool = self.runner.run(turns(1, 2))
        self.journal = self.runner.run(journal_of(3))
        self.memory: Store = MemoryStore()
        self.sqlite: Store = SQLiteStore(self.folder / "agent.db")

    def agree(self, operation: Callable[[Store], Awaitable[object]]) -> None:
        assert self.answer(operation, self.memory) == self.answer(operation, self.sqlite)

    def answer(self, operation: Callable[[Store], Awaitable[object]], store: Store) -> object:
        async def run() -> object:
            try:
                return await operation(store)
            except AgentKitError as exc:
                return (type(exc), str(exc))

        return self.runner.run(run())

    @rule(
        session_id=SESSION_IDS,
        behind=VERSIONS_BEHIND,
        num_entries=st.integers(0, 4),
        replace_from=REPLACE_FROM,
        archive=st.booleans(),
    )
    def commit(
        self, session_id: str, behind: int, num_entries: int, replace_from: int | None, archive: bool
    ) -> None:
        async def operation(store: Store) -> int:
            stored = await store.load(session_id)
            return await store.commit(
                session_id,
                expected_version=(stored.version if stored else 0) - behind,
                header=replace(HEADER, model=f"model-{num_entries}"),
                entries=self.pool[:num_entries],
                replace_from=replace_from,
                archive=archive,
                event=AuditEvent(kind="turn", details={"entries": num_entries}),
            )

        self.agree(operation)

    @rule(session_id=SESSION_IDS, behind=VERSIONS_BEHIND, num_records=st.integers(0, 3))
    def append(self, session_id: str, behind: int, num_records: int) -> None:
        async def operation(store: Store) -> int:
            return await store.append(
                session_id,
                expected_version=await store.version(session_id) - behind,
                header=replace(HEADER, model="appended"),
                records=self.journal[:num_records],
            )

        self.agree(operation)

    @rule(session_id=SESSION_IDS)
    def load(self, session_id: str) -> None:
        self.agree(lambda store: store.load(session_id))
        self.agree(lambda store: store.archived(session_id))

    @rule(source_id=SESSION_IDS, target_id=SESSION_IDS, num_entries=REPLACE_FROM)
    def fork(self, source_id: str, target_id: str, num_entries: int | None) -> None:
        self.agree(lambda store: store.fork(source_id, target_id, num_entries=num_entries))

    @rule(session_id=SESSION_IDS, expected_version=st.none() | st.integers(0, 9))
    def delete(self, session_id: str, expected_version: int | None) -> None:
        self.agree(lambda store: store.delete(session_id, expected_version=expected_version))

    @rule(tenant=st.sampled_from(["a", ""]))
    def audit(self, tenant: str) -> None:
        async def operation(store: Store) -> object:
            records = await store.audit(tenant)
            verify_chain(records, tenant=tenant)
            return [(record.session_id, record.kind, record.details) for record in records]

        self.agree(operation)

    @invariant()
    def every_entry_is_reached(self) -> None:
        """The file holds the entries that sessions and archives share, and no others."""
        self.runner.run(self.sqlite.list())
        with closing(sqlite3.connect(self.folder / "agent.db")) as connection:
            assert connection.execute(UNREACHED).fetchall() == []

    @rule(prefix=st.sampled_from(["", "a", "a/", "b"]))
    def list(self, prefix: str) -> None:
        async def operation(store: Store) -> object:
            return [_without_times(info) for info in await store.list(prefix)]

        self.agree(operation)

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.sqlite.close())
        self.sqlite = SQLiteStore(self.folder / "agent.db")

    def teardown(self) -> None:
        self.runner.run(self.sqlite.close())
        self.runner.close()
        shutil.rmtree(self.folder)


def _without_times(info: SessionInfo) -> SessionInfo:
    assert info.created <= info.updated
    return replace(info, created=NO_TIME, updated=NO_TIME)


TestStoresAgree = StoresAgree.TestCase
TestStoresAgree.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
