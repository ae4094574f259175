"""How many rounds fit into the time that a run has. Knows no engine and no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator


def rounds_within(end: float, most: int, now: Callable[[], float]) -> Iterator[int]:
    """Number the rounds: after the first, none begins that would last beyond `end` if it took as long as any did."""
    longest = 0.0
    for number in range(most):
        begun = now()
        if number and begun + longest > end:
            return
        yield number
        longest = max(longest, now() - begun)
