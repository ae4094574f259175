"""What a sequence classifier says about a text, window by window. Knows no classifier and loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# Prompt Guard was trained on 512 tokens: 510 of text between the two that mark its ends.
MAX_WINDOW: Final = 512
OVERLAP: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What one look at a text gave: probabilities by label, and the characters `[start, end)` it covered."""

    start: int
    end: int
    probabilities: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """How probable some labels are in one window, and the characters `[start, end)` of that window."""

    probability: float
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """The windows of one text, in reading order; there is at least one."""

    windows: tuple[Window, ...]

    def peaks(self, *labels: str) -> tuple[Peak, ...]:
        """Return how probable one of the labels, which exclude each other, is in each window."""
        return tuple(
            Peak(
                probability=min(1.0, sum(window.probabilities[label] for label in labels)),
                start=window.start,
                end=window.end,
            )
            for window in self.windows
        )

    def peak(self, *labels: str) -> Peak:
        """Return where the text most probably has one of the labels."""
        return max(self.peaks(*labels), key=lambda peak: peak.probability)
