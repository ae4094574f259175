"""Shares with their intervals, and times, as the benchmarks of shields report them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray


def wilson(hits: int, total: int) -> str:
    """Return a share in percent with its 95% interval."""
    if not total:
        return "-"
    z, share = 1.96, hits / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return f"{100 * share:.1f}% [{100 * max(0.0, centre - half):.1f}, {100 * min(1.0, centre + half):.1f}]"


def milliseconds(judge: Callable[[str], object], texts: Iterable[str]) -> NDArray[np.float64]:
    """Return how long each text takes."""
    times: list[float] = []
    for text in texts:
        before = time.perf_counter()
        judge(text)
        times.append(1000 * (time.perf_counter() - before))
    return np.array(times)
