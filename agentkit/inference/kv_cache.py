"""The page pool and the prefix tree together: sequences begin with what is cached and leave it behind.

Knows no requests and decides nobody's turn. Everything here runs in the engine's one thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from agentkit.inference.base import MissReason
from agentkit.inference.kv_host import HostTier
from agentkit.inference.kv_pages import PagePool
from agentkit.inference.kv_sequence import KVSequence, page_runs
from agentkit.inference.prefix_tree import EVICT_AHEAD, PUBLIC, Ids, Match, Node, PrefixTree

DISPOSABLE_TAIL = 128
"""What a score left behind a prefix gives way to the next one, if it is at most so many tokens.

It covers the fixed text that a guard's prompt puts after a conversation: judging a growing one fills no memory
and keeps its pages in one run.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """Where the cached prefix of a prompt ends, and why."""

    at: int
    reason: MissReason


@dataclass(frozen=True, slots=True, eq=False)
class Pin:
    """Keeps pages from being evicted until it is given back. `tokens` is how many of the ids were cached."""

    pages: tuple[int, ...]
    tokens: int


class KVCache:
    """Hands out sequences and keeps what they computed, least recently used out first."""

    def __init__(self, pool: PagePool, identity: str, *, host: HostTier | None = None) -> None:
        """Begin empty; `identity` says what computes the keys and values, down to their dtype.

        With a `host`, what gives way goes there, and is brought back where it matches.
        """
        self.pool = pool
        self.identity = identity
        self.host = host
        self.tree = PrefixTree(pool, identity)
        self._sequences: set[KVSequence] = set()
        self._pins: dict[Pin, None] = {}  # the oldest first
        self._pinned: Counter[int] = Counter()  # of a page: how many pins hold it

    # Sequences

    def matched_tokens(self, ids: Sequence[int], *, scope: str) -> int:
        """Return how many leading ids are cached for a scope, in the pool or in host memory."""
        wanted = tuple(ids)
        tokens = self.tree.match(wanted, scope=scope).tokens
        return tokens if self.host is None else max(tokens, self.host.match(wanted, scope=scope).tokens)

    def open(self, ids: Sequence[int], *, scope: str) -> tuple[KVSequence, Miss | None]:
        """Return a sequence that holds all that is cached of `ids`, and where and why that ended before they did."""
        wanted = tuple(ids)
        match = self._match(wanted, scope)
        miss = None
        if match.tokens < len(wanted):
            miss = Miss(at=match.tokens, reason=self.tree.miss_reason(wanted, match, scope=scope))
        sequence = self._begin(match, scope)
        self._sequences.add(sequence)
        return sequence, miss

    def reserve(self, sequence: KVSequence, end: int, *, spare: int = 0) -> bool:
        """Make room up to `end`, evicting what nobody uses, where that leaves `spare` pages free or evictable.

        Else returns False, and nothing is allocated.
        """
        if sequence.missing_pages(end) == 0:
            return True
        if not self._make_room(sequence.missing_pages(end), spare):
            # To compute the beginning of one page again is cheaper than to wait for the page that a copy takes.
            sequence.drop_shared_end()
            if not self._make_room(sequence.missing_pages(end), spare):
                return False
        sequence.prepare(end)
        return True

    def share(
        self, sequence: KVSequence, ids: Sequence[int], *, scope: str, public_tokens: int, disposable: bool
    ) -> None:
        """Let others have the full pages of a sequence that goes on; it holds the keys and values of `ids`."""
        full = sequence.length // self.pool.page_tokens
        known = tuple(ids[: full * self.pool.page_tokens])
        held = self.tree.insert(
            known, sequence.pages[:full], scope=scope, public_tokens=public_tokens, disposable=disposable
        )
        sequence.share(held)

    def close(
        self, sequence: KVSequence, ids: Sequence[int], *, scope: str, public_tokens: int, disposable: bool
    ) -> None:
        """Keep what an ended sequence holds, which was computed from `ids`."""
        self.tree.insert(
            tuple(ids[: sequence.length]),
            sequence.pages,
            scope=scope,
            public_tokens=public_tokens,
            disposable=disposable,
        )
        self.drop(sequence)

    def drop(self, sequence: KVSequence) -> None:
        """Keep nothing of an ended sequence."""
        self._sequences.discard(sequence)
        sequence.close()

    def room_pages(self) -> int:
        """Return how many pages are free or could be, with nobody the worse but a later match."""
        return self.pool.free_pages + self.tree.evictable_pages()

    # What is cached

    def pin(self, ids: Sequence[int], *, scope: str) -> Pin:
        """Keep what is cached of `ids` from being evicted, until `unpin`."""
        match = self._match(tuple(ids), scope)
        pin = Pin(tuple(match.held_pages), match.tokens)
        self.pool.retain(pin.pages)
        self._pinned.update(pin.pages)
        self._pins[pin] = None
        return pin

    def unpin(self, *pins: Pin) -> None:
        """Let the pages of pins be evicted again; one that is gone already is ignored."""
        for pin in pins:
            if pin in self._pins:
                del self._pins[pin]
                self._pinned.subtract(pin.pages)
                self._pinned += Counter()  # drops the zeros
                self.pool.release(pin.pages)

    def drop_oldest_pin(self) -> bool:
        """Give up a pin, so that a request that is alone can go on; False if there is none."""
        if not self._pins:
            return False
        self.unpin(next(iter(self._pins)))
        return True

    def forget(self, ids: Sequence[int], *, keep: int, scope: str) -> None:
        """Drop what a scope has cached of `ids` past the first `keep`; what is public stays."""
        unwanted = tuple(ids)
        self.tree.forget(unwanted, keep=keep, scope=scope)
        if self.host is not None:
            self.host.tree.forget(unwanted, keep=keep, scope=scope)

    def read(self, ids: Sequence[int], *, scope: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return copies of the keys and values of what is cached of `ids`.

        Their shape is (num_layers, num_kv_heads, tokens, head_dim).
        """
        match = self._match(tuple(ids), scope)
        runs = page_runs(match.held_pages, self.pool.page_tokens)
        slots = [slice(first, first + min(count, match.tokens - position)) for position, first, count in runs]
        keys, values = (
            torch.cat([content[:, :, run] for run in slots] or [content[:, :, :0]], dim=2)
            for content in (self.pool.keys, self.pool.values)
        )
        return keys, values

    def write(self, ids: Sequence[int], keys: torch.Tensor, values: torch.Tensor, *, scope: str) -> None:
        """Keep keys and values that were computed from `ids`, as `read` gave them.

        What is cached already stays. Where there is no room for all of them, the first ones are kept.
        """
        match = self.tree.match(tuple(ids), scope=scope)
        if match.tokens == len(ids):
            return
        start = len(match.pages) * self.pool.page_tokens
        self.pool.retain(match.pages)
        sequence = KVSequence(self.pool, match.pages, length=start, writable_from=start)
        end = min(len(ids), start + self.room_pages() * self.pool.page_tokens)
        if self.reserve(sequence, end):
            for run in sequence.slots(start, end):
                stop = start + run.stop - run.start
                self.pool.keys[:, :, run] = keys[:, :, start:stop]
                self.pool.values[:, :, run] = values[:, :, start:stop]
                start = stop
            sequence.length = end
        self.close(sequence, ids, scope=scope, public_tokens=0, disposable=False)

    def clear(self) -> None:
        """Drop everything that no sequence uses."""
        while self.drop_oldest_pin():
            pass
        self.tree.clear()
        if self.host is not None:
            self.host.tree.clear()

    # How much

    @property
    def active_bytes(self) -> int:
        """The bytes of the pages that sequences hold."""
        pages = {page for sequence in self._sequences for page in sequence.pages}
        return len(pages) * self.pool.page_bytes

    @property
    def cached_bytes(self) -> int:
        """The bytes of the pool's pages in the tree, those that sequences use too included."""
        return len(self.tree.nodes) * self.pool.page_bytes

    def _match(self, ids: Ids, scope: str) -> Match:
        """Find the longest cached prefix, and bring back what host memory has of more."""
        match = self.tree.match(ids, scope=scope)
        if self.host is None or match.tokens == len(ids):
            return match
        kept = self.host.match(ids, scope=scope)
        if kept.tokens <= match.tokens:
            return match
        with self.host.holding(kept):
            self._bring_back(self.host, match, kept, scope)
        return self.tree.match(ids, scope=scope)

    def _bring_back(self, host: HostTier, match: Match, kept: Match, scope: str) -> None:
        """Copy what host memory has behind the pages of a match, as far as there is room."""
        self.pool.retain(match.pages)
        missing = kept.held_pages[len(match.pages) :]
        count = min(len(missing), self.room_pages())
        self._make_room(count)
        fresh = self.pool.allocate(count, after=match.pages[-1] if match.pages else None)
        if fresh:
            host.bring_back(missing[:count], fresh)
        pages = [*match.pages, *fresh]
        last = kept.partial or kept.end
        self.tree.insert(
            last.path_ids()[: len(pages) * self.pool.page_tokens],
            pages,
            scope=scope,
            public_tokens=last.public_tokens(),
            disposable=last.disposable,
        )
        self.pool.release(pages)

    def _begin(self, match: Match, scope: str) -> KVSequence:
        """Share the matched pages; the one that is not full is written further if nobody else needs its rest."""
        node, end = match.partial, match.tokens - match.partial_tokens
        goes_on = node is not None and self._may_go_on(node, match.partial_tokens)
        pages = match.held_pages
        self.pool.retain(pages)
        if node is None:
            behind = pages[-1] + 1 if pages else None
            for child in match.end.owned(scope):
                if child.page == behind and self._is_disposable(child, tokens=0):
                    self.tree.cut(child, 0)
            writable_from = end
        elif goes_on:
            self.tree.cut(node, match.partial_tokens)
            writable_from = match.tokens
        else:
            writable_from = end + self.pool.page_tokens
        return KVSequence(self.pool, pages, length=match.tokens, writable_from=writable_from)

    def _may_go_on(self, node: Node, tokens: int) -> bool:
        """Whether a sequence may write behind the first tokens of a page that is in the tree."""
        if node.owner is PUBLIC or self.pool.references(node.page) - self._pinned[node.page] > 1:
            return False
        return tokens == len(node.ids) or self._is_disposable(node, tokens=tokens)

    def _is_disposable(self, node: Node, *, tokens: int) -> bool:
        """Whether all that follows the first tokens of a node may give way to another continuation."""
        if not node.disposable:
            return False
        tail = node.subtree()
        return sum(len(part.ids) for part in tail) - tokens <= DISPOSABLE_TAIL and all(
            part.disposable and self.pool.references(part.page) == 1 for part in tail
        )

    def _make_room(self, pages: int, spare: int = 0) -> bool:
        """Evict until so many pages are free; False, and nothing evicted, where that cannot be."""
        short = pages - self.pool.free_pages
        if short + spare > 0 and short + spare > self.tree.evictable_pages():
            return False
        if short > 0:
            keep = None if self.host is None else self.host.keep
            self.tree.evict(max(short, self.pool.num_pages // EVICT_AHEAD), leaving=keep)
        return pages <= self.pool.free_pages
