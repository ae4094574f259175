"""Kills a conversation in many ways and lets others end it, two at a time; accepts only what must hold after each."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TypeAlias

import anyio

from tests.agent.crash_check import check_same, check_told, left_by
from tests.agent.crash_turn import Life, World
from tests.agent.crashing import Forge

Kill: TypeAlias = Callable[[Life], Life]
Forges: TypeAlias = SimpleQueue[Forge]
"""As many forges as run side by side; whoever needs one takes it and puts it back."""


@contextmanager
def two_forges() -> Iterator[Forges]:
    """Keep two forges in the block."""
    with Forge() as first, Forge() as second:
        queue: Forges = SimpleQueue()
        queue.put(first)
        queue.put(second)
        yield queue


def at_point(number: int) -> Kill:
    """Kill at a point of the process, counted from 1."""
    return partial(replace, kill_at=number)


def after(seconds: float) -> Kill:
    """Kill at a time."""
    return partial(replace, kill_after=seconds)


class Proving:
    """Kills one conversation again and again, each time from its begin in a folder of its own.

    Where the life names no store, each has a file.
    """

    def __init__(self, forges: Forges, folder: Path, life: Life) -> None:
        self._forges = forges
        self._folder = folder
        self._life = life
        whole = self.begin("unkilled")
        assert self.run(whole)
        self._unkilled, self._statuses = anyio.run(left_by, whole)
        self.num_points: int = World(Path(whole.folder)).read("lives")[0]["points"]

    def unknown_after(self, kills: Sequence[Kill]) -> list[list[str]]:
        """Return, for each kill, the calls that were told to be unknown once the conversation came to its end."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(self._survive, range(len(kills)), kills))

    def effects(self) -> list[int]:
        """Return how many effects there were after each kill."""
        return [len(World(folder).read("effects")) for folder in self._folder.iterdir()]

    def _survive(self, number: int, kill: Kill) -> list[str]:
        draw = random.Random(number)
        life = self.begin(str(number))
        ended = self.run(kill(life))
        for _ in range(3):
            if not ended and draw.random() < 0.3:
                ended = self.run(replace(life, kill_at=draw.randint(1, self.num_points // 2)))
        if not ended:
            assert self.run(life)
        stored, statuses = anyio.run(left_by, life)
        assert stored
        assert self._unkilled
        assert statuses == self._statuses
        world = World(Path(life.folder))
        unknown = check_told(stored.entries, world)
        check_same(stored, world, unknown, unkilled=self._unkilled)
        return unknown

    def begin(self, name: str) -> Life:
        """Return a new begin of the conversation, under a tenant of its own."""
        folder = self._folder / name
        folder.mkdir()
        store = self._life.store or f"sqlite:///{folder}/store.db"
        return replace(self._life, folder=str(folder), store=store, session=f"{name}/1")

    def run(self, life: Life) -> bool:
        """Run one life; return whether it came to its end."""
        forge = self._forges.get()
        try:
            return forge.run(life)
        finally:
            self._forges.put(forge)
