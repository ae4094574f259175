"""Turns that end in the middle: the store is copied while they run, and a copy is what a kill at that point leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agentkit import Tool, current_call, tool
from agentkit.memory import SQLiteStore
from tests.agent.support import scripted


class Errands:
    """Tools that write down what they did, and a turn that is interrupted: `left` is what the store then held."""

    def __init__(self, folder: Path) -> None:
        self.store = SQLiteStore(folder / "store.db")
        self.left = SQLiteStore(folder / "left.db")
        self.done: list[str] = []
        self.keys: list[str] = []

    def tools(self) -> list[Tool]:
        """Return `send`, which writes, `book`, which is idempotent, and `look`, which reads."""

        @tool(effect="write")
        async def send(text: str) -> str:
            """Send a text."""
            return await self._do(text)

        @tool(effect="write", idempotent=True)
        async def book(text: str) -> str:
            """Book a thing."""
            return await self._do(text)

        @tool(effect="read")
        async def look(text: str) -> str:
            """Look at a thing."""
            return await self._do(text)

        return [send, book, look]

    async def interrupt(
        self, *replies: str, write: int | None = None, options: dict[str, Any] | None = None, **of_agent: Any
    ) -> None:
        """Run a turn of session `t/1`, interrupted in the call about "b", or right after a write of the store.

        `done` begins anew after it.
        """
        store = self.store if write is None else CopiedStore(self.store, self.left.path, after=write)
        agent, _ = scripted(*replies, **{"tools": self.tools(), "store": store, **of_agent})
        async with agent:
            await agent.session("t/1").run("Go", **options or {})
        await self.store.close()
        self.done.clear()

    async def _do(self, text: str) -> str:
        self.done.append(text)
        self.keys.append(current_call().idempotency_key)
        if text == "b" and not self.left.path.exists():
            await self.store.backup(self.left.path)
        return f"done with {text}"


class CopiedStore:
    """A store that is copied after a write; it counts from 1."""

    def __init__(self, store: SQLiteStore, copy: Path, *, after: int) -> None:
        self._store = store
        self._copy = copy
        self._left = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, *args: Any, **options: Any) -> int:
        """Append, and copy when it is time."""
        version = await self._store.append(*args, **options)
        self._left -= 1
        if self._left == 0:
            await self._store.backup(self._copy)
        return version
