"""The cache as a machine: whatever is opened, computed, shared, pinned, forgotten and evicted, in any order.

Once by itself, and once with a host memory behind it that is too small as well.
"""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from agentkit.inference.kv_cache import KVCache, Pin
from agentkit.inference.kv_host import HostTier
from agentkit.inference.kv_pages import PagePool
from agentkit.inference.kv_sequence import KVSequence
from agentkit.inference.prefix_tree import PUBLIC, Node

PAGE = 3
CONTENT_RANGE = 1 << 20  # whole numbers that fp32 holds exactly


def new_cache(num_pages: int, page_tokens: int = PAGE, *, host_pages: int = 0) -> KVCache:
    pool = PagePool(num_pages=num_pages, page_tokens=page_tokens, num_layers=1, num_kv_heads=1, head_dim=1)
    host = HostTier(pool, "a model", num_pages=host_pages) if host_pages else None
    return KVCache(pool, "a model", host=host)


def computed(ids) -> list[int]:
    """Return what a model would compute: at each position a number that depends on all ids up to it."""
    return [hash(tuple(ids[: end + 1])) % CONTENT_RANGE for end in range(len(ids))]


def compute(kv: KVSequence, ids) -> None:
    """Write what a forward pass would, for all ids that `kv` lacks; room has been reserved."""
    kv.prepare(len(ids))
    slots = [slot for run in kv.slots(kv.length, len(ids)) for slot in range(run.start, run.stop)]
    kv.pool.keys[0, 0, slots, 0] = torch.tensor(computed(ids)[kv.length :], dtype=torch.float32)
    kv.pool.values[0, 0, slots, 0] = -kv.pool.keys[0, 0, slots, 0]
    kv.length = len(ids)


def content(kv: KVSequence) -> list[int]:
    return [int(number) for run in kv.slots(0, kv.length) for number in kv.pool.keys[0, 0, run, 0]]


def computed_for(node: Node) -> list[int]:
    """Return what a model would compute for the page of a node."""
    ids = node.path_ids()
    return computed(ids)[len(ids) - len(node.ids) :]


def run_once(cache: KVCache, ids, *, scope="", public=0, disposable=False) -> int:
    """Serve a whole request; return how many of its ids were cached."""
    kv, _ = cache.open(ids[:-1], scope=scope)
    cached = kv.length
    assert cache.reserve(kv, len(ids))
    compute(kv, ids)
    cache.close(kv, ids, scope=scope, public_tokens=public, disposable=disposable)
    return cached


class Running:
    """A request between its start and its end, as the machine sees it."""

    def __init__(self, kv: KVSequence, ids: list[int], scope: str, public: int) -> None:
        self.kv, self.ids, self.scope, self.public = kv, ids, scope, public


ids_of_few_kinds = st.lists(st.integers(0, 1), min_size=1, max_size=14)
scopes = st.sampled_from(["alice", "bob", "carol"])


