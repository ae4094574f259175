"""Sandboxed sessions for tests, and what of them is left on the host."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentkit import SandboxLimits
from agentkit.tools.sandbox.base import SandboxSession
from agentkit.tools.sandbox.bubblewrap import Bubblewrap, bubblewrap_problem
from agentkit.tools.sandbox.monty import Monty, monty_problem

MIB = 2**20

needs_bubblewrap = pytest.mark.skipif(
    bubblewrap_problem() is not None, reason=f"needs a working bubblewrap: {bubblewrap_problem()}"
)
needs_monty = pytest.mark.skipif(monty_problem() is not None, reason=str(monty_problem()))


def small_limits(**changed: float) -> SandboxLimits:
    """Limits that an attempt to break them meets within a second or two."""
    usual: dict[str, float] = {
        "seconds": 10.0,
        "memory_bytes": 256 * MIB,
        "disk_bytes": 8 * MIB,
        "files": 100,
    }
    return SandboxLimits(**{**usual, **changed})  # type: ignore[arg-type]  # integers stay integers


@asynccontextmanager
async def bubblewrap_session(**changed: float) -> AsyncIterator[SandboxSession]:
    session = Bubblewrap().open(small_limits(**changed))
    try:
        yield session
    finally:
        await session.close()


@asynccontextmanager
async def monty_session(**changed: float) -> AsyncIterator[SandboxSession]:
    session = Monty().open(small_limits(**changed))
    try:
        yield session
    finally:
        await session.close()


def sandboxed_processes() -> dict[int, str]:
    """The processes in a sandbox that this one started, each with the namespace of its process ids."""
    mine = _namespace(os.getpid())
    spaces = {pid: _namespace(pid) for pid in _descendants(os.getpid())}
    return {pid: space for pid, space in spaces.items() if space not in ("", mine)}


def left_in(namespaces: set[str]) -> list[int]:
    """The processes of the whole machine that are in one of the namespaces, but for those that have ended."""
    inside = [pid for pid in _all_processes() if _namespace(pid) in namespaces]
    return [pid for pid in inside if _status(pid, "State") not in ("Z", None)]


def _descendants(root: int) -> set[int]:
    parents = {pid: _status(pid, "PPid") for pid in _all_processes()}
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent and int(parent) in found} - found:
        found |= more
    return found - {root}


def _all_processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _status(pid: int, name: str) -> str | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""  # it has ended
