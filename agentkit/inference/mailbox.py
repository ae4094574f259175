"""Carries values from the worker thread to one task. Never blocks the sender; knows no requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from agentkit.errors import InferenceError

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Belongs to the loop that made it. Unbounded: a slow reader delays nobody but itself."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[T | Exception] = asyncio.Queue()

    def send(self, value: T | Exception) -> bool:
        """Deliver from any thread; `receive` raises exceptions. Returns False if the reader's loop is closed."""
        try:
            self._loop.call_soon_threadsafe(self._arrived.put_nowait, value)
        except RuntimeError:
            return False
        return True

    def answer(self, job: Callable[[], T]) -> None:
        """Run the job in this thread and deliver what it returns or raises."""
        try:
            self.send(job())
        except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to the one who waits
            self.send(error)
        except BaseException as error:  # noqa: BLE001  # a panic in a Rust library; raised, it would end the thread
            failure = InferenceError(f"the engine failed: {type(error).__name__}")
            failure.__cause__ = error
            self.send(failure)

    async def receive(self) -> T:
        """Wait for the next value, in the order of sending."""
        value = await self._arrived.get()
        if isinstance(value, Exception):
            raise value
        return value
