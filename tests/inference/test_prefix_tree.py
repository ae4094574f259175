"""What the tree finds, who may find it, why something is gone, and what goes first."""

from __future__ import annotations

import pytest

from agentkit.inference.kv_pages import PagePool
from agentkit.inference.prefix_tree import PrefixTree

PAGE = 4


class Kept:
    """A tree and its pool; sequences are put in as if a request had computed them and ended."""

    def __init__(self, num_pages: int = 64) -> None:
        self.pool = PagePool(num_pages=num_pages, page_tokens=PAGE, num_layers=1, num_kv_heads=1, head_dim=1)
        self.tree = PrefixTree(self.pool, "a model")

    def put(self, ids, *, scope="", public=0, disposable=False) -> list[int]:
        pages = self.pool.allocate(self.pool.pages_for(len(ids)))
        held = self.tree.insert(tuple(ids), pages, scope=scope, public_tokens=public, disposable=disposable)
        self.pool.release(pages)
        return held

    def found(self, ids, *, scope="") -> int:
        return self.tree.match(tuple(ids), scope=scope).tokens

    def reason(self, ids, *, scope="") -> str:
        ids = tuple(ids)
        return self.tree.miss_reason(ids, self.tree.match(ids, scope=scope), scope=scope)

    @property
    def used(self) -> int:
        return self.pool.num_pages - self.pool.free_pages


def test_a_match_is_exact_to_the_token():
    kept = Kept()
    kept.put(range(10))
    for length in range(11):
        assert kept.found([*range(length), 99, 98, 97, 96, 95]) == length
    assert kept.found(range(7)) == 7
    assert kept.found([]) == 0


def test_branches_share_the_pages_of_their_trunk():
    kept = Kept()
    kept.put(range(10))
    kept.put([*range(8), 50, 51, 52])
    kept.put([*range(9), 60])
    assert kept.used == 2 + 3
    assert kept.found([*range(9), 60, 61]) == 10
    assert kept.found([*range(8), 50, 51, 52, 53]) == 11


def test_a_page_that_is_known_is_kept_once():
    kept = Kept()
    first = kept.put(range(8))
    assert kept.put(range(8)) == first
    assert kept.used == 2


@pytest.mark.parametrize("order", [(range(6), range(7)), (range(7), range(6)), (range(7), range(7))])
def test_the_longer_of_two_partial_pages_serves_for_both(order):
    kept = Kept()
    for ids in order:
        kept.put(ids)
    assert kept.used == 2
    assert kept.found(range(9)) == 7


def test_a_partial_page_gives_way_to_the_full_one():
    kept = Kept()
    kept.put(range(6))
    kept.put(range(8))
    assert kept.used == 2
    assert kept.found(range(8)) == 8


# Scopes


def test_scopes_never_share():
    kept = Kept()
    kept.put(range(8), scope="alice")
    assert kept.found(range(8), scope="bob") == 0
    kept.put(range(6), scope="bob")
    assert kept.found(range(8), scope="bob") == 6
    assert kept.found(range(8), scope="alice") == 8


def test_what_is_public_is_found_by_everybody_and_what_follows_it_is_not():
    kept = Kept()
    kept.put(range(12), scope="alice", public=9)
    assert kept.found(range(12), scope="bob") == 8  # the page that is only partly public is private
    assert kept.found(range(12), scope="alice") == 12
    kept.put([*range(8), 70, 71], scope="bob")
    assert kept.used == 4
    assert kept.found([*range(8), 70], scope="alice") == 8


def test_a_page_can_become_public_later():
    kept = Kept()
    kept.put(range(12), scope="alice")
    kept.put(range(8), scope="alice", public=8)
    assert kept.used == 3
    assert kept.found(range(12), scope="bob") == 8
    assert kept.found(range(12), scope="alice") == 12


