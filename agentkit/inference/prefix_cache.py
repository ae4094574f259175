"""Idle key-value buffers, found again by the token ids they were computed from. Knows no model.

A buffer is either here or lent to one request, never both. Scopes never see each other's buffers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentkit.inference.kv_cache import KVBuffer

DISPOSABLE_TAIL = 128
"""A tail of at most so many tokens is cheaper to compute again than a whole copy is to keep.

It covers the fixed text that a guard's prompt puts after a conversation, so judging a growing one copies nothing.
"""


@dataclass(slots=True, eq=False, kw_only=True)
class _Entry:
    """One idle buffer; `ids` are exactly the tokens that it holds."""

    scope: str
    ids: tuple[int, ...]
    kv: KVBuffer


class PrefixCache:
    """Keeps buffers between calls, least recently used first out, within `capacity_bytes`."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._entries: list[_Entry] = []  # least recently used first

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """The bytes that idle buffers hold."""
        return sum(entry.kv.nbytes for entry in self._entries)

    @property
    def tokens(self) -> int:
        """The tokens that idle buffers hold."""
        return sum(len(entry.ids) for entry in self._entries)

    def take(self, ids: Sequence[int], *, scope: str) -> KVBuffer | None:
        """Lend a buffer that holds the longest known prefix of `ids` and nothing else; None where none is known.

        The buffer itself is handed over where the request goes on from it, or leaves it near its end: what it
        held past the match is cut off. Where more than `DISPOSABLE_TAIL` tokens would be lost, another branch
        may still want them: it stays, and the match is copied.
        """
        wanted = tuple(ids)
        entry, matched = self._longest_match(wanted, scope)
        if entry is None:
            return None
        self._entries.remove(entry)
        if len(entry.ids) - matched > DISPOSABLE_TAIL:
            self._entries.append(entry)
            return entry.kv.copy(matched)
        entry.kv.truncate(matched)
        return entry.kv

    def put(self, ids: Sequence[int], kv: KVBuffer, *, scope: str) -> None:
        """Keep a buffer whose content was computed from `ids`, one token for each position.

        A buffer whose tokens begin another of the same scope is redundant: the longer one serves for both.

        Raises:
            ValueError: if there is not one token for each position.
        """
        if len(ids) != kv.length:
            raise ValueError(f"{len(ids)} ids do not describe a buffer of {kv.length} positions")
        if kv.length == 0:
            return
        new = _Entry(scope=scope, ids=tuple(ids), kv=kv)
        for index, entry in enumerate(self._entries):
            if entry.scope == scope and _starts_with(entry.ids, new.ids):
                self._entries.append(self._entries.pop(index))
                return
        self._entries = [
            entry for entry in self._entries if entry.scope != scope or not _starts_with(new.ids, entry.ids)
        ]
        self._entries.append(new)
        self._evict()

    def forget(self, ids: Sequence[int], *, keep: int, scope: str) -> None:
        """Drop what was computed from `ids` past its first `keep` tokens, in every buffer that holds it."""
        unwanted = tuple(ids)
        holders = [
            entry
            for entry in self._entries
            if entry.scope == scope and _common_length(entry.ids, unwanted) > keep
        ]
        for entry in holders:
            self._entries.remove(entry)
            if keep > 0:
                self.put(entry.ids[:keep], entry.kv.copy(keep), scope=scope)

    def clear(self) -> None:
        """Drop every idle buffer."""
        self._entries.clear()

    def _longest_match(self, ids: tuple[int, ...], scope: str) -> tuple[_Entry | None, int]:
        """Return the entry that shares most tokens with `ids`; among equals, the one with least to lose."""
        best: _Entry | None = None
        best_rank = (0, 0)
        for entry in self._entries:
            if entry.scope != scope:
                continue
            matched = _common_length(entry.ids, ids)
            rank = (matched, -len(entry.ids))
            if matched > 0 and (best is None or rank > best_rank):
                best, best_rank = entry, rank
        return best, best_rank[0]

    def _evict(self) -> None:
        while self._entries and self.nbytes > self._capacity_bytes:
            del self._entries[0]


def _common_length(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Return how many leading tokens are equal. Whole slices compare in C, so halving beats counting."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _starts_with(ids: tuple[int, ...], prefix: tuple[int, ...]) -> bool:
    return ids[: len(prefix)] == prefix
