"""What the cache copies, what it writes in place, what gives way, and what a pin holds."""

from __future__ import annotations

import pytest
import torch

from agentkit.inference.kv_cache import DISPOSABLE_TAIL
from tests.inference.test_kv_cache import compute, computed, content, new_cache, run_once

PAGE = 32


def test_branches_of_a_long_sequence_take_a_page_each_and_copy_no_full_one():
    cache = new_cache(200, PAGE)
    trunk = list(range(1500))
    run_once(cache, trunk)
    used = cache.pool.num_pages - cache.pool.free_pages
    branches = []
    for number in range(8):
        ids = [*trunk, 5000 + number]
        kv, _ = cache.open(ids[:-1], scope="")
        assert kv.length == 1500
        assert kv.missing_pages(len(ids)) <= 1
        assert cache.reserve(kv, len(ids))
        compute(kv, ids)
        branches.append((kv, ids))
    full = 1500 // PAGE
    assert len({tuple(kv.pages[:full]) for kv, _ in branches}) == 1
    # The first goes on in the page that is not full; each of the others has a copy of that one.
    assert cache.pool.num_pages - cache.pool.free_pages == used + len(branches) - 1
    for kv, ids in branches:
        assert content(kv) == computed(ids)


def test_the_next_turn_goes_on_in_the_same_run():
    cache = new_cache(200, PAGE)
    ids: list[int] = []
    for turn in range(8):
        ids = [*ids, *range(turn * 1000, turn * 1000 + 75)]
        kv, _ = cache.open(ids[:-1], scope="")
        assert kv.length == turn * 75
        assert cache.reserve(kv, len(ids))
        compute(kv, ids)
        assert len(kv.slots(0, len(ids))) == 1
        cache.close(kv, ids, scope="", public_tokens=0, disposable=False)


@pytest.mark.parametrize("conversation", [PAGE * 3, PAGE * 3 + 5], ids=["full pages", "a part of a page"])
def test_verdicts_on_a_growing_conversation_fill_no_memory_and_stay_in_one_run(conversation):
    cache = new_cache(200, PAGE)
    suffix = list(range(9000, 9000 + DISPOSABLE_TAIL - PAGE))
    for turn in range(6):
        ids = [*range(conversation + PAGE * turn), *suffix]
        kv, _ = cache.open(ids[:-1], scope="")
        assert turn == 0 or kv.length == conversation + PAGE * (turn - 1)
        assert cache.reserve(kv, len(ids))
        compute(kv, ids)
        assert len(kv.slots(0, len(ids))) == 1
        cache.close(kv, ids, scope="", public_tokens=0, disposable=True)
        used = cache.pool.num_pages - cache.pool.free_pages
        assert used == cache.pool.pages_for(len(ids))


def test_what_a_generation_left_gives_way_to_nothing_but_age():
    cache = new_cache(200, PAGE)
    run_once(cache, range(100))
    run_once(cache, [*range(70), 999], disposable=True)
    assert cache.matched_tokens(range(100), scope="") == 100


def test_a_long_tail_of_a_score_stays():
    cache = new_cache(200, PAGE)
    run_once(cache, range(50 + DISPOSABLE_TAIL + 1), disposable=True)
    run_once(cache, [*range(50), 999], disposable=True)
    assert cache.matched_tokens(range(900), scope="") == 50 + DISPOSABLE_TAIL + 1


@pytest.mark.parametrize("leaves_at", [PAGE, PAGE + 9], ids=["between pages", "within a page"])
def test_a_scope_takes_nothing_from_the_public_or_another_scope_to_write_its_own(leaves_at):
    cache = new_cache(200, PAGE)
    template = list(range(2 * PAGE))
    run_once(cache, [*template, 5000, 5001], scope="alice", public=2 * PAGE, disposable=True)
    run_once(cache, [*template[:PAGE], 6000], scope="carol", disposable=True)
    run_once(cache, [*template[:leaves_at], 7000, 7001], scope="bob", disposable=True)
    assert cache.matched_tokens([*template, 5000, 5001], scope="alice") == 2 * PAGE + 2
    assert cache.matched_tokens([*template[:PAGE], 6000], scope="carol") == PAGE + 1
    assert cache.matched_tokens(template, scope="dave") == 2 * PAGE


def test_a_pin_outlives_everything_that_was_used_since():
    cache = new_cache(10, PAGE)
    run_once(cache, range(100))
    pin = cache.pin(range(100), scope="")
    assert pin.tokens == 100
    for start in range(1000, 9000, 1000):
        run_once(cache, range(start, start + 150))
    assert cache.matched_tokens(range(100), scope="") == 100
    cache.unpin(pin)
    cache.unpin(pin)  # giving it back twice is allowed
    run_once(cache, range(9000, 9000 + 300))
    assert cache.matched_tokens(range(100), scope="") == 0


def test_a_pinned_sequence_goes_on_in_its_own_page():
    cache = new_cache(10, PAGE)
    run_once(cache, range(100))
    pin = cache.pin(range(100), scope="")
    run_once(cache, range(120))
    assert cache.pool.num_pages - cache.pool.free_pages == 4
    cache.unpin(pin)


def test_pages_that_are_all_in_use_leave_no_room_and_nothing_is_evicted_in_vain():
    cache = new_cache(4, PAGE)
    run_once(cache, range(30))
    kv, _ = cache.open(range(1000, 1090), scope="")
    assert cache.reserve(kv, 90)
    other, _ = cache.open(range(2000, 2090), scope="")
    assert not cache.reserve(other, 90)
    assert not cache.reserve(other, 20, spare=1)
    assert cache.matched_tokens(range(30), scope="") == 30
    assert cache.reserve(other, 20)
    assert cache.matched_tokens(range(30), scope="") == 0


def test_where_no_page_is_left_for_a_copy_its_tokens_are_computed_again():
    cache = new_cache(3, PAGE)
    run_once(cache, range(70))
    first, _ = cache.open(range(75), scope="")  # goes on in the page that is not full
    second, _ = cache.open([*range(70), 9], scope="")
    assert second.length == 70
    assert not cache.reserve(second, 71)
    assert second.length == 64
    first.close()
    second.close()


def test_what_does_not_fit_is_loaded_in_part():
    cache = new_cache(4, PAGE)
    run_once(cache, range(120))
    keys, values = cache.read(range(120), scope="")
    assert keys.shape == (1, 1, 120, 1)
    cache.clear()
    running, _ = cache.open(range(1000, 1040), scope="")
    assert cache.reserve(running, 40)
    cache.write(range(120), keys, values, scope="")
    assert cache.matched_tokens(range(120), scope="") == 64
    again, _ = cache.read(range(120), scope="")
    assert torch.equal(again, keys[:, :, :64])
