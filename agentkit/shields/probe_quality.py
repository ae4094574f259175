"""How well scores tell two labels apart: AUC, recall within a budget of false alarms, and the ROC curve as a plot."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SIDE: Final = 400
_MARGIN: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """So many of so many, and Wilson's interval of the share at 95%."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        """The share itself; 0 of 0 is 0."""
        return self.hits / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Where the share of all such texts lies."""
        if not self.total:
            return 0.0, 1.0
        z, share, total = 1.96, self.value, self.total
        centre = (share + z * z / (2 * total)) / (1 + z * z / total)
        half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
        return max(0.0, centre - half), min(1.0, centre + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.value:.1f}% [{100 * low:.1f}, {100 * high:.1f}]"


def flagged(scores: Floats, threshold: float) -> Share:
    """Return how many scores reach a threshold."""
    return Share(hits=int((scores >= threshold).sum()), total=len(scores))


def auc(positives: Floats, negatives: Floats) -> float:
    """Return how often a positive scores above a negative; ties count half."""
    below = np.searchsorted(np.sort(negatives), positives, "left")
    upto = np.searchsorted(np.sort(negatives), positives, "right")
    return float((below + upto).sum() / (2 * len(positives) * len(negatives)))


def recall_within(budget: float, positives: Floats, negatives: Floats) -> Share:
    """Return how many positives score above all but this share of the negatives."""
    falling = np.sort(negatives)[::-1]
    limit = falling[int(budget * len(falling))]
    return Share(hits=int((positives > limit).sum()), total=len(positives))


def roc_points(positives: Floats, negatives: Floats) -> list[tuple[float, float]]:
    """Return (false alarms, recall) at every threshold that changes one of them, from none flagged to all."""
    thresholds = np.unique(np.concatenate([positives, negatives]))[::-1]
    reached = [((negatives >= one).mean(), (positives >= one).mean()) for one in thresholds]
    return [(0.0, 0.0), *((float(alarms), float(recall)) for alarms, recall in reached)]


def roc_svg(positives: Floats, negatives: Floats, *, title: str) -> str:
    """Return the ROC curve as an SVG drawing."""
    size = _SIDE + 2 * _MARGIN
    ticks = "".join(_tick(share / 4) for share in range(5))
    curve = " ".join(
        f"{_x(alarms):.1f},{_y(recall):.1f}" for alarms, recall in roc_points(positives, negatives)
    )
    escaped = title.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" font-family="sans-serif" font-size="12">'
        f'<rect width="{size}" height="{size}" fill="white"/>'
        f'<text x="{size / 2}" y="24" text-anchor="middle" font-size="14">{escaped}, AUC '
        f"{auc(positives, negatives):.3f}</text>{ticks}"
        f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="#bbb" stroke-dasharray="4"/>'
        f'<rect x="{_MARGIN}" y="{_MARGIN}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="black"/>'
        f'<polyline points="{curve}" fill="none" stroke="#1f5fbf" stroke-width="2"/>'
        f'<text x="{size / 2}" y="{size - 8}" text-anchor="middle">false alarms</text>'
        f'<text x="14" y="{size / 2}" text-anchor="middle" transform="rotate(-90 14 {size / 2})">recall</text></svg>\n'
    )


def _tick(share: float) -> str:
    return (
        f'<text x="{_x(share)}" y="{_y(0) + 16}" text-anchor="middle">{100 * share:.0f}%</text>'
        f'<text x="{_x(0) - 6}" y="{_y(share) + 4}" text-anchor="end">{100 * share:.0f}%</text>'
    )


def _x(share: float) -> float:
    return _MARGIN + _SIDE * share


def _y(share: float) -> float:
    return _MARGIN + _SIDE * (1.0 - share)
