"""Which pages hold what: a radix tree over token ids, exact to the token. Knows no requests and no tensors.

A node is a page. Full pages branch; a page that is not full has nothing below it. Every node belongs to one
scope, or to the public that all scopes may read: public nodes come first on a path, and then one scope's own.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from agentkit.inference.base import MissReason
from agentkit.inference.common_prefix import common_length
from agentkit.inference.kv_pages import PageCounts

PUBLIC: Final = None
"""The owner of what every scope may read; scopes are strings, so none has this name."""

EVICT_AHEAD = 64
"""Where memory is short, this part of all pages is freed at once: neighbours go together, and runs stay long."""

REMEMBERED_PAGES = 4096
"""Of so many dropped pages the tree knows why they are gone: by a hash, not by their ids."""

Ids: TypeAlias = tuple[int, ...]


@dataclass(slots=True, eq=False, kw_only=True)
class Node:
    """One page, the ids that it holds (from its first slot on) and what continues it.

    `disposable`: computed for a score, so nothing will go on from its end. `fingerprint` stands for all ids from
    the root on.
    """

    owner: str | None
    ids: Ids
    page: int
    parent: Node | None
    fingerprint: int
    disposable: bool = False
    last_used: int = 0
    children: dict[str | None, dict[Ids, Node]] = field(default_factory=dict)

    def owned(self, owner: str | None) -> list[Node]:
        """Return the children of one owner."""
        return list(self.children.get(owner, {}).values())

    def below(self) -> Iterator[Node]:
        """Yield the children of all owners."""
        for owned in self.children.values():
            yield from owned.values()

    def visible(self, scope: str) -> Iterator[Node]:
        """Yield the children that a scope may read, its own first."""
        yield from self.owned(scope)
        yield from self.owned(PUBLIC)

    def path(self) -> list[Node]:
        """Return the nodes from the first page to this one."""
        nodes: list[Node] = []
        node = self
        while node.parent is not None:  # the root holds no page
            nodes.append(node)
            node = node.parent
        return nodes[::-1]

    def path_ids(self) -> Ids:
        """Return all ids from the root on."""
        return tuple(token_id for node in self.path() for token_id in node.ids)

    def public_tokens(self) -> int:
        """Return how many of those ids every scope may read."""
        return sum(len(node.ids) for node in self.path() if node.owner is PUBLIC)

    def subtree(self) -> list[Node]:
        """Return the node and everything below it, parents first."""
        nodes = [self]
        for node in nodes:
            nodes += node.below()
        return nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The longest known prefix of some ids: full pages, and the first tokens of one more page.

    `end` is the node of the last full page, or the root.
    """

    pages: list[int]
    end: Node
    partial: Node | None
    partial_tokens: int
    tokens: int

    @property
    def held_pages(self) -> list[int]:
        """The pages that hold the prefix, the one that holds more than that included."""
        return self.pages if self.partial is None else [*self.pages, self.partial.page]


