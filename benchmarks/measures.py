"""Shares with their intervals, and times, as the benchmarks of shields report them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from agentkit.shields.probe_quality import Share


def wilson(hits: int, total: int) -> str:
    """Return a share in percent with its 95% interval."""
    if not total:
        return "-"
    return str(Share(hits=hits, total=total))


def milliseconds(judge: Callable[[str], object], texts: Iterable[str]) -> NDArray[np.float64]:
    """Return how long each text takes."""
    times: list[float] = []
    for text in texts:
        before = time.perf_counter()
        judge(text)
        times.append(1000 * (time.perf_counter() - before))
    return np.array(times)
