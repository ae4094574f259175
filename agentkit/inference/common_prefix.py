"""How many leading ids two sequences have in common."""

from __future__ import annotations

from collections.abc import Sequence


def common_length(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many leading ids are equal; both are tuples, or both lists.

    Whole slices compare in C, so halving beats counting.
    """
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def find_last(ids: Sequence[int], part: Sequence[int], *, start: int = 0) -> int | None:
    """Return where `part` stands in `ids[start:]` the last time, as a place in `ids`; None where it does not."""
    if not part:
        return None
    wanted = list(part)
    for place in range(len(ids) - len(wanted), start - 1, -1):
        if ids[place] == wanted[0] and list(ids[place : place + len(wanted)]) == wanted:
            return place
    return None
