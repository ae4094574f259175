"""Sessions are committed, loaded, replaced, listed and deleted; only cleared content gets in."""

# ruff: noqa: S101, D102  # tests: their names say it, and assert is how they do
from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from agentkit.errors import ConfigurationError, SessionBusyError, StoreError
from agentkit.memory import Entry, Store
from agentkit.messages import Message, ToolCall
from agentkit.testing.store_conformance.suite import OPERATIONS, StoreSuite, loaded
from agentkit.testing.store_samples import HEADER, as_stored, cleared, journal_of, turns


class SessionTests(StoreSuite):
    """See the module."""

    async def test_a_committed_session_loads_as_it_was(self, store: Store) -> None:
        entries = await turns(1, 2)
        version = await store.commit("alice/1", expected_version=0, header=HEADER, entries=entries)
        stored = await loaded(store, "alice/1")
        assert (stored.id, stored.version, stored.header) == ("alice/1", version, HEADER)
        assert stored.entries == as_stored(entries)
        assert stored.journal == ()

    async def test_an_unknown_session_loads_as_none_and_has_version_0(self, store: Store) -> None:
        assert await store.load("nobody") is None
        assert await store.version("nobody") == 0

    async def test_a_commit_appends_raises_the_version_and_replaces_the_header(self, store: Store) -> None:
        first = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        header = replace(HEADER, model="other", date=None)
        second = await store.commit("s", expected_version=first, header=header, entries=await turns(2))
        stored = await loaded(store, "s")
        assert 0 < first < second == stored.version == await store.version("s")
        assert stored.header == header
        assert stored.entries == as_stored(await turns(1, 2))

    async def test_a_commit_without_entries_makes_an_empty_session(self, store: Store) -> None:
        await store.commit("s", expected_version=0, header=HEADER, entries=[])
        assert (await loaded(store, "s")).entries == ()

    async def test_a_stale_version_is_refused_with_both_numbers_and_changes_nothing(
        self, store: Store
    ) -> None:
        first = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        second = await store.commit("s", expected_version=first, header=HEADER, entries=await turns(2))
        before = await store.load("s")
        with pytest.raises(SessionBusyError, match=rf"'s' is at version {second}, .* version {first}:"):
            await store.commit("s", expected_version=first, header=HEADER, entries=await turns(3))
        assert await store.load("s") == before

    async def test_a_session_is_new_only_once(self, store: Store) -> None:
        await store.commit("s", expected_version=0, header=HEADER, entries=[])
        with pytest.raises(SessionBusyError):
            await store.commit("s", expected_version=0, header=HEADER, entries=[])

    async def test_a_session_made_anew_is_not_taken_for_the_deleted_one(self, store: Store) -> None:
        old = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        await store.delete("s")
        with pytest.raises(SessionBusyError, match="at version 0"):
            await store.commit("s", expected_version=old, header=HEADER, entries=[])
        await store.commit("s", expected_version=0, header=HEADER, entries=await turns(7))
        with pytest.raises(SessionBusyError):
            await store.commit("s", expected_version=old, header=HEADER, entries=await turns(2))

    async def test_what_was_loaded_cannot_be_committed_without_being_judged_again(self, store: Store) -> None:
        version = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        stored = await loaded(store, "s")
        with pytest.raises(TypeError, match="only cleared content, got Message"):
            await store.commit(
                "s", expected_version=version, header=HEADER, entries=cast("Any", stored.entries)
            )
        assert await store.load("s") == stored

    @pytest.mark.parametrize("replace_from", [0, 2, 3])
    async def test_a_commit_can_replace_the_tail(self, store: Store, replace_from: int) -> None:
        version = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        tail = await turns(2, 3)
        await store.commit(
            "s", expected_version=version, header=HEADER, entries=tail, replace_from=replace_from
        )
        stored = await loaded(store, "s")
        assert stored.entries == as_stored([*(await turns(1))[:replace_from], *tail])
        assert await store.archived("s") == ()

    @pytest.mark.parametrize("replace_from", [0, 2, 3])
    async def test_a_commit_can_drop_the_tail(self, store: Store, replace_from: int) -> None:
        version = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        version = await store.commit(
            "s", expected_version=version, header=HEADER, entries=[], replace_from=replace_from
        )
        await store.commit("s", expected_version=version, header=HEADER, entries=await turns(4))
        stored = await loaded(store, "s")
        assert stored.entries == as_stored([*(await turns(1))[:replace_from], *await turns(4)])

    @pytest.mark.parametrize("replace_from", [-1, 4])
    async def test_replacing_from_beyond_the_end_is_refused_and_changes_nothing(
        self, store: Store, replace_from: int
    ) -> None:
        version = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        before = await store.load("s")
        with pytest.raises(StoreError, match=f"has 3 entries, cannot replace from {replace_from}"):
            await store.commit(
                "s", expected_version=version, header=HEADER, entries=[], replace_from=replace_from
            )
        assert await store.load("s") == before

    async def test_sessions_are_listed_by_prefix_in_order_with_their_counts(self, store: Store) -> None:
        start = datetime.now(UTC)
        for session_id in ("alice_/2", "alice/2", "bob/1", "Alice/1", "alice/1", "alicex/1"):
            await store.commit(session_id, expected_version=0, header=HEADER, entries=await turns(1))
        version = await store.version("alice/2")
        version = await store.commit(
            "alice/2", expected_version=version, header=HEADER, entries=await turns(2)
        )
        everything = [info.id for info in await store.list()]
        assert everything == ["Alice/1", "alice/1", "alice/2", "alice_/2", "alicex/1", "bob/1"]
        assert [info.id for info in await store.list("alice_")] == ["alice_/2"]
        infos = await store.list("alice/")
        assert [(info.id, info.turns, info.entries, info.unfinished) for info in infos] == [
            ("alice/1", 1, 3, False),
            ("alice/2", 2, 6, False),
        ]
        assert infos[1].version == version
        assert start <= infos[1].created < infos[1].updated <= datetime.now(UTC)

    async def test_a_session_whose_turn_has_not_ended_is_listed_as_unfinished(self, store: Store) -> None:
        version = await store.append(
            "s", expected_version=0, header=HEADER, records=(await journal_of(1))[:1]
        )
        assert [(info.turns, info.entries, info.unfinished) for info in await store.list()] == [(0, 0, True)]
        await store.commit("s", expected_version=version, header=HEADER, entries=[])
        assert [info.unfinished for info in await store.list()] == [False]

    async def test_a_deleted_session_is_gone(self, store: Store) -> None:
        version = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        await store.append("s", expected_version=version, header=HEADER, records=await journal_of(2))
        assert await store.delete("s") is True
        assert await store.delete("s") is False
        assert (await store.load("s"), await store.version("s"), await store.list()) == (None, 0, [])
        await store.commit("s", expected_version=0, header=HEADER, entries=await turns(4))
        stored = await loaded(store, "s")
        assert (stored.entries, stored.journal) == (as_stored(await turns(4)), ())

    async def test_a_session_that_changed_is_not_deleted(self, store: Store) -> None:
        first = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        second = await store.append(
            "s", expected_version=first, header=HEADER, records=(await journal_of(2))[:1]
        )
        with pytest.raises(SessionBusyError, match=rf"'s' is at version {second}, .* version {first}:"):
            await store.delete("s", expected_version=first)
        assert await store.version("s") == second
        assert await store.delete("s", expected_version=second) is True
        assert await store.load("s") is None

    async def test_a_session_that_is_gone_is_not_deleted_again(self, store: Store) -> None:
        version = await store.commit("s", expected_version=0, header=HEADER, entries=[])
        await store.delete("s")
        with pytest.raises(SessionBusyError, match="at version 0"):
            await store.delete("s", expected_version=version)

    @pytest.mark.parametrize("operation", OPERATIONS)
    @pytest.mark.parametrize("session_id", ["", "a b", "a\n", "ä", "a%", "x" * 201, "a\0"])
    async def test_a_wrong_session_id_is_refused(self, store: Store, operation: str, session_id: str) -> None:
        with pytest.raises(ConfigurationError, match="a session id "):
            await OPERATIONS[operation](store, session_id)

    async def test_an_impossible_prefix_is_refused(self, store: Store) -> None:
        with pytest.raises(ConfigurationError, match="got '%' at position 5"):
            await store.list("alice%")

    async def test_the_longest_session_id_is_accepted(self, store: Store) -> None:
        await store.commit("x" * 200, expected_version=0, header=HEADER, entries=[])
        assert await store.load("x" * 200) is not None

    @pytest.mark.parametrize("operation", OPERATIONS)
    async def test_a_closed_store_says_so(self, store: Store, operation: str) -> None:
        await store.close()
        await store.close()
        with pytest.raises(StoreError, match="is closed"):
            await OPERATIONS[operation](store, "s")

    async def test_what_is_stored_does_not_change_with_the_caller_s_objects(self, store: Store) -> None:
        arguments = {"place": "Paris"}
        call = ToolCall(id="1", name="lookup", arguments=arguments)
        entry = Entry(message=await cleared(Message.assistant("", tool_calls=(call,))), ids=(1,), turn=1)
        await store.commit("s", expected_version=0, header=HEADER, entries=[entry])
        arguments["place"] = "Lyon"
        stored = await loaded(store, "s")
        assert stored.entries[0].message.tool_calls[0].arguments == {"place": "Paris"}

    async def test_a_message_that_is_not_json_is_refused_and_changes_nothing(self, store: Store) -> None:
        call = ToolCall(id="1", name="lookup", arguments={"place": object()})
        wrong = Entry(message=await cleared(Message.assistant("", tool_calls=(call,))), ids=(), turn=2)
        with pytest.raises(StoreError, match="role assistant cannot be written as JSON"):
            await store.commit("s", expected_version=0, header=HEADER, entries=[*await turns(1), wrong])
        assert await store.load("s") is None

    @pytest.mark.parametrize(
        "content", ["", "\0", "\ud800", "\ud83d\ude00", "😀", "\u2028 \r\n", "x" * 100_000]
    )
    async def test_any_text_comes_back(self, store: Store, content: str) -> None:
        entry = Entry(message=await cleared(Message.user(content)), ids=(0, 2**31 - 1), turn=1)
        await store.commit("s", expected_version=0, header=HEADER, entries=[entry])
        assert (await loaded(store, "s")).entries == as_stored([entry])