class CacheMachine(RuleBasedStateMachine):
    """Every rule is something that the scheduler or the engine does; the pool is too small for everybody."""

    host_pages = 0
    running = Bundle("running")
    pins = Bundle("pins")

    def __init__(self) -> None:
        super().__init__()
        self.cache = new_cache(num_pages=20, host_pages=self.host_pages)
        self.alive: list[Running] = []
        self.pinned: list[Pin] = []
        self.known: dict[str, set[tuple[int, ...]]] = {"alice": set(), "bob": set(), "carol": set()}
        self.public: set[tuple[int, ...]] = set()

    @rule(target=running, ids=ids_of_few_kinds, scope=scopes, public=st.integers(0, 14))
    def open(self, ids, scope, public):
        kv, miss = self.cache.open(ids[:-1], scope=scope)
        readable = self.known[scope] | self.public
        assert kv.length <= max((_common(ids, known) for known in readable), default=0)
        assert (miss is None) == (kv.length == len(ids) - 1)
        assert miss is None or miss.at == kv.length
        request = Running(kv, list(ids), scope, min(public, len(ids)))
        if not self.cache.reserve(kv, len(ids)):
            self.cache.close(kv, ids, scope=scope, public_tokens=0, disposable=False)
            return multiple()
        self.alive.append(request)
        return request

    @rule(request=running, new=st.lists(st.integers(0, 1), max_size=5))
    def go_on(self, request, new):
        if request in self.alive and self.cache.reserve(request.kv, len(request.ids) + len(new)):
            request.ids += new
            compute(request.kv, request.ids)

    @rule(request=running, tokens=st.integers(0, 14))
    def roll_back(self, request, tokens):
        if request in self.alive and tokens <= request.kv.length:
            request.kv.truncate(tokens)
            del request.ids[max(tokens, 1) :]
            request.public = min(request.public, len(request.ids))

    @rule(target=running, request=running)
    def fork(self, request):
        if request not in self.alive:
            return multiple()
        twin = Running(request.kv.fork(), list(request.ids), request.scope, request.public)
        self.alive.append(twin)
        return twin

    @rule(request=running)
    def share(self, request):
        if request in self.alive:
            self.cache.share(
                request.kv,
                request.ids,
                scope=request.scope,
                public_tokens=request.public,
                disposable=False,
            )
            self._learn(request)

    @rule(request=consumes(running), disposable=st.booleans())
    def close(self, request, disposable):
        if request in self.alive:
            self.alive.remove(request)
            self._learn(request)
            self.cache.close(
                request.kv,
                request.ids,
                scope=request.scope,
                public_tokens=request.public,
                disposable=disposable,
            )

    @rule(target=pins, ids=ids_of_few_kinds, scope=scopes)
    def pin(self, ids, scope):
        pin = self.cache.pin(ids, scope=scope)
        self.pinned.append(pin)
        return pin

    @rule(pin=consumes(pins))
    def unpin(self, pin):
        self.cache.unpin(pin)
        self.pinned.remove(pin)

    @rule(ids=ids_of_few_kinds, keep=st.integers(0, 14), scope=scopes)
    def forget(self, ids, keep, scope):
        self.cache.forget(ids, keep=keep, scope=scope)
        public = max((_common(ids, known) for known in self.public), default=0)
        assert self.cache.matched_tokens(ids, scope=scope) <= max(keep, public)

    @rule(count=st.integers(1, 5))
    def evict(self, count):
        possible = self.cache.tree.evictable_pages()
        free = self.cache.pool.free_pages
        keep = self.cache.host.keep if self.cache.host else None
        evicted = self.cache.tree.evict(count, leaving=keep)
        assert evicted == self.cache.pool.free_pages - free == min(count, possible)

    @rule(ids=ids_of_few_kinds, scope=scopes)
    def save_and_load(self, ids, scope):
        keys, values = self.cache.read(ids, scope=scope)
        saved = ids[: keys.shape[2]]
        assert keys[0, 0, :, 0].tolist() == computed(saved)
        assert torch.equal(values, -keys)
        self.cache.forget(saved, keep=0, scope=scope)
        self.cache.write(saved, keys, values, scope=scope)
        self.known[scope].add(tuple(saved))

    @invariant()
    def every_page_has_exactly_its_holders(self):
        holders = Counter(node.page for node in self.cache.tree.nodes)
        for request in self.alive:
            holders.update(request.kv.pages)
        for pin in self.pinned:
            holders.update(pin.pages)
        pool = self.cache.pool
        assert [pool.references(page) for page in range(pool.num_pages)] == [
            holders[page] for page in range(pool.num_pages)
        ]
        assert pool.free_pages == pool.num_pages - len(holders)

    @invariant()
    def every_page_is_in_the_tree_once(self):
        nodes = self.cache.tree.nodes
        assert len({node.page for node in nodes}) == len(nodes)

    @invariant()
    def everybody_reads_what_a_fresh_prefill_would_compute(self):
        for request in self.alive:
            assert content(request.kv) == computed(request.ids[: request.kv.length])
        for node in self.cache.tree.nodes:
            first = node.page * PAGE
            stored = self.cache.pool.keys[0, 0, first : first + len(node.ids), 0].tolist()
            assert stored == computed_for(node)

    def teardown(self):
        for request in self.alive:
            request.kv.close()
        for pin in self.pinned:
            self.cache.unpin(pin)
        assert self.cache.room_pages() == self.cache.pool.num_pages
        self.cache.clear()
        assert self.cache.pool.free_pages == self.cache.pool.num_pages

    def _learn(self, request: Running) -> None:
        held = tuple(request.ids[: request.kv.length])
        self.known[request.scope].add(held)
        self.public.add(held[: request.public // PAGE * PAGE])


class HostedCacheMachine(CacheMachine):
    """The same with host memory: a smaller one than the pool, so that it evicts too."""

    host_pages = 12

    @rule(ids=ids_of_few_kinds, scope=scopes, public=st.integers(0, 14))
    def serve_whole(self, ids, scope, public):
        kv, _ = self.cache.open(ids[:-1], scope=scope)
        request = Running(kv, list(ids), scope, min(public, len(ids)))
        self.alive.append(request)
        self.go_on(request, [])
        self.close(request, disposable=False)

    @rule(scope=scopes, choice=st.integers(0, 99), length=st.integers(1, 14))
    def what_gave_way_is_read_again(self, scope, choice, length):
        readable = sorted(self.known[scope] | self.public)
        if readable:
            self.cache.tree.evict(self.cache.pool.num_pages, leaving=self.host.keep)
            ids = readable[choice % len(readable)][:length]
            keys, _ = self.cache.read(ids, scope=scope)
            assert keys[0, 0, :, 0].tolist() == computed(ids)[: keys.shape[2]]

    @invariant()
    def host_memory_holds_what_a_fresh_prefill_would_compute(self):
        for node in self.host.tree.nodes:
            keys, values = (content[0, 0, : len(node.ids), 0] for content in self.host.content(node.page))
            assert keys.tolist() == computed_for(node)
            assert torch.equal(values, -keys)

    @invariant()
    def host_memory_has_every_page_once_and_each_of_one_scope(self):
        nodes = self.host.tree.nodes
        assert len({node.page for node in nodes}) == len(nodes)
        assert all(self.host.pages.references(node.page) == 1 for node in nodes)
        assert self.host.pages.free_pages == self.host_pages - len(nodes)
        for node in nodes:
            ids = node.path_ids()
            holders = self.public if node.owner is PUBLIC else self.known[node.owner]
            assert any(known[: len(ids)] == ids for known in holders)

    @property
    def host(self) -> HostTier:
        assert self.cache.host is not None
        return self.cache.host

    def teardown(self):
        super().teardown()  # type: ignore[no-untyped-call]
        assert self.host.pages.free_pages == self.host_pages


def _common(left, right) -> int:
    return next(
        (index for index, (a, b) in enumerate(zip(left, right, strict=False)) if a != b),
        min(len(left), len(right)),
    )


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)

TestHostedCacheMachine = HostedCacheMachine.TestCase
TestHostedCacheMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
