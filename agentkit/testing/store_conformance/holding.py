"""One holder at a time for each session; the others are told at once."""

# ruff: noqa: S101, D102  # tests: their names say it, and assert is how they do
from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from agentkit.errors import SessionBusyError
from agentkit.memory import Store
from agentkit.testing.store_conformance.suite import StoreSuite
from agentkit.testing.store_samples import HEADER


class HoldingTests(StoreSuite):
    """See the module."""

    async def test_a_session_is_held_by_one(self, store: Store) -> None:
        async with store.hold("s"):
            with pytest.raises(SessionBusyError, match="session 's' is in use by another run"):
                async with store.hold("s"):
                    pytest.fail("it was held twice")
            async with store.hold("t"), store.hold("S"):
                pass
        async with store.hold("s"):
            pass

    async def test_holding_makes_no_session_and_hinders_no_operation(self, store: Store) -> None:
        async with store.hold("s"):
            assert await store.load("s") is None
            version = await store.commit("s", expected_version=0, header=HEADER, entries=[])
            assert await store.version("s") == version
            assert await store.delete("s") is True

    async def test_of_many_at_once_exactly_one_holds(self, store: Store) -> None:
        outcomes: list[str] = []
        all_tried = anyio.Event()

        def note(outcome: str) -> None:
            outcomes.append(outcome)
            if len(outcomes) == 8:
                all_tried.set()

        async def hold() -> None:
            try:
                async with store.hold("s"):
                    note("held")
                    await all_tried.wait()
            except SessionBusyError:
                note("busy")

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(hold)
        assert sorted(outcomes) == ["busy"] * 7 + ["held"]

    async def test_a_holder_that_fails_lets_go(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError):
            async with store.hold("s"):
                raise ZeroDivisionError
        async with store.hold("s"):
            pass

    @pytest.mark.parametrize("steps", range(12))
    async def test_a_holder_that_is_cancelled_lets_go(self, store: Store, steps: int) -> None:
        async def hold() -> None:
            async with store.hold("s"):
                await anyio.sleep_forever()

        async with anyio.create_task_group() as group:
            group.start_soon(hold)
            for _ in range(steps):
                await checkpoint()
            group.cancel_scope.cancel()
        async with store.hold("s"):
            pass
