"""Whatever comes at once or is cut off, each operation has happened as a whole or not at all."""

# ruff: noqa: S101, D102  # tests: their names say it, and assert is how they do
from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from agentkit.errors import SessionBusyError
from agentkit.memory import AuditEvent, Entry, Store, verify_chain
from agentkit.testing.store_conformance.suite import StoreSuite, loaded
from agentkit.testing.store_samples import HEADER, as_stored, as_stored_records, journal_of, turns

_ATTEMPTS = 30


class InterruptionTests(StoreSuite):
    """See the module."""

    @pytest.mark.parametrize("operation", ["append", "commit"])
    async def test_of_many_writes_at_once_exactly_one_wins(self, store: Store, operation: str) -> None:
        outcomes: list[bool] = []
        entries, records = await turns(1), await journal_of(1)

        async def write() -> None:
            try:
                if operation == "append":
                    await store.append("s", expected_version=0, header=HEADER, records=records)
                else:
                    await store.commit("s", expected_version=0, header=HEADER, entries=entries)
            except SessionBusyError:
                outcomes.append(False)
            else:
                outcomes.append(True)

        async with anyio.create_task_group() as group:
            for _ in range(12):
                group.start_soon(write)
        stored = await loaded(store, "s")
        assert sorted(outcomes) == [False] * 11 + [True]
        assert stored.entries == (as_stored(entries) if operation == "commit" else ())
        assert stored.journal == (as_stored_records(records) if operation == "append" else ())

    async def test_events_of_one_tenant_at_once_make_one_chain(self, store: Store) -> None:
        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(store.note, f"alice/{number}", AuditEvent(kind="noted"))
        records = await store.audit("alice")
        verify_chain(records, tenant="alice")
        assert {record.session_id for record in records} == {f"alice/{number}" for number in range(12)}

    async def test_a_cancelled_commit_leaves_all_or_nothing_and_a_usable_store(self, store: Store) -> None:
        version, cancelled = 0, 0
        committed: list[Entry] = []
        for attempt in range(_ATTEMPTS):
            entries = await turns(attempt)
            event = AuditEvent(kind="turn")
            with anyio.move_on_after(attempt / 2_000) as scope:
                await store.commit("s", expected_version=version, header=HEADER, entries=entries, event=event)
                await checkpoint()
            cancelled += scope.cancelled_caught
            stored = await store.load("s")
            if stored is not None and stored.version != version:
                version = stored.version
                committed += entries
            assert (stored.entries if stored else ()) == as_stored(committed)
            assert len(await store.audit("")) == len(committed) / 3
        assert cancelled > 0
        assert committed

    async def test_a_cancelled_append_leaves_all_or_nothing_and_a_usable_store(self, store: Store) -> None:
        version, written = 0, 0
        records = await journal_of(1)
        for attempt in range(_ATTEMPTS):
            with anyio.move_on_after(attempt / 2_000):
                await store.append("s", expected_version=version, header=HEADER, records=records)
                await checkpoint()
            stored = await store.load("s")
            if stored is not None and stored.version != version:
                version = stored.version
                written += 1
            assert (stored.journal if stored else ()) == as_stored_records(records * written)
        assert written > 0

    async def test_a_cancelled_deletion_leaves_all_or_nothing_and_a_usable_store(self, store: Store) -> None:
        entries = await turns(1)
        deletions = 0
        for attempt in range(_ATTEMPTS):
            version = await store.version("s")
            if not version:
                await store.commit("s", expected_version=0, header=HEADER, entries=entries)
            with anyio.move_on_after(attempt / 2_000):
                await store.delete("s")
                await checkpoint()
            stored = await store.load("s")
            assert stored is None or stored.entries == as_stored(entries)
            deletions += stored is None
            records = await store.audit("")
            verify_chain(records, tenant="")
            assert len(records) == deletions
        assert deletions > 0
