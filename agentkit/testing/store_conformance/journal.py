"""The records of a turn come back in order until its commit drops them; only cleared content gets in."""

# ruff: noqa: S101, D102  # tests: their names say it, and assert is how they do
from __future__ import annotations

from dataclasses import replace

import pytest

from agentkit.errors import SessionBusyError, StoreError
from agentkit.memory import Entry, Store
from agentkit.memory.journal import CallFinished, DecisionMade
from agentkit.messages import Message
from agentkit.testing.store_conformance.suite import StoreSuite, loaded
from agentkit.testing.store_samples import (
    HEADER,
    as_stored,
    as_stored_records,
    cleared,
    journal_of,
    turns,
)


class JournalTests(StoreSuite):
    """See the module."""

    async def test_records_of_every_kind_come_back_in_order(self, store: Store) -> None:
        version = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        records = await journal_of(2)
        for record in records:
            before = version
            version = await store.append("s", expected_version=version, header=HEADER, records=[record])
            assert before < version == await store.version("s")
        stored = await loaded(store, "s")
        assert stored.journal == as_stored_records(records)
        assert (stored.version, stored.entries) == (version, as_stored(await turns(1)))

    async def test_several_records_are_appended_as_one(self, store: Store) -> None:
        records = await journal_of(1)
        version = await store.append("s", expected_version=0, header=HEADER, records=records[:3])
        await store.append("s", expected_version=version, header=HEADER, records=records[3:])
        assert (await loaded(store, "s")).journal == as_stored_records(records)

    async def test_a_first_turn_makes_its_session(self, store: Store) -> None:
        records = (await journal_of(1))[:1]
        version = await store.append("s", expected_version=0, header=HEADER, records=records)
        stored = await loaded(store, "s")
        assert (stored.version, stored.header, stored.entries) == (version, HEADER, ())

    async def test_the_entries_and_their_header_change_only_with_the_commit(self, store: Store) -> None:
        version = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        other = replace(HEADER, tools_digest="d2")
        version = await store.append(
            "s", expected_version=version, header=other, records=(await journal_of(2))[:1]
        )
        stored = await loaded(store, "s")
        assert (stored.header, stored.entries) == (HEADER, as_stored(await turns(1)))
        await store.commit("s", expected_version=version, header=other, entries=[])
        assert (await loaded(store, "s")).header == other

    async def test_a_commit_drops_the_journal_with_its_turn(self, store: Store) -> None:
        version = await store.append("s", expected_version=0, header=HEADER, records=await journal_of(1))
        version = await store.commit("s", expected_version=version, header=HEADER, entries=await turns(1))
        stored = await loaded(store, "s")
        assert (stored.entries, stored.journal) == (as_stored(await turns(1)), ())
        records = (await journal_of(2))[:2]
        await store.append("s", expected_version=version, header=HEADER, records=records)
        assert (await loaded(store, "s")).journal == as_stored_records(records)

    async def test_a_journal_belongs_to_one_session(self, store: Store) -> None:
        for number, session_id in enumerate(("a", "b"), start=1):
            await store.append(
                session_id, expected_version=0, header=HEADER, records=await journal_of(number)
            )
        assert (await loaded(store, "a")).journal == as_stored_records(await journal_of(1))
        await store.delete("a")
        assert (await loaded(store, "b")).journal == as_stored_records(await journal_of(2))

    async def test_a_stale_append_is_refused_and_changes_nothing(self, store: Store) -> None:
        records = await journal_of(1)
        first = await store.append("s", expected_version=0, header=HEADER, records=records[:1])
        second = await store.append("s", expected_version=first, header=HEADER, records=records[1:2])
        for stale in (0, first):
            with pytest.raises(SessionBusyError, match=rf"'s' is at version {second}, .* version {stale}:"):
                await store.append("s", expected_version=stale, header=HEADER, records=records[2:])
        with pytest.raises(SessionBusyError):
            await store.commit("s", expected_version=first, header=HEADER, entries=[])
        assert (await loaded(store, "s")).journal == as_stored_records(records[:2])

    async def test_what_was_loaded_cannot_be_appended_without_being_judged_again(self, store: Store) -> None:
        version = await store.append("s", expected_version=0, header=HEADER, records=await journal_of(1))
        before = await loaded(store, "s")
        with pytest.raises(TypeError, match="only cleared content"):
            await store.append("s", expected_version=version, header=HEADER, records=before.journal)
        assert await store.load("s") == before

    async def test_a_record_that_is_not_json_is_refused_and_changes_nothing(self, store: Store) -> None:
        records = [*await journal_of(1), DecisionMade(decision={"stage": object()})]
        with pytest.raises(StoreError, match="of kind DecisionMade cannot be written as JSON"):
            await store.append("s", expected_version=0, header=HEADER, records=records)
        assert await store.load("s") is None

    async def test_what_is_journaled_does_not_change_with_the_caller_s_objects(self, store: Store) -> None:
        decision = {"shields": ["secrets"]}
        await store.append("s", expected_version=0, header=HEADER, records=[DecisionMade(decision=decision)])
        decision["shields"].append("code")
        assert (await loaded(store, "s")).journal == (DecisionMade(decision={"shields": ["secrets"]}),)

    @pytest.mark.parametrize("content", ["", "\0", "\ud800", "😀", "\u2028 \r\n", "x" * 100_000])
    async def test_any_text_comes_back_from_the_journal(self, store: Store, content: str) -> None:
        entry = Entry(message=await cleared(Message.user(content)), ids=(0, 2**31 - 1), turn=1)
        record = CallFinished(entry=entry, call_id="1", status="ok", blocked=False)
        await store.append("s", expected_version=0, header=HEADER, records=[record])
        assert (await loaded(store, "s")).journal == as_stored_records([record])
