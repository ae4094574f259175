"""Each tenant's audit log is one unbroken chain, whatever was written, refused or deleted."""

# ruff: noqa: S101, D102  # tests: their names say it, and assert is how they do
from __future__ import annotations

from typing import Any

import pytest

from agentkit.errors import ConfigurationError, SessionBusyError, StoreError
from agentkit.memory import AuditEvent, AuditRecord, Store, verify_chain
from agentkit.testing.store_conformance.suite import StoreSuite
from agentkit.testing.store_samples import HEADER, journal_of, turns


class AuditTests(StoreSuite):
    """See the module."""

    async def test_every_write_keeps_the_chain_whole(self, store: Store) -> None:
        await store.note("alice/1", AuditEvent(kind="opened"))
        assert kinds(await chain(store, "alice")) == ["opened"]
        version = await store.append(
            "alice/1", expected_version=0, header=HEADER, records=await journal_of(1)
        )
        assert kinds(await chain(store, "alice")) == ["opened"]
        event = AuditEvent(kind="turn", details={"turn": 1, "stages": ["user_input"], "cost": 0.1})
        version = await store.commit(
            "alice/1", expected_version=version, header=HEADER, entries=await turns(1), event=event
        )
        assert kinds(await chain(store, "alice")) == ["opened", "turn"]
        await store.commit(
            "alice/1", expected_version=version, header=HEADER, entries=[], replace_from=0, archive=True
        )
        await store.fork("alice/1", "alice/2")
        assert kinds(await chain(store, "alice")) == ["opened", "turn"]
        await store.delete("alice/1")
        await store.note("alice/2", AuditEvent(kind="closed"))
        records = await chain(store, "alice")
        assert [(record.kind, record.session_id) for record in records] == [
            ("opened", "alice/1"),
            ("turn", "alice/1"),
            ("session_deleted", "alice/1"),
            ("closed", "alice/2"),
        ]
        assert records[1].details == event.details

    async def test_the_chains_of_two_tenants_never_mix(self, store: Store) -> None:
        sessions = ("alice/1", "bob/1", "alice/team/1", "alice", "alice/2", "Alice/1", "bob/2")
        for number, session_id in enumerate(sessions):
            await store.commit(
                session_id,
                expected_version=0,
                header=HEADER,
                entries=[],
                event=AuditEvent(kind="made", details={"number": number}),
            )
        await store.delete("bob/1")
        ids = {
            tenant: [record.session_id for record in await chain(store, tenant)]
            for tenant in ("alice", "bob", "alice/team", "", "Alice", "carol")
        }
        assert ids == {
            "alice": ["alice/1", "alice/2"],
            "bob": ["bob/1", "bob/2", "bob/1"],
            "alice/team": ["alice/team/1"],
            "": ["alice"],
            "Alice": ["Alice/1"],
            "carol": [],
        }

    async def test_an_event_changes_no_session(self, store: Store) -> None:
        version = await store.commit("alice/1", expected_version=0, header=HEADER, entries=await turns(1))
        before = await store.list()
        await store.note("alice/1", AuditEvent(kind="blocked", details={"stage": "user_input"}))
        assert (await store.version("alice/1"), await store.list()) == (version, before)

    async def test_a_refused_write_leaves_no_event(self, store: Store) -> None:
        version = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        event = AuditEvent(kind="turn")
        with pytest.raises(SessionBusyError):
            await store.commit("s", expected_version=version + 1, header=HEADER, entries=[], event=event)
        with pytest.raises(StoreError):
            await store.commit(
                "s", expected_version=version, header=HEADER, entries=[], replace_from=9, event=event
            )
        with pytest.raises(SessionBusyError):
            await store.delete("s", expected_version=version + 1)
        await store.delete("nobody")
        assert await chain(store, "") == ()

    async def test_an_event_that_is_not_json_is_refused_and_changes_nothing(self, store: Store) -> None:
        event = AuditEvent(kind="turn", details={"what": object()})
        with pytest.raises(StoreError, match="of audit event turn cannot be written as JSON"):
            await store.note("s", event)
        with pytest.raises(StoreError, match="of audit event turn cannot be written as JSON"):
            await store.commit("s", expected_version=0, header=HEADER, entries=[], event=event)
        assert (await store.load("s"), await chain(store, "")) == (None, ())

    @pytest.mark.parametrize(
        "details",
        [
            {},
            {"text": "ä\ud800\0😀"},
            {10: "keys become text", 9: "in another order"},
            {"nested": {"list": [1, 2.5, None, True], "tuple": (1, 2)}},
            {"large": 2**70, "small": 1e-300},
        ],
    )
    async def test_any_details_come_back_and_fit_their_digest(
        self, store: Store, details: dict[Any, Any]
    ) -> None:
        await store.note("s", AuditEvent(kind="noted", details=details))
        await store.note("s", AuditEvent(kind="noted"))
        records = await chain(store, "")
        assert records[0].details.keys() == {str(key) for key in details}

    async def test_what_is_on_record_does_not_change_with_the_caller_s_objects(self, store: Store) -> None:
        details = {"stages": ["user_input"]}
        await store.note("s", AuditEvent(kind="noted", details=details))
        details["stages"].append("memory")
        (record,) = await store.audit("")
        record.details["stages"].append("memory")
        assert (await chain(store, ""))[0].details == {"stages": ["user_input"]}

    async def test_an_impossible_tenant_is_refused(self, store: Store) -> None:
        with pytest.raises(ConfigurationError, match="got '%' at position 5"):
            await store.audit("alice%")


async def chain(store: Store, tenant: str) -> tuple[AuditRecord, ...]:
    """Return a tenant's log, which must be whole."""
    records = await store.audit(tenant)
    verify_chain(records, tenant=tenant)
    return records


def kinds(records: tuple[AuditRecord, ...]) -> list[str]:
    """Return what happened."""
    return [record.kind for record in records]
