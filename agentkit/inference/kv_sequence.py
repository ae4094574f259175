"""One sequence's keys and values: a table of pages, some of them shared. Knows no token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from agentkit.errors import InferenceError
from agentkit.inference.kv_pages import PagePool

PageRun: TypeAlias = tuple[int, int, int]
"""Its first position, its first slot, and how many tokens fit into it."""


class KVSequence:
    """Keys and values of a sequence's first `length` positions, in the pages of a pool.

    Holds one reference to each of its pages, until `close`. What others share is never written: `prepare` puts a
    copy of a shared page in its place before a position in it is computed anew.
    """

    __slots__ = ("_runs", "_writable_from", "length", "pages", "pool")

    def __init__(
        self, pool: PagePool, pages: Sequence[int] = (), *, length: int = 0, writable_from: int = 0
    ) -> None:
        """Take over one reference to each page; positions before `writable_from` are shared with others."""
        self.pool = pool
        self.pages = list(pages)
        self.length = length
        self._writable_from = writable_from
        self._runs = page_runs(self.pages, pool.page_tokens)

    def missing_pages(self, end: int) -> int:
        """Return how many pages `prepare(end)` would allocate."""
        return max(0, self.pool.pages_for(end) - len(self.pages)) + self._must_copy(end)

    def prepare(self, end: int) -> None:
        """Make the positions from `length` to `end` ready to be written.

        Raises:
            InferenceError: if the pool has too few free pages; the sequence stays as it was.
        """
        missing = self.missing_pages(end)
        if missing == 0:
            return
        fresh = self.pool.allocate(missing, after=self.pages[-1] if self.pages else None)
        if self._must_copy(end):
            self._copy_partial_page(fresh.pop(0))
        self.pages += fresh
        self._runs = page_runs(self.pages, self.pool.page_tokens)

    def slots(self, start: int, end: int) -> list[slice]:
        """Return where the positions from `start` to `end` lie in the pool, as few runs in order."""
        found = []
        for position, first_slot, tokens in self._runs:
            low, high = max(start, position), min(end, position + tokens)
            if low < high:
                found.append(slice(first_slot + low - position, first_slot + high - position))
        return found

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on, and give back the pages that held nothing else.

        Raises:
            InferenceError: if the sequence does not hold that many positions.
        """
        self._require_held(length)
        self.length = length
        kept = self.pool.pages_for(length)
        self.pool.release(self.pages[kept:])
        self.pages = self.pages[:kept]
        self._writable_from = min(self._writable_from, kept * self.pool.page_tokens)
        self._runs = page_runs(self.pages, self.pool.page_tokens)

    def fork(self) -> KVSequence:
        """Return a sequence that holds the same positions in the same pages; nothing is copied."""
        pages = self.pages[: self.pool.pages_for(self.length)]
        self.pool.retain(pages)
        self._writable_from = max(self._writable_from, self.length)
        bound = len(pages) * self.pool.page_tokens
        return KVSequence(self.pool, pages, length=self.length, writable_from=bound)

    def share(self, pages: Sequence[int]) -> None:
        """Let others read what `pages`, all full, hold: the sequence's own first ones, or their equals."""
        mine = self.pages[: len(pages)]
        if list(pages) != mine:
            self.pool.retain(pages)
            self.pool.release(mine)
            self.pages[: len(pages)] = pages
            self._runs = page_runs(self.pages, self.pool.page_tokens)
        self._writable_from = max(self._writable_from, len(pages) * self.pool.page_tokens)

    def drop_shared_end(self) -> None:
        """Forget the positions in a page that could not be written without copying it."""
        if self._must_copy(self.length + 1):
            self.truncate(self.length - self.length % self.pool.page_tokens)

    def close(self) -> None:
        """Give back every page; the sequence is empty afterwards."""
        self.truncate(0)

    def _must_copy(self, end: int) -> bool:
        in_page = self.length % self.pool.page_tokens
        return in_page > 0 and self.length < min(self._writable_from, end)

    def _copy_partial_page(self, fresh: int) -> None:
        index, in_page = divmod(self.length, self.pool.page_tokens)
        shared = self.pages[index]
        self.pool.copy(shared, fresh, in_page)
        self.pages[index] = fresh
        self.pool.release([shared])
        self._writable_from = index * self.pool.page_tokens

    def _require_held(self, length: int) -> None:
        if not 0 <= length <= self.length:
            raise InferenceError(f"the sequence holds {self.length} positions, asked for {length}")


def page_runs(pages: Sequence[int], page_tokens: int) -> list[PageRun]:
    """Join pages that are neighbours in the pool."""
    runs: list[PageRun] = []
    for index, page in enumerate(pages):
        if runs and page == pages[index - 1] + 1:
            position, first_slot, tokens = runs[-1]
            runs[-1] = (position, first_slot, tokens + page_tokens)
        else:
            runs.append((index * page_tokens, page * page_tokens, page_tokens))
    return runs
