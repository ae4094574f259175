"""Prompt lookup: what followed the last tokens where they stood before. Knows no model; it foretells, and may be wrong.

An index from pairs of ids to where they ended lately, kept as a chain through all earlier places like that of a
compressor's window. A token costs one entry; a search looks at a bounded number of places, and is made only where the
place found before has gone wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

PLACES = 32
"""So many earlier places of the last two ids are looked at, the latest first."""

LONGEST = 32
"""Agreement beyond so many ids makes no place better."""

FIRST_CHANCE = 0.5
_WEIGHT_OF_THE_LAST = 0.2


class PromptLookup:
    """Follows one sequence of ids, and keeps the count of how often it was right.

    `place` is where the longest agreement with the last ids goes on; None where not even two of them agree with
    anything earlier. Of equally long ones it is the latest at the time of the search.
    """

    def __init__(self, prompt_ids: Sequence[int]) -> None:
        self._ids: list[int] = []
        self._ends: dict[tuple[int, int], int] = {}  # of a pair: the index behind its last place
        self._earlier: list[int] = [0, 0]  # of an index: the one behind the pair's place before; 0 is none
        self.place: int | None = None
        self.chance = FIRST_CHANCE
        for token_id in prompt_ids:
            self._index(token_id)
        self.place = self._find()

    def follow(self, ids: Sequence[int]) -> None:
        """Take what has come since; `ids` are the whole sequence."""
        for token_id in ids[len(self._ids) :]:
            self._take(token_id)

    def draft(self, count: int) -> list[int]:
        """Return so many ids that may come next; none where nothing agrees.

        What ends at the sequence's own end goes on as a repetition.
        """
        if self.place is None:
            return []
        period = len(self._ids) - self.place
        return [self._ids[self.place + number % period] for number in range(count)]

    def _take(self, token_id: int) -> None:
        """Note whether this id was foretold; where it was, the longest agreement has only become longer."""
        right = False
        if self.place is not None:
            right = self._ids[self.place] == token_id
            self.chance += _WEIGHT_OF_THE_LAST * (right - self.chance)
        self._index(token_id)
        self.place = self.place + 1 if right and self.place is not None else self._find()

    def _index(self, token_id: int) -> None:
        self._ids.append(token_id)
        end = len(self._ids)
        if end >= 2:
            pair = (self._ids[-2], token_id)
            self._earlier.append(self._ends.get(pair, 0))
            self._ends[pair] = end

    def _find(self) -> int | None:
        """Return the place of the longest agreement among the latest ones."""
        best, longest = None, 0
        place = self._earlier[len(self._ids)] if len(self._ids) >= 2 else 0
        for _ in range(PLACES):
            if place == 0 or longest == LONGEST:
                break
            agreement = self._agreement(place)
            if agreement > longest:
                best, longest = place, agreement
            place = self._earlier[place]
        return best

    def _agreement(self, place: int) -> int:
        """Return how many ids before a place, at least two, are also the last ones."""
        ids, end = self._ids, len(self._ids)
        most = min(place, LONGEST)
        count = 2
        while count < most and ids[place - 1 - count] == ids[end - 1 - count]:
            count += 1
        return count
