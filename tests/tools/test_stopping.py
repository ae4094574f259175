"""What runs out of time, or is cancelled, stops working: in a coroutine, in a thread, and in what either began."""

from __future__ import annotations

import threading
from time import sleep

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from agentkit.tools import Executor, Tool, Toolset, ToolStatus, tool
from tests.tools.calling import cleared


class Work:
    """Works on and on, in three ways; `stopped` says that it has ended."""

    def __init__(self) -> None:
        self.stopped = threading.Event()

    async def in_a_coroutine(self) -> None:
        """Work."""
        try:
            await anyio.sleep_forever()
        finally:
            self.stopped.set()

    async def in_tasks(self) -> None:
        """Work."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.in_a_coroutine)

    def in_a_thread_that_checks(self) -> None:
        """Work."""
        try:
            while True:
                sleep(0.01)
                anyio.from_thread.check_cancelled()
        finally:
            self.stopped.set()


@pytest.mark.parametrize("ending", ["timeout", "cancellation"])
@pytest.mark.parametrize("how", ["in_a_coroutine", "in_tasks", "in_a_thread_that_checks"])
async def test_work_stops_with_its_call(how: str, ending: str):
    work = Work()
    made: Tool = tool(getattr(work, how), effect="read", timeout=0.1 if ending == "timeout" else 60)
    with anyio.move_on_after(0.1 if ending == "cancellation" else None):
        outcome = await Executor(Toolset([made])).run(cleared(how))
        assert outcome.status is ToolStatus.TIMEOUT

    assert await anyio.to_thread.run_sync(work.stopped.wait, 5)
