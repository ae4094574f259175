"""What stays cached between calls, who gets it, and what is dropped first."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agentkit.inference.kv_cache import KVBuffer
from agentkit.inference.prefix_cache import DISPOSABLE_TAIL, PrefixCache

BYTES_PER_TOKEN = 2 * 2 * 4  # keys and values of two numbers, four bytes each
PLENTY = 1 << 20


def computed(ids) -> KVBuffer:
    """Return a buffer as if a model had computed it: every position holds its own token id."""
    kv = KVBuffer(num_layers=1, num_kv_heads=1, head_dim=2, capacity=len(ids))
    content = torch.tensor(list(ids), dtype=torch.float32).reshape(1, 1, -1, 1)
    kv.keys[:] = content
    kv.values[:] = content
    kv.length = len(ids)
    return kv


def held(kv: KVBuffer) -> list[int]:
    return [int(value) for value in kv.keys[0, 0, : kv.length, 0]]


def filled(*sequences, capacity_bytes=PLENTY, scope="") -> PrefixCache:
    cache = PrefixCache(capacity_bytes)
    for ids in sequences:
        cache.put(ids, computed(ids), scope=scope)
    return cache


def take(cache: PrefixCache, ids, scope="") -> list[int] | None:
    kv = cache.take(ids, scope=scope)
    return None if kv is None else held(kv)


def test_a_sequence_that_goes_on_takes_the_buffer_itself():
    cache, kv = PrefixCache(PLENTY), computed(range(10))
    cache.put(range(10), kv, scope="")
    assert cache.take(range(20), scope="") is kv
    assert (len(cache), cache.nbytes) == (0, 0)


def test_a_sequence_that_leaves_near_the_end_takes_the_buffer_cut_at_the_match():
    cache = filled(range(DISPOSABLE_TAIL + 50))
    assert take(cache, [*range(50), 999]) == list(range(50))
    assert len(cache) == 0


def test_a_branch_copies_and_leaves_the_longer_sequence_in_place():
    trunk = range(DISPOSABLE_TAIL + 51)
    cache = filled(trunk)
    assert take(cache, [*range(50), 999]) == list(range(50))
    assert take(cache, [*trunk, 999]) == list(trunk)


def test_nothing_in_common_takes_nothing():
    cache = filled([1, 2, 3])
    assert take(cache, [9, 2, 3]) is None
    assert take(cache, []) is None
    assert len(cache) == 1


def test_the_longest_match_wins_and_of_equals_the_one_with_least_to_lose():
    cache = filled([1, 2, 3, 4, 5, 6], [1, 2, 9], [1, 2, 3, 8])
    assert take(cache, [1, 2, 3, 7]) == [1, 2, 3]
    assert take(cache, [1, 2, 3, 4, 5, 6, 7]) == [1, 2, 3, 4, 5, 6]


def test_scopes_never_share():
    cache = filled([1, 2, 3], scope="alice")
    assert take(cache, [1, 2, 3, 4], scope="bob") is None
    cache.put([1, 2], computed([1, 2]), scope="bob")
    assert len(cache) == 2
    assert take(cache, [1, 2, 3, 4], scope="bob") == [1, 2]
    assert take(cache, [1, 2, 3, 4], scope="alice") == [1, 2, 3]


@pytest.mark.parametrize("order", [([1, 2, 3], [1, 2]), ([1, 2], [1, 2, 3]), ([1, 2, 3], [1, 2, 3])])
def test_a_sequence_that_begins_another_is_kept_once(order):
    cache = filled(*order)
    assert (len(cache), cache.tokens) == (1, 3)


def test_least_recently_used_goes_first_when_the_bytes_are_full():
    cache = filled([1, 1], [2, 2], [3, 3], capacity_bytes=6 * BYTES_PER_TOKEN)
    cache.put([1, 1], computed([1, 1]), scope="")  # used again
    cache.put([4, 4], computed([4, 4]), scope="")
    assert take(cache, [2, 2]) is None
    assert [take(cache, [token, token]) for token in (1, 3, 4)] == [[1, 1], [3, 3], [4, 4]]


def test_a_branch_counts_as_a_use_of_what_it_copied():
    trunk = list(range(DISPOSABLE_TAIL + 10))
    cache = filled(trunk, [900], capacity_bytes=(len(trunk) + 1) * BYTES_PER_TOKEN)
    take(cache, [0, 1, 950])
    cache.put([901], computed([901]), scope="")
    assert take(cache, [900]) is None
    assert take(cache, trunk) == trunk


def test_a_buffer_larger_than_the_cache_is_not_kept():
    cache = filled([1, 2, 3], capacity_bytes=2 * BYTES_PER_TOKEN)
    assert (len(cache), cache.nbytes) == (0, 0)


def test_no_bytes_keep_nothing_and_an_empty_buffer_is_nothing():
    assert len(filled([1], capacity_bytes=0)) == 0
    assert len(filled([])) == 0


def test_forget_cuts_every_sequence_that_holds_the_ids_and_no_other():
    cache = filled([1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 9], [7])
    before = cache.nbytes
    cache.forget([1, 2, 3], keep=2, scope="")
    assert cache.nbytes < before
    assert take(cache, [1, 2, 3, 4]) == [1, 2]
    assert take(cache, [7]) == [7]


def test_forget_leaves_what_is_kept_other_scopes_and_other_continuations():
    cache = filled([1, 2, 3])
    cache.put([1, 2, 3], computed([1, 2, 3]), scope="other")
    cache.forget([1, 2, 3], keep=3, scope="")
    cache.forget([1, 2, 4], keep=2, scope="")
    assert cache.tokens == 6
    cache.forget([1, 2, 3], keep=0, scope="")
    assert take(cache, [1, 2, 3]) is None
    assert take(cache, [1, 2, 3], scope="other") == [1, 2, 3]


def test_ids_that_do_not_describe_the_buffer_are_refused():
    with pytest.raises(ValueError, match="2 ids do not describe a buffer of 3 positions"):
        PrefixCache(PLENTY).put([1, 2], computed([1, 2, 3]), scope="")


token_ids = st.lists(st.integers(0, 2), max_size=12)


@given(
    actions=st.lists(st.tuples(st.sampled_from(["put", "take", "forget"]), token_ids, st.sampled_from("ab"))),
    capacity=st.integers(0, 40),
)
def test_what_is_taken_was_computed_from_the_ids_asked_for(actions, capacity):
    cache = PrefixCache(capacity * BYTES_PER_TOKEN)
    put: dict[str, set[tuple[int, ...]]] = {"a": set(), "b": set()}
    for action, ids, scope in actions:
        if action == "put":
            cache.put(ids, computed(ids), scope=scope)
            put[scope].add(tuple(ids))
        elif action == "forget":
            cache.forget(ids, keep=len(ids) // 2, scope=scope)
        else:
            taken = take(cache, ids, scope) or []
            assert taken == ids[: len(taken)]
            assert not taken or any(known[: len(taken)] == tuple(taken) for known in put[scope])
        assert cache.nbytes <= capacity * BYTES_PER_TOKEN
