"""Processes killed anywhere in a turn: nothing is done twice or lost by those who go on, and doubts are told."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import anyio
import pytest

from tests.agent.crash_check import check_same, check_told, left_by
from tests.agent.crash_turn import Life, Mode, World
from tests.agent.crashing import Forge

Kill = Callable[[Life], Life]


@pytest.fixture(scope="module")
def forges() -> Iterator[SimpleQueue[Forge]]:
    """As many forges as run side by side; whoever needs one takes it and puts it back."""
    with Forge() as first, Forge() as second:
        queue: SimpleQueue[Forge] = SimpleQueue()
        queue.put(first)
        queue.put(second)
        yield queue


class Proving:
    """Kills one conversation again and again, each time from its begin in a folder of its own."""

    def __init__(self, forges: SimpleQueue[Forge], folder: Path, life: Life) -> None:
        self._forges = forges
        self._folder = folder
        self._life = life
        whole = self.begin("unkilled")
        assert self.run(whole)
        self._unkilled, self._statuses = anyio.run(left_by, whole)
        self.num_points: int = World(Path(whole.folder)).read("lives")[0]["points"]

    def unknown_after(self, kills: list[Kill]) -> list[list[str]]:
        """Return, for each kill, the calls that were told to be unknown once the conversation came to its end."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(self._survive, range(len(kills)), kills))

    def effects(self) -> list[int]:
        """Return how many effects there were after each kill."""
        return [len(world.read("effects")) for world in self.worlds()]

    def worlds(self) -> list[World]:
        """Return what happened outside, for each kill."""
        return [World(folder) for folder in self._folder.iterdir()]

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
        folder = self._folder / name
        folder.mkdir()
        return replace(self._life, folder=str(folder), store=f"sqlite:///{folder}/store.db")

    def run(self, life: Life) -> bool:
        forge = self._forges.get()
        try:
            return forge.run(life)
        finally:
            self._forges.put(forge)


def at_point(number: int) -> Kill:
    return partial(replace, kill_at=number)


def after(seconds: float) -> Kill:
    return partial(replace, kill_after=seconds)


@pytest.mark.parametrize(
    ("script", "mode"), [(0, "never again"), (1, "never again"), (2, "again"), (4, "later")]
)
def test_a_kill_at_any_point_is_survived(tmp_path: Path, forges: SimpleQueue[Forge], script: int, mode: Mode):
    proving = Proving(forges, tmp_path, Life(folder="", store="", script=script, mode=mode))
    assert proving.num_points > 60
    unknown = proving.unknown_after([at_point(number + 1) for number in range(proving.num_points)])
    repeated = [number for number in proving.effects() if number > 6]
    assert any(unknown) == (mode != "again")
    assert any(repeated) == (mode == "again")


def test_a_kill_at_any_time_is_survived(tmp_path: Path, forges: SimpleQueue[Forge]):
    proving = Proving(forges, tmp_path, Life(folder="", store="", script=3))
    draw = random.Random(3)
    proving.unknown_after([after(draw.uniform(0.0, 0.3)) for _ in range(30)])


def test_a_disk_that_is_full_at_any_write_is_survived(tmp_path: Path, forges: SimpleQueue[Forge]):
    """The same process goes on: a turn that could be ended has ended, another is resumed."""
    proving = Proving(forges, tmp_path, Life(folder="", store="", script=6))
    errors: list[str] = []
    endings: list[str] = []
    for size in range(20_000, 500_000, 24_000):
        life = proving.begin(f"{size} bytes")
        assert proving.run(replace(life, max_file_bytes=size))
        world = World(Path(life.folder))
        stored, statuses = anyio.run(left_by, life)
        check_told(stored.entries if stored else (), world)
        errors += [error["message"] for error in world.read("errors")]
        endings += statuses
    assert len(errors) == 20
    assert all("cannot be read or written; check its disk" in error for error in errors)
    assert set(endings) == {"completed", "failed"}
