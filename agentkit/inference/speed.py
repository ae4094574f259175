"""How fast something goes here, by running measure. Knows not what."""

from __future__ import annotations

_WEIGHT_OF_THE_LAST = 0.3


class Speed:
    """Seconds per unit: recent measures count most, so that a busy machine shows."""

    def __init__(self) -> None:
        self._seconds_per_unit: float | None = None

    def measured(self, units: int, seconds: float) -> None:
        """Take a measure of at least one unit."""
        last, known = seconds / units, self._seconds_per_unit
        self._seconds_per_unit = last if known is None else known + _WEIGHT_OF_THE_LAST * (last - known)

    def seconds_for(self, units: int) -> float | None:
        """Return how long so many units are likely to take; None where nothing was measured."""
        return None if self._seconds_per_unit is None else units * self._seconds_per_unit
