"""Pages are handed out in long runs, counted by reference, and never handed out twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import InferenceError
from agentkit.inference.kv_pages import PagePool


def new_pool(num_pages: int = 16) -> PagePool:
    return PagePool(num_pages=num_pages, page_tokens=4, num_layers=2, num_kv_heads=3, head_dim=5)


def test_a_pool_knows_its_size():
    pool = new_pool()
    assert pool.keys.shape == pool.values.shape == (2, 3, 16 * 4 + 1, 5)
    assert pool.page_bytes == 2 * 2 * 3 * 4 * 5 * 4
    assert (pool.capacity, pool.free_pages) == (64, 16)
    assert [pool.pages_for(tokens) for tokens in (0, 1, 4, 5)] == [0, 1, 1, 2]


def test_a_run_goes_on_behind_the_page_that_was_named():
    pool = new_pool()
    first = pool.allocate(3)
    assert pool.allocate(2, after=first[-1]) == [3, 4]


def test_a_new_run_leaves_the_one_before_it_room_to_grow():
    pool = new_pool()
    first, second = pool.allocate(2), pool.allocate(2)
    assert (first, second) == ([0, 1], [9, 10])
    assert pool.allocate(4, after=1) == [2, 3, 4, 5]


def test_where_no_gap_is_large_enough_the_largest_are_filled_first():
    pool = new_pool(8)
    pages = pool.allocate(8)
    pool.release([pages[index] for index in (0, 2, 3, 4, 6)])
    assert pool.allocate(4) == [2, 3, 4, 0]


def test_a_page_is_free_when_its_last_holder_let_go():
    pool = new_pool()
    pages = pool.allocate(2)
    pool.retain(pages)
    pool.release(pages)
    assert [pool.references(page) for page in pages] == [1, 1]
    pool.release(pages)
    assert pool.free_pages == 16
    with pytest.raises(InferenceError, match="KV page 0 is free already"):
        pool.release([0])
    with pytest.raises(InferenceError, match="KV page 1 is free and cannot be shared"):
        pool.retain([1])


def test_more_than_there_is_is_refused_and_nothing_taken():
    pool = new_pool()
    pool.allocate(10)
    with pytest.raises(InferenceError, match="7 pages of 4 tokens are needed, 6 of 16 are free"):
        pool.allocate(7)
    assert pool.free_pages == 6


def test_copying_takes_the_first_slots_of_a_page_and_no_more():
    pool = new_pool(2)
    pool.keys.zero_()
    pool.values.zero_()
    pool.keys[:, :, 4:8] = 1
    pool.values[:, :, 4:8] = 2
    pool.copy(1, 0, 3)
    assert pool.keys[1, 2, :4, 0].tolist() == [1, 1, 1, 0]
    assert pool.values[0, 0, :4, 4].tolist() == [2, 2, 2, 0]


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 6), st.one_of(st.none(), st.integers(0, 15)), st.integers(0, 99)),
        max_size=60,
    )
)
def test_no_page_is_lost_or_handed_out_twice(steps):
    pool = new_pool()
    held: list[list[int]] = []
    for count, after, seed in steps:
        if count <= pool.free_pages and count > 0:
            pages = pool.allocate(count, after=after)
            assert len(set(pages)) == count
            assert not set(pages) & {page for run in held for page in run}
            held.append(pages)
        elif held:
            pool.release(held.pop(seed % len(held)))
        assert pool.free_pages == 16 - sum(map(len, held))
