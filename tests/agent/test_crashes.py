"""Processes killed anywhere in a turn: nothing is done twice or lost by those who go on, and doubts are told."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from tests.agent.crash_check import check_told, left_by
from tests.agent.crash_turn import Life, Mode, World
from tests.agent.proving import Forges, Proving, after, at_point, two_forges


@pytest.fixture(scope="module")
def forges() -> Iterator[Forges]:
    with two_forges() as forges:
        yield forges


@pytest.mark.parametrize(
    ("script", "mode"), [(0, "never again"), (1, "never again"), (2, "again"), (4, "later")]
)
def test_a_kill_at_any_point_is_survived(tmp_path: Path, forges: Forges, script: int, mode: Mode):
    proving = Proving(forges, tmp_path, Life(folder="", store="", script=script, mode=mode))
    assert proving.num_points > 60
    unknown = proving.unknown_after([at_point(number + 1) for number in range(proving.num_points)])
    repeated = [number for number in proving.effects() if number > 6]
    assert any(unknown) == (mode != "again")
    assert any(repeated) == (mode == "again")


def test_a_kill_at_any_time_is_survived(tmp_path: Path, forges: Forges):
    proving = Proving(forges, tmp_path, Life(folder="", store="", script=3))
    draw = random.Random(3)
    proving.unknown_after([after(draw.uniform(0.0, 0.3)) for _ in range(30)])


def test_a_disk_that_is_full_at_any_write_is_survived(tmp_path: Path, forges: Forges):
    """The same process goes on: a turn that could be ended has ended, another is resumed."""
    proving = Proving(forges, tmp_path, Life(folder="", store="", script=6))
    errors: list[str] = []
    endings: list[str] = []
    for size in range(20_000, 500_000, 24_000):
        life = proving.begin(f"{size}-bytes")
        assert proving.run(replace(life, max_file_bytes=size))
        world = World(Path(life.folder))
        stored, statuses = anyio.run(left_by, life)
        check_told(stored.entries if stored else (), world)
        errors += [error["message"] for error in world.read("errors")]
        endings += statuses
    assert len(errors) == 20
    assert all("cannot be read or written; check its disk" in error for error in errors)
    assert set(endings) == {"completed", "failed"}