def test_what_is_private_never_becomes_public_by_what_it_begins_with():
    kept = Kept()
    kept.put(range(4), scope="alice")
    kept.put([0], scope="alice", public=8)
    assert kept.found(range(4), scope="bob") == 0
    kept.put(range(8), scope="alice")
    kept.put([*range(4), 4], scope="alice", public=8)
    assert kept.found(range(8), scope="bob") == 4


def test_ones_own_copy_of_what_became_public_joins_it_with_all_that_follows():
    kept = Kept()
    kept.put(range(12), scope="alice")
    kept.put(range(12), scope="bob", public=8)
    assert kept.used == 3 + 3
    assert kept.found(range(12), scope="alice") == 12
    assert kept.used == 2 + 1 + 1
    assert kept.found(range(12), scope="bob") == 12
    assert kept.found(range(12), scope="carol") == 8


# Why something is gone


def test_a_miss_has_a_reason():
    kept = Kept()
    assert kept.reason(range(9)) == "new"
    kept.put(range(10))
    assert kept.reason(range(14)) == "new"
    assert kept.reason([*range(9), 99]) == "changed"
    assert kept.reason([*range(4), 99]) == "changed"
    assert kept.reason([99]) == "new"
    kept.tree.evict(1)
    assert kept.reason(range(10)) == "evicted"
    assert kept.reason([*range(8), 99]) == "new"
    kept.tree.forget(tuple(range(10)), keep=4, scope="")
    assert kept.reason(range(10)) == "forgotten"


def test_the_reason_of_one_scope_is_not_that_of_another():
    kept = Kept()
    kept.put(range(8), scope="alice")
    assert kept.reason(range(8), scope="bob") == "new"
    kept.tree.evict(2)
    assert kept.reason(range(8), scope="bob") == "new"
    assert kept.reason(range(8), scope="alice") == "evicted"


def test_everybody_may_know_that_something_public_was_evicted():
    kept = Kept()
    kept.put(range(8), scope="alice", public=8)
    kept.tree.evict(1)
    assert kept.reason(range(8), scope="bob") == "evicted"


# Dropping


def test_the_least_recently_used_end_goes_first():
    kept = Kept()
    kept.put(range(8))
    kept.put(range(50, 58))
    kept.found(range(8))
    assert kept.tree.evict(3) == 3
    assert kept.found(range(50, 58)) == 0
    assert kept.found(range(8)) == 4


def test_what_somebody_uses_stays_and_so_does_what_leads_to_it():
    kept = Kept()
    pages = kept.put(range(12))
    kept.pool.retain(pages[:2])
    assert kept.tree.evictable_pages() == 1
    assert kept.tree.evict(9) == 1
    assert kept.found(range(12)) == 8
    kept.pool.release(pages[:2])
    assert kept.tree.evict(9) == 2
    assert kept.used == 0


@pytest.mark.parametrize("keep", range(13))
def test_forget_keeps_so_many_tokens_and_no_more(keep):
    kept = Kept()
    kept.put(range(12))
    kept.put([*range(9), 99])
    kept.put([*range(6), 98], scope="other")
    kept.tree.forget(tuple(range(12)), keep=keep, scope="")
    assert kept.found(range(12)) == keep
    assert kept.found([*range(9), 99]) == (10 if keep >= 9 else keep)
    assert kept.found([*range(6), 98], scope="other") == 7


def test_forget_leaves_what_is_public_and_takes_what_follows_it():
    kept = Kept()
    kept.put(range(12), scope="alice", public=4)
    kept.put([*range(4), 70, 71], scope="bob")
    kept.tree.forget(tuple(range(12)), keep=0, scope="alice")
    assert kept.found(range(12), scope="alice") == 4
    assert kept.found([*range(4), 70, 71], scope="bob") == 6


def test_clearing_gives_every_page_back():
    kept = Kept()
    kept.put(range(12), public=4)
    kept.put([*range(6), 98], scope="other")
    kept.tree.clear()
    assert kept.used == 0
