"""Whatever is done in whatever order, the store in PostgreSQL answers as the one in the process does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import ClassVar
from uuid import uuid4

from hypothesis import HealthCheck, settings
from hypothesis.stateful import rule, run_state_machine_as_test

from agentkit.errors import SessionBusyError
from agentkit.memory import SessionInfo, Store, StoredSession
from agentkit.memory.postgres import PostgresStore
from tests.memory.test_store_agreement import SESSION_IDS, UNREACHED, VERSIONS_BEHIND, StoresAgree
from tests.postgres_server import PostgresServer


class PostgresAgrees(StoresAgree):
    """The machine of the SQLite store, with another store and other numbers for its versions."""

    server: ClassVar[PostgresServer]

    def __init__(self) -> None:
        super().__init__()
        self.schema = f"test_{uuid4().hex}"
        self.sqlite = self.open()

    def open(self) -> Store:
        return PostgresStore(self.server.url(), schema=self.schema)

    def answer(self, operation: Callable[[Store], Awaitable[object]], store: Store) -> object:
        return _without_versions(super().answer(operation, store))

    @rule(session_id=SESSION_IDS, behind=VERSIONS_BEHIND)
    def delete_behind(self, session_id: str, behind: int) -> None:
        async def operation(store: Store) -> bool:
            expected = await store.version(session_id) - behind
            return await store.delete(session_id, expected_version=expected)

        self.agree(operation)

    @rule(session_id=SESSION_IDS)
    def delete(self, session_id: str) -> None:
        self.agree(lambda store: store.delete(session_id))

    def every_entry_is_reached(self) -> None:
        """An entry that once is out of reach stays so: looking at the end is enough."""

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.sqlite.close())
        self.sqlite = self.open()

    def teardown(self) -> None:
        self.runner.run(self.sqlite.list())
        unreached = UNREACHED.replace("id", "key")
        assert self.server.execute(f"SET search_path = {self.schema}", unreached) == []
        super().teardown()
        self.server.execute(f"DROP SCHEMA {self.schema} CASCADE")


def _without_versions(answer: object) -> object:
    match answer:
        case bool() | None:
            return answer
        case int():
            return "a version"
        case StoredSession() | SessionInfo():
            return replace(answer, version=0)
        case list():
            return [_without_versions(item) for item in answer]
        case (kind, _) if kind is SessionBusyError:
            return kind
        case _:
            return answer


def test_the_store_in_postgresql_agrees(postgres_server: PostgresServer):
    PostgresAgrees.server = postgres_server
    steps = settings(
        max_examples=15,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    run_state_machine_as_test(PostgresAgrees, settings=steps)
