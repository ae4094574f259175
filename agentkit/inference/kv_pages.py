"""The pool of KV pages: memory for keys and values, handed out by the page and counted by reference.

Knows no token ids and decides nothing about what is worth keeping.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch

from agentkit.errors import InferenceError

_GAP = re.compile(rb"\x00+")


class PagePool:
    """Keys and values of `num_pages` pages, for all layers; page `p` is the slots from `p * page_tokens`.

    `keys` and `values` have the shape (num_layers, num_kv_heads, slots, head_dim): pages that are neighbours are
    one contiguous run of slots in every head. Behind the slots of all pages there is a `scratch_slot`, which
    anybody may write and nobody reads. On a CPU the memory is only reserved: the
    system provides it when a slot is written for the first time, and it is never given back.
    """

    def __init__(
        self,
        *,
        num_pages: int,
        page_tokens: int,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.num_pages = num_pages
        self.page_tokens = page_tokens
        self.scratch_slot = num_pages * page_tokens
        shape = (num_layers, num_kv_heads, self.scratch_slot + 1, head_dim)
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty(shape, dtype=dtype, device=device)
        slot_bytes = (self.keys.nbytes + self.values.nbytes) // (self.scratch_slot + 1)
        self.page_bytes = slot_bytes * page_tokens
        self.free_pages = num_pages
        self._references = [0] * num_pages
        self._taken = bytearray(num_pages)  # 1 where the page has a reference

    @property
    def capacity(self) -> int:
        """How many tokens fit."""
        return self.num_pages * self.page_tokens

    def references(self, page: int) -> int:
        """How many hold the page; a free one has no holder."""
        return self._references[page]

    def pages_for(self, tokens: int) -> int:
        """Return how many pages hold so many tokens."""
        return -(-tokens // self.page_tokens)

    def allocate(self, count: int, *, after: int | None = None) -> list[int]:
        """Hand out free pages with one reference each, in as few runs as can be.

        They go on right behind the page `after`, where those pages are free. A new run begins in the middle of
        the largest gap if it fits into that half, so that both it and the run before it have room to grow.

        Raises:
            InferenceError: if fewer are free; then none is taken.
        """
        if count > self.free_pages:
            raise InferenceError(
                f"the KV cache is full: {count} pages of {self.page_tokens} tokens are needed, "
                f"{self.free_pages} of {self.num_pages} are free; raise kv_cache_bytes or run fewer requests"
            )
        pages: list[int] = []
        if after is not None:
            self._take_run(after + 1, count, pages)
        while len(pages) < count:
            self._take_run(self._place(count - len(pages)), count, pages)
        self.free_pages -= count
        return pages

    def retain(self, pages: Iterable[int]) -> None:
        """Add one holder to each page; all of them must have one already."""
        for page in pages:
            if self._references[page] == 0:
                raise InferenceError(f"KV page {page} is free and cannot be shared")
            self._references[page] += 1

    def release(self, pages: Iterable[int]) -> None:
        """Take one holder from each page; a page without holders is free."""
        for page in pages:
            if self._references[page] == 0:
                raise InferenceError(f"KV page {page} is free already")
            self._references[page] -= 1
            if self._references[page] == 0:
                self._taken[page] = 0
                self.free_pages += 1

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Copy the first `tokens` slots of one page into another."""
        old, new = source * self.page_tokens, target * self.page_tokens
        for content in (self.keys, self.values):
            content[:, :, new : new + tokens] = content[:, :, old : old + tokens]

    def _take_run(self, first: int, count: int, pages: list[int]) -> None:
        """Take pages from `first` on until there are `count` or one is not free."""
        page = first
        while len(pages) < count and page < self.num_pages and not self._taken[page]:
            self._taken[page] = 1
            self._references[page] = 1
            pages.append(page)
            page += 1

    def _place(self, count: int) -> int:
        start, end = max((gap.span() for gap in _GAP.finditer(self._taken)), key=lambda gap: gap[1] - gap[0])
        middle = (start + end) // 2
        return middle if start > 0 and end - middle >= count else start
