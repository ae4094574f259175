"""Forks and archives share entries with where they came from, and neither side's changes reach the other."""

# ruff: noqa: S101, D102  # tests: their names say it, and assert is how they do
from __future__ import annotations

import pytest

from agentkit.errors import StoreError
from agentkit.memory import Store
from agentkit.testing.store_conformance.suite import StoreSuite, loaded
from agentkit.testing.store_samples import HEADER, as_stored, as_stored_records, journal_of, turns


class SharingTests(StoreSuite):
    """See the module."""

    async def test_a_fork_has_what_its_source_had_and_goes_its_own_way(self, store: Store) -> None:
        first = await store.commit("source", expected_version=0, header=HEADER, entries=await turns(1))
        forked = await store.fork("source", "branch")
        assert first < forked == await store.version("branch")
        await store.commit("branch", expected_version=forked, header=HEADER, entries=await turns(2))
        await store.commit("source", expected_version=first, header=HEADER, entries=await turns(3))
        source, branch = await loaded(store, "source"), await loaded(store, "branch")
        assert source.entries == as_stored(await turns(1, 3))
        assert branch.entries == as_stored(await turns(1, 2))
        assert branch.header == HEADER

    @pytest.mark.parametrize("num_entries", [0, 1, 3, 5, 6])
    async def test_a_fork_can_begin_with_the_first_entries(self, store: Store, num_entries: int) -> None:
        await store.commit("source", expected_version=0, header=HEADER, entries=await turns(1, 2))
        version = await store.fork("source", "branch", num_entries=num_entries)
        await store.commit("branch", expected_version=version, header=HEADER, entries=await turns(7))
        branch = await loaded(store, "branch")
        assert branch.entries == as_stored([*(await turns(1, 2))[:num_entries], *await turns(7)])
        assert (await loaded(store, "source")).entries == as_stored(await turns(1, 2))

    @pytest.mark.parametrize("num_entries", [-1, 4])
    async def test_a_fork_cannot_begin_with_entries_that_are_not_there(
        self, store: Store, num_entries: int
    ) -> None:
        await store.commit("source", expected_version=0, header=HEADER, entries=await turns(1))
        with pytest.raises(StoreError, match=f"'source' has 3 entries, cannot fork {num_entries}"):
            await store.fork("source", "branch", num_entries=num_entries)
        assert await store.load("branch") is None

    async def test_a_fork_needs_a_source_and_a_free_target(self, store: Store) -> None:
        with pytest.raises(StoreError, match="no session 'missing' to fork"):
            await store.fork("missing", "branch")
        await store.commit("source", expected_version=0, header=HEADER, entries=[])
        with pytest.raises(StoreError, match="session 'source' exists"):
            await store.fork("source", "source")
        assert [info.id for info in await store.list()] == ["source"]

    async def test_an_unfinished_turn_is_not_part_of_a_fork(self, store: Store) -> None:
        version = await store.commit("source", expected_version=0, header=HEADER, entries=await turns(1))
        await store.append("source", expected_version=version, header=HEADER, records=await journal_of(2))
        await store.fork("source", "branch")
        branch = await loaded(store, "branch")
        assert (branch.entries, branch.journal) == (as_stored(await turns(1)), ())
        assert (await loaded(store, "source")).journal == as_stored_records(await journal_of(2))

    @pytest.mark.parametrize("deleted", [("a",), ("b",), ("c",), ("a", "b"), ("b", "c"), ("c", "a")])
    async def test_shared_entries_survive_the_deletion_of_others(
        self, store: Store, deleted: tuple[str, ...]
    ) -> None:
        await store.commit("a", expected_version=0, header=HEADER, entries=await turns(1, 2))
        version = await store.fork("a", "b", num_entries=3)
        await store.commit("b", expected_version=version, header=HEADER, entries=await turns(3))
        await store.fork("b", "c", num_entries=4)
        whole = {"a": await turns(1, 2), "b": await turns(1, 3), "c": (await turns(1, 3))[:4]}
        for session_id in deleted:
            assert await store.delete(session_id)
        assert [info.id for info in await store.list()] == sorted(whole.keys() - set(deleted))
        for session_id in whole.keys() - set(deleted):
            assert (await loaded(store, session_id)).entries == as_stored(whole[session_id])

    @pytest.mark.parametrize("changed", ["source", "branch"])
    @pytest.mark.parametrize("replace_from", [0, 2, 3])
    async def test_a_replaced_tail_stays_with_who_shares_it(
        self, store: Store, changed: str, replace_from: int
    ) -> None:
        await store.commit("source", expected_version=0, header=HEADER, entries=await turns(1))
        await store.fork("source", "branch")
        version = await store.version(changed)
        await store.commit(
            changed,
            expected_version=version,
            header=HEADER,
            entries=await turns(2),
            replace_from=replace_from,
        )
        (other,) = {"source", "branch"} - {changed}
        assert (await loaded(store, other)).entries == as_stored(await turns(1))
        expected = [*(await turns(1))[:replace_from], *await turns(2)]
        assert (await loaded(store, changed)).entries == as_stored(expected)

    async def test_what_a_commit_archives_stays_readable(self, store: Store) -> None:
        version = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1, 2))
        for number, replace_from in ((3, 0), (4, 2), (5, None)):
            version = await store.commit(
                "s",
                expected_version=version,
                header=HEADER,
                entries=await turns(number),
                replace_from=replace_from,
                archive=True,
            )
        second = [*(await turns(3))[:2], *await turns(4)]
        assert await store.archived("s") == (
            as_stored(await turns(1, 2)),
            as_stored(await turns(3)),
            as_stored(second),
        )
        assert (await loaded(store, "s")).entries == as_stored([*second, *await turns(5)])

    async def test_an_archived_fork_survives_the_end_of_its_source(self, store: Store) -> None:
        await store.commit("source", expected_version=0, header=HEADER, entries=await turns(1))
        version = await store.fork("source", "branch")
        await store.commit(
            "branch", expected_version=version, header=HEADER, entries=[], replace_from=0, archive=True
        )
        await store.delete("source")
        assert await store.archived("branch") == (as_stored(await turns(1)),)

    async def test_there_is_no_archive_where_nothing_was_archived(self, store: Store) -> None:
        assert await store.archived("nobody") == ()
        version = await store.commit(
            "s", expected_version=0, header=HEADER, entries=await turns(1), archive=True
        )
        assert await store.archived("s") == ()
        await store.commit(
            "s", expected_version=version, header=HEADER, entries=[], replace_from=0, archive=True
        )
        assert await store.archived("s") == (as_stored(await turns(1)),)

    async def test_an_archive_is_its_session_s_alone(self, store: Store) -> None:
        version = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        await store.commit(
            "s", expected_version=version, header=HEADER, entries=[], replace_from=0, archive=True
        )
        await store.fork("s", "branch")
        assert await store.archived("branch") == ()
        await store.delete("s")
        await store.commit("s", expected_version=0, header=HEADER, entries=[])
        assert await store.archived("s") == ()