class PrefixTree:
    """Holds one reference to the page of each of its nodes. `ids` are tuples: whole slices of them compare in C."""

    def __init__(self, pool: PageCounts, identity: str) -> None:
        """Begin empty; `identity` says what computed the keys and values, down to their dtype."""
        self._pool = pool
        self._root = Node(owner=PUBLIC, ids=(), page=-1, parent=None, fingerprint=hash(identity))
        self._nodes: set[Node] = set()
        self._clock = 0
        self._dropped: OrderedDict[int, MissReason] = OrderedDict()

    @property
    def nodes(self) -> frozenset[Node]:
        """All nodes."""
        return frozenset(self._nodes)

    def match(self, ids: Ids, *, scope: str) -> Match:
        """Find the longest prefix that a scope may read, and count that as a use."""
        self._clock += 1
        size = self._pool.page_tokens
        node, pages = self._root, []
        for start in range(0, len(ids) - size + 1, size):
            child = self._child(node, ids[start : start + size], scope)
            if child is None:
                break
            child.last_used = self._clock
            pages.append(child.page)
            node = child
        full_tokens = len(pages) * size
        partial, partial_tokens = _closest(node.visible(scope), ids[full_tokens : full_tokens + size])
        return Match(
            pages=pages,
            end=node,
            partial=partial,
            partial_tokens=partial_tokens,
            tokens=full_tokens + partial_tokens,
        )

    def insert(
        self, ids: Ids, pages: Sequence[int], *, scope: str, public_tokens: int = 0, disposable: bool = False
    ) -> list[int]:
        """Keep the pages that hold `ids`; return those that hold them now, the tree's own where it knew them.

        The pages that lie wholly within the first `public_tokens` become public.
        """
        self._clock += 1
        size = self._pool.page_tokens
        node, held = self._root, list(pages)
        for index in range(self._pool.pages_for(len(ids))):
            page_ids = ids[index * size : (index + 1) * size]
            is_full = len(page_ids) == size
            child = self._child(node, page_ids, scope) if is_full else None
            if child is None:
                child = self._add(node, page_ids, pages[index], scope, disposable)
            if is_full:
                held[index] = child.page
                if (index + 1) * size <= public_tokens and node.owner is PUBLIC:
                    self._publish(child)
            child.disposable &= disposable
            child.last_used = self._clock
            node = child
        return held

    def forget(self, ids: Ids, *, keep: int, scope: str) -> None:
        """Drop what a scope has of `ids` past the first `keep`, in every sequence. What is public stays."""
        size = self._pool.page_tokens
        node: Node | None = self._root
        start = 0
        while node is not None:
            page_ids = ids[start : start + size]
            for child in node.owned(scope):
                if start + common_length(child.ids, page_ids) > keep:
                    self.cut(child, max(0, keep - start), reason="forgotten")
            node = self._child(node, page_ids, scope)
            start += size

    def cut(self, node: Node, tokens: int, *, reason: MissReason | None = None) -> None:
        """Keep only the first tokens of a node's page, and nothing below it."""
        parent, kept = node.parent, node.ids[:tokens]
        if parent is None or (kept == node.ids and not node.children):
            return
        if tokens > 0:
            self._pool.retain([node.page])
        self._remove(node, reason)
        if tokens > 0:
            beginning = self._add(parent, kept, node.page, node.owner, node.disposable)
            beginning.last_used = max(beginning.last_used, node.last_used)
            self._pool.release([node.page])

    def evictable_pages(self) -> int:
        """Return how many pages nobody but the tree holds, nor one that they lead to."""
        held: set[Node] = set()
        for node in self._nodes:
            above: Node | None = node if self._pool.references(node.page) > 1 else None
            while above is not None and above is not self._root and above not in held:
                held.add(above)
                above = above.parent
        return len(self._nodes) - len(held)

    def evict(self, count: int, *, leaving: Callable[[Node], None] | None = None) -> int:
        """Drop up to so many pages that nobody but the tree holds, least recently used ends first.

        `leaving` is told each end before it goes; those that become ends by that lie on its path.
        """
        ends = [(node.last_used, id(node), node) for node in self._nodes if self._may_go(node)]
        told: set[Node] = set()
        heapq.heapify(ends)
        dropped = 0
        while ends and dropped < count:
            *_, node = heapq.heappop(ends)
            parent = node.parent
            if leaving is not None and node not in told:
                leaving(node)
            self._remove(node, "evicted")
            dropped += 1
            if parent is not None and parent is not self._root and self._may_go(parent):
                told.add(parent)
                heapq.heappush(ends, (parent.last_used, id(parent), parent))
        return dropped

    def miss_reason(self, ids: Ids, match: Match, *, scope: str) -> MissReason:
        """Say why the match of a scope ended before `ids` did; tells nothing of other scopes."""
        rest = ids[match.tokens - match.partial_tokens :][: self._pool.page_tokens]
        for length in range(len(rest), match.partial_tokens, -1):
            for owner in (scope, PUBLIC):
                reason = self._dropped.get(hash((owner, match.end.fingerprint, rest[:length])))
                if reason is not None:
                    return reason
        if match.partial is not None:
            goes_on = match.partial_tokens < len(match.partial.ids)
        else:
            goes_on = any(True for _ in match.end.visible(scope))
        return "changed" if goes_on and match.tokens > 0 else "new"

    def clear(self) -> None:
        """Drop everything."""
        for child in list(self._root.below()):
            self._remove(child, None)

    def _child(self, node: Node, page_ids: Ids, scope: str) -> Node | None:
        """Return the child that holds exactly these ids, public or the scope's own."""
        own = node.children.get(scope, {}).get(page_ids)
        if node.owner is not PUBLIC:
            return own
        public = node.children.get(PUBLIC, {}).get(page_ids)
        if own is not None and public is not None:
            self._merge(own, public)
        return public or own

    def _add(self, parent: Node, ids: Ids, page: int, owner: str | None, disposable: bool) -> Node:
        """Add a page, in place of one that holds only its beginning; a longer one serves for it, a public one too."""
        for nodes in (parent.owned(owner), parent.owned(PUBLIC)):
            longer, common = _closest(nodes, ids)
            if longer is not None and common == len(ids):
                return longer
        known, common = _closest(parent.owned(owner), ids)
        if known is not None and common == len(known.ids):
            self._remove(known, None)
        node = Node(
            owner=owner,
            ids=ids,
            page=page,
            parent=parent,
            fingerprint=hash((parent.fingerprint, ids)),
            disposable=disposable,
        )
        self._pool.retain([page])
        parent.children.setdefault(owner, {})[ids] = node
        self._nodes.add(node)
        return node

    def _publish(self, node: Node) -> None:
        self._unlink(node)
        node.owner = PUBLIC
        if node.parent is not None:
            node.parent.children.setdefault(PUBLIC, {})[node.ids] = node

    def _merge(self, own: Node, public: Node) -> None:
        """Hang what follows a scope's own copy of a page below the public one; the copy goes."""
        for owner, owned in own.children.items():
            for child in owned.values():
                child.parent = public
            public.children.setdefault(owner, {}).update(owned)
        own.children = {}
        self._remove(own, None)

    def _remove(self, node: Node, reason: MissReason | None) -> None:
        """Drop a node and everything below it; a reason is remembered for whoever misses it."""
        self._unlink(node)
        for gone in node.subtree():
            self._nodes.discard(gone)
            self._pool.release([gone.page])
            if reason is not None and gone.parent is not None:
                self._dropped[hash((gone.owner, gone.parent.fingerprint, gone.ids))] = reason
        while len(self._dropped) > REMEMBERED_PAGES:
            self._dropped.popitem(last=False)

    def _unlink(self, node: Node) -> None:
        if node.parent is not None:
            siblings = node.parent.children[node.owner]
            del siblings[node.ids]
            if not siblings:
                del node.parent.children[node.owner]

    def _may_go(self, node: Node) -> bool:
        return not node.children and self._pool.references(node.page) == 1


def _closest(nodes: Iterable[Node], ids: Ids) -> tuple[Node | None, int]:
    """Return the node that shares most leading ids, and how many."""
    best: Node | None = None
    most = 0
    for node in nodes:
        common = common_length(node.ids, ids)
        if common > most:
            best, most = node, common
    return best, most
