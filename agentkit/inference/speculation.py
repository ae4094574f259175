"""How many drafted tokens are worth verifying in the next pass. Knows no model, and not where drafts come from.

A pass of a few more rows streams the same weights once, so it costs little more than one without; but what was
drafted wrongly is computed for nothing. With B sequences that decode, drafts pay where the tokens that they are likely
to give, (B + the sum of their chances) / seconds, are more than the B / seconds of a plain pass. The chances are the
requests' own, by how often they foretold right; the seconds are measured here, on this machine, under this load.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from agentkit.inference.kv_sequence import KVSequence
from agentkit.inference.matrices import FEW_ROWS
from agentkit.inference.request import Request
from agentkit.inference.runner import bucket_for

MAX_ROWS = FEW_ROWS
"""Of a pass with drafts: so many rows are computed as one alone is, to the bit. Beyond them nothing is drafted."""

MAX_DRAFT = MAX_ROWS - 1
"""Tokens drafted for one sequence, beside the one drawn last."""

ROW_PRICE = 0.1
"""What each drafted row adds to a pass until that was measured, in plain passes: about what it does on a CPU."""

_WEIGHT_OF_THE_LAST = 0.3
_FADING = 0.02


class PassCosts:
    """Seconds of passes, by running measures: recent ones count most. Those with drafts go by powers of two."""

    def __init__(self) -> None:
        self._plain: dict[int, float] = {}
        self._drafted: dict[int, float] = {}

    def measured(self, seconds: float, *, rows: int, sequences: int) -> None:
        """Take the time of a pass; more rows than sequences are drafts."""
        known, key = (self._plain, rows) if rows == sequences else (self._drafted, bucket_for(rows))
        before = known.get(key, seconds)
        known[key] = before + _WEIGHT_OF_THE_LAST * (seconds - before)

    def plain(self, sequences: int) -> float | None:
        """Return the seconds of a pass of one token for each of so many sequences; None until it was measured."""
        return self._plain.get(sequences)

    def drafted(self, rows: int, plain: float, *, sequences: int) -> float:
        """Return the seconds of a pass of so many rows; until it was measured, a guess from the plain one."""
        return self._drafted.get(bucket_for(rows), plain * (1.0 + ROW_PRICE * (rows - sequences)))

    def fade(self, plain: float) -> None:
        """Forget a little of what drafts cost: while they seem too dear, nothing else would measure them again."""
        for rows, seconds in self._drafted.items():
            self._drafted[rows] = seconds + _FADING * (plain - seconds)


class Speculation:
    """Says who drafts before a pass that is nothing but decoding, as much as pays."""

    def __init__(self, costs: PassCosts | None = None) -> None:
        self.costs = PassCosts() if costs is None else costs

    def drafts(
        self, requests: Sequence[Request[Any]], *, most: int
    ) -> Iterator[tuple[Request[Any], Callable[[], None]]]:
        """Yield the requests that are to draft and what makes their drafts: at most so many tokens together."""
        chances = [request.draft_chances(MAX_DRAFT) for request in requests]
        for request, count in zip(requests, worthwhile(chances, self.costs, most=most), strict=True):
            if count > 0 and request.kv is not None:
                yield request, partial(_make_draft, request, request.kv, count)


def worthwhile(chances: Sequence[Sequence[float]], costs: PassCosts, *, most: int) -> list[int]:
    """Return how many tokens to draft for each sequence, given the falling chances that each one comes.

    The likeliest tokens go first, whoever's they are; the best number of them is the one with the most tokens a
    second.
    """
    sequences = len(chances)
    plain = costs.plain(sequences)
    ranked = sorted(((chance, index) for index, row in enumerate(chances) for chance in row), reverse=True)
    ranked = ranked[: max(0, min(most, MAX_ROWS - sequences))]
    if plain is None or not ranked:
        return [0] * sequences
    best, best_rate, tokens = 0, sequences / plain, float(sequences)
    for count, (chance, _) in enumerate(ranked, start=1):
        tokens += chance
        rate = tokens / costs.drafted(sequences + count, plain, sequences=sequences)
        if rate > best_rate:
            best, best_rate = count, rate
    if best == 0:
        costs.fade(plain)
    counts = Counter(index for _, index in ranked[:best])
    return [counts[index] for index in range(sequences)]


def _make_draft(request: Request[Any], kv: KVSequence, count: int) -> None:
    """Have a request draft in pages that are its own or free: a draft takes nobody's memory."""
    request.make_draft(count)
    while kv.missing_pages(len(request.ids) + len(request.draft)) > kv.pool.free_pages:
        request.draft.pop()  # the ids themselves have their pages
    kv.prepare(len(request.ids) + len(request.draft))
