"""What every store must do. A store's test subclasses `StoreConformance` and says how to make one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from anyio.lowlevel import checkpoint

from agentkit.errors import ConfigurationError, SessionBusyError, StoreError
from agentkit.memory import Entry, Store
from agentkit.messages import Message, ToolCall
from tests.clearing import cleared
from tests.memory.samples import HEADER, as_stored, turns

OPERATIONS = {
    "load": lambda store, session_id: store.load(session_id),
    "commit": lambda store, session_id: store.commit(
        session_id, expected_version=0, header=HEADER, entries=[]
    ),
    "fork from": lambda store, session_id: store.fork(session_id, "target"),
    "fork to": lambda store, session_id: store.fork("source", session_id),
    "delete": lambda store, session_id: store.delete(session_id),
}


class StoreConformance:
    def make_store(self, folder: Path) -> Store:
        raise NotImplementedError

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        store = self.make_store(tmp_path)
        yield store
        await store.close()

    async def test_a_committed_session_loads_as_it_was(self, store: Store):
        entries = await turns(1, 2)
        version = await store.commit("alice/1", expected_version=0, header=HEADER, entries=entries)
        stored = await store.load("alice/1")
        assert stored is not None
        assert (stored.id, stored.version, stored.header) == ("alice/1", version, HEADER)
        assert stored.entries == as_stored(entries)

    async def test_an_unknown_session_loads_as_none(self, store: Store):
        assert await store.load("nobody") is None

    async def test_a_commit_appends_raises_the_version_and_replaces_the_header(self, store: Store):
        first = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        header = replace(HEADER, model="other", date=None)
        second = await store.commit("s", expected_version=first, header=header, entries=await turns(2))
        stored = await store.load("s")
        assert stored is not None
        assert 0 < first < second == stored.version
        assert stored.header == header
        assert stored.entries == as_stored(await turns(1, 2))

    async def test_a_commit_without_entries_makes_an_empty_session(self, store: Store):
        await store.commit("s", expected_version=0, header=HEADER, entries=[])
        stored = await store.load("s")
        assert stored is not None
        assert stored.entries == ()

    async def test_a_stale_version_is_refused_with_both_numbers_and_changes_nothing(self, store: Store):
        first = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        second = await store.commit("s", expected_version=first, header=HEADER, entries=await turns(2))
        before = await store.load("s")
        with pytest.raises(SessionBusyError, match=rf"'s' is at version {second}, .* version {first}:"):
            await store.commit("s", expected_version=first, header=HEADER, entries=await turns(3))
        assert await store.load("s") == before

    async def test_a_session_is_new_only_once(self, store: Store):
        await store.commit("s", expected_version=0, header=HEADER, entries=[])
        with pytest.raises(SessionBusyError):
            await store.commit("s", expected_version=0, header=HEADER, entries=[])

    async def test_of_many_commits_at_once_exactly_one_wins(self, store: Store):
        outcomes: list[bool] = []
        entries = await turns(1)

        async def commit() -> None:
            try:
                await store.commit("s", expected_version=0, header=HEADER, entries=entries)
            except SessionBusyError:
                outcomes.append(False)
            else:
                outcomes.append(True)

        async with anyio.create_task_group() as group:
            for _ in range(12):
                group.start_soon(commit)
        stored = await store.load("s")
        assert sorted(outcomes) == [False] * 11 + [True]
        assert stored is not None
        assert stored.entries == as_stored(entries)

    async def test_a_session_made_anew_is_not_taken_for_the_deleted_one(self, store: Store):
        old = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        await store.delete("s")
        with pytest.raises(SessionBusyError, match="at version 0"):
            await store.commit("s", expected_version=old, header=HEADER, entries=[])
        await store.commit("s", expected_version=0, header=HEADER, entries=await turns(7))
        with pytest.raises(SessionBusyError):
            await store.commit("s", expected_version=old, header=HEADER, entries=await turns(2))

    async def test_what_was_loaded_cannot_be_committed_without_being_judged_again(self, store: Store):
        version = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        stored = await store.load("s")
        assert stored is not None
        with pytest.raises(TypeError, match="only cleared content, got Message"):
            await store.commit(
                "s", expected_version=version, header=HEADER, entries=cast("Any", stored.entries)
            )
        assert await store.load("s") == stored

    @pytest.mark.parametrize("replace_from", [0, 2, 3])
    async def test_a_commit_can_replace_the_tail(self, store: Store, replace_from: int):
        version = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        tail = await turns(2, 3)
        await store.commit(
            "s", expected_version=version, header=HEADER, entries=tail, replace_from=replace_from
        )
        stored = await store.load("s")
        assert stored is not None
        assert stored.entries == as_stored([*(await turns(1))[:replace_from], *tail])

    @pytest.mark.parametrize("replace_from", [-1, 4])
    async def test_replacing_from_beyond_the_end_is_refused_and_changes_nothing(
        self, store: Store, replace_from: int
    ):
        version = await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        before = await store.load("s")
        with pytest.raises(StoreError, match=f"has 3 entries, cannot replace from {replace_from}"):
            await store.commit(
                "s", expected_version=version, header=HEADER, entries=[], replace_from=replace_from
            )
        assert await store.load("s") == before

    async def test_a_fork_has_what_its_source_had_and_goes_its_own_way(self, store: Store):
        await store.commit("source", expected_version=0, header=HEADER, entries=await turns(1))
        await store.fork("source", "branch")
        branch = await store.load("branch")
        assert branch is not None
        await store.commit("branch", expected_version=branch.version, header=HEADER, entries=await turns(2))
        source, branch = await store.load("source"), await store.load("branch")
        assert source is not None
        assert branch is not None
        assert source.entries == as_stored(await turns(1))
        assert branch.entries == as_stored(await turns(1, 2))
        assert branch.header == HEADER

    async def test_a_fork_needs_a_source_and_a_free_target(self, store: Store):
        with pytest.raises(StoreError, match="no session 'missing' to fork"):
            await store.fork("missing", "branch")
        await store.commit("source", expected_version=0, header=HEADER, entries=[])
        with pytest.raises(StoreError, match="session 'source' exists"):
            await store.fork("source", "source")
        assert [info.id for info in await store.list()] == ["source"]

    async def test_sessions_are_listed_by_prefix_in_order_with_their_counts(self, store: Store):
        start = datetime.now(UTC)
        for session_id in ("alice_/2", "alice/2", "bob/1", "alice/1", "alicex/1"):
            await store.commit(session_id, expected_version=0, header=HEADER, entries=await turns(1))
        loaded = await store.load("alice/2")
        assert loaded is not None
        version = await store.commit(
            "alice/2", expected_version=loaded.version, header=HEADER, entries=await turns(2)
        )
        everything = [info.id for info in await store.list()]
        assert everything == ["alice/1", "alice/2", "alice_/2", "alicex/1", "bob/1"]
        assert [info.id for info in await store.list("alice_")] == ["alice_/2"]
        infos = await store.list("alice/")
        assert [(info.id, info.turns, info.entries) for info in infos] == [
            ("alice/1", 1, 3),
            ("alice/2", 2, 6),
        ]
        assert infos[1].version == version
        assert start <= infos[1].created < infos[1].updated <= datetime.now(UTC)

    async def test_an_empty_session_is_listed(self, store: Store):
        await store.commit("s", expected_version=0, header=HEADER, entries=[])
        assert [(info.turns, info.entries) for info in await store.list()] == [(0, 0)]

    async def test_a_deleted_session_is_gone(self, store: Store):
        await store.commit("s", expected_version=0, header=HEADER, entries=await turns(1))
        assert await store.delete("s") is True
        assert await store.delete("s") is False
        assert await store.load("s") is None
        assert await store.list() == []
        await store.commit("s", expected_version=0, header=HEADER, entries=await turns(4))
        stored = await store.load("s")
        assert stored is not None
        assert stored.entries == as_stored(await turns(4))

    @pytest.mark.parametrize("operation", OPERATIONS)
    @pytest.mark.parametrize("session_id", ["", "a b", "a\n", "ä", "a%", "x" * 201, "a\0"])
    async def test_a_wrong_session_id_is_refused(self, store: Store, operation: str, session_id: str):
        with pytest.raises(ConfigurationError, match="a session id "):
            await OPERATIONS[operation](store, session_id)

    async def test_an_impossible_prefix_is_refused(self, store: Store):
        with pytest.raises(ConfigurationError, match="got '%' at position 5"):
            await store.list("alice%")

    async def test_the_longest_session_id_is_accepted(self, store: Store):
        await store.commit("x" * 200, expected_version=0, header=HEADER, entries=[])
        assert await store.load("x" * 200) is not None

    @pytest.mark.parametrize("operation", OPERATIONS)
    async def test_a_closed_store_says_so(self, store: Store, operation: str):
        await store.close()
        await store.close()
        with pytest.raises(StoreError, match="is closed"):
            await OPERATIONS[operation](store, "s")

    async def test_what_is_stored_does_not_change_with_the_caller_s_objects(self, store: Store):
        arguments = {"place": "Paris"}
        call = ToolCall(id="1", name="lookup", arguments=arguments)
        entry = Entry(message=await cleared(Message.assistant("", tool_calls=(call,))), ids=(1,), turn=1)
        await store.commit("s", expected_version=0, header=HEADER, entries=[entry])
        arguments["place"] = "Lyon"
        stored = await store.load("s")
        assert stored is not None
        assert stored.entries[0].message.tool_calls[0].arguments == {"place": "Paris"}

    async def test_a_message_that_is_not_json_is_refused_and_changes_nothing(self, store: Store):
        call = ToolCall(id="1", name="lookup", arguments={"place": object()})
        wrong = Entry(message=await cleared(Message.assistant("", tool_calls=(call,))), ids=(), turn=2)
        with pytest.raises(StoreError, match="role assistant cannot be written as JSON"):
            await store.commit("s", expected_version=0, header=HEADER, entries=[*await turns(1), wrong])
        assert await store.load("s") is None

    @pytest.mark.parametrize(
        "content", ["", "\0", "\ud800", "\ud83d\ude00", "😀", "\u2028 \r\n", "x" * 100_000]
    )
    async def test_any_text_comes_back(self, store: Store, content: str):
        entry = Entry(message=await cleared(Message.user(content)), ids=(0, 2**31 - 1), turn=1)
        await store.commit("s", expected_version=0, header=HEADER, entries=[entry])
        stored = await store.load("s")
        assert stored is not None
        assert stored.entries == as_stored([entry])

    async def test_a_cancelled_commit_leaves_all_or_nothing_and_a_usable_store(self, store: Store):
        version, cancelled = 0, 0
        committed: list[Entry] = []
        for attempt in range(30):
            entries = await turns(attempt)
            with anyio.move_on_after(attempt / 2_000) as scope:
                await store.commit("s", expected_version=version, header=HEADER, entries=entries)
                await checkpoint()
            cancelled += scope.cancelled_caught
            stored = await store.load("s")
            if stored is not None and stored.version != version:
                version = stored.version
                committed += entries
            assert (stored.entries if stored else ()) == as_stored(committed)
        assert cancelled > 0
        assert committed
