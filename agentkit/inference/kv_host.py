"""Host memory behind the device's pool: pages that give way there are copied here, and back when they match again.

Decides nothing about the device's pages. Knows no requests; runs in the engine's one thread, on its one stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from agentkit.inference.kv_pages import PageCounts, PagePool
from agentkit.inference.prefix_tree import EVICT_AHEAD, Ids, Match, Node, PrefixTree


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStats:
    """What is kept, how often something was brought back, and how many pages that were."""

    cached_bytes: int
    hits: int
    returned_pages: int


class HostTier:
    """A bounded store of pages under a tree of its own: the same exact ids, scopes and public root as the device's.

    A page is copied together with those that lead to it, each once, so that what is here can be reached, matched
    and forgotten without the device's tree. The memory is taken at once, and pinned where the device is a GPU:
    copies then run beside whatever the CPU does, in the order of the device's stream.
    """

    def __init__(self, device: PagePool, identity: str, *, num_pages: int) -> None:
        """Begin empty; `identity` is that of the cache."""
        self.pages = PageCounts(num_pages=num_pages, page_tokens=device.page_tokens)
        self.tree = PrefixTree(self.pages, identity)
        self._hits = 0
        self._returned_pages = 0
        self._device = device
        num_layers, num_kv_heads, _, head_dim = device.keys.shape
        self._content = torch.empty(
            (num_pages, 2, num_layers, num_kv_heads, device.page_tokens, head_dim),
            dtype=device.keys.dtype,
            pin_memory=device.keys.is_cuda,
        )

    def content(self, page: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values of a page: (num_layers, num_kv_heads, page_tokens, head_dim), twice."""
        keys, values = self._content[page]
        return keys, values

    def stats(self) -> HostStats:
        """Return what is kept now, and what was brought back so far."""
        return HostStats(
            cached_bytes=len(self.tree.nodes) * self._device.page_bytes,
            hits=self._hits,
            returned_pages=self._returned_pages,
        )

    def match(self, ids: Ids, *, scope: str) -> Match:
        """Find the longest prefix that a scope may read, and count that as a use."""
        return self.tree.match(ids, scope=scope)

    def keep(self, node: Node) -> None:
        """Copy the page of a node of the device's tree and those that lead to it, as far as there is room."""
        path = node.path()
        ids = node.path_ids()
        scope = node.owner or ""  # what is public has none
        known = self.match(ids, scope=scope)
        held = known.held_pages if known.tokens == len(ids) else known.pages
        self.pages.retain(held)
        fresh = self._take(len(path) - len(held))
        for part, page in zip(path[len(held) :], fresh, strict=False):
            for here, there in zip(self.content(page), self._on_device(part.page), strict=True):
                here.copy_(there, non_blocking=True)
        pages = [*held, *fresh]
        self.tree.insert(
            ids[: len(pages) * self._device.page_tokens],
            pages,
            scope=scope,
            public_tokens=node.public_tokens(),
            disposable=node.disposable,
        )
        self.pages.release(pages)

    @contextmanager
    def holding(self, match: Match) -> Iterator[None]:
        """Keep the pages of a match as they are while the block runs."""
        self.pages.retain(match.held_pages)
        try:
            yield
        finally:
            self.pages.release(match.held_pages)

    def bring_back(self, pages: Sequence[int], targets: Sequence[int]) -> None:
        """Copy pages to those of the device's pool; they stay here as well."""
        self._hits += 1
        self._returned_pages += len(pages)
        for page, target in zip(pages, targets, strict=True):
            for here, there in zip(self.content(page), self._on_device(target), strict=True):
                there.copy_(here, non_blocking=True)

    def _take(self, count: int) -> list[int]:
        """Return as many pages as there can be, least recently used ones included."""
        short = count - self.pages.free_pages
        if short > 0:
            self.tree.evict(max(short, self.pages.num_pages // EVICT_AHEAD))
        return self.pages.allocate(min(count, self.pages.free_pages))

    def _on_device(self, page: int) -> tuple[torch.Tensor, torch.Tensor]:
        first = page * self._device.page_tokens
        slots = slice(first, first + self._device.page_tokens)
        return self._device.keys[:, :, slots], self._device.values[:, :, slots]
