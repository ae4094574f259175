"""Sequences share pages and never write what another one reads."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import InferenceError
from agentkit.inference.kv_pages import PagePool
from agentkit.inference.kv_sequence import KVSequence

PAGE = 4


def new_pool(num_pages: int = 32) -> PagePool:
    return PagePool(num_pages=num_pages, page_tokens=PAGE, num_layers=1, num_kv_heads=1, head_dim=1)


def append(sequence: KVSequence, *numbers: float) -> None:
    """Write as a forward pass does: room first, then the values, then the length."""
    end = sequence.length + len(numbers)
    sequence.prepare(end)
    slots = [slot for run in sequence.slots(sequence.length, end) for slot in range(run.start, run.stop)]
    sequence.pool.keys[0, 0, slots, 0] = torch.tensor([float(number) for number in numbers])
    sequence.length = end


def content(sequence: KVSequence) -> list[int]:
    runs = sequence.slots(0, sequence.length)
    return [int(number) for run in runs for number in sequence.pool.keys[0, 0, run, 0]]


def test_a_sequence_alone_is_one_run():
    sequence = KVSequence(new_pool())
    append(sequence, *range(10))
    append(sequence, *range(10, 30))
    assert sequence.slots(0, 30) == [slice(0, 30)]
    assert sequence.slots(9, 10) == [slice(9, 10)]
    assert sequence.slots(5, 5) == []


def test_a_fork_copies_nothing_until_it_writes_and_then_one_page():
    pool = new_pool()
    sequence = KVSequence(pool)
    append(sequence, *range(10))
    used = pool.num_pages - pool.free_pages
    branches = [sequence.fork() for _ in range(3)]
    assert pool.num_pages - pool.free_pages == used
    for number, branch in enumerate(branches):
        append(branch, 100 + number)
        assert branch.pages[:2] == sequence.pages[:2]
    assert pool.num_pages - pool.free_pages == used + len(branches)
    append(sequence, 7)
    assert pool.num_pages - pool.free_pages == used + len(branches)  # the origin goes on in its own page
    assert content(sequence) == [*range(10), 7]
    assert [content(branch)[-1] for branch in branches] == [100, 101, 102]


def test_a_rollback_into_a_shared_page_copies_it_before_writing():
    pool = new_pool()
    sequence = KVSequence(pool)
    append(sequence, *range(10))
    branch = sequence.fork()
    sequence.truncate(9)
    append(sequence, 50)
    assert content(sequence) == [*range(9), 50]
    assert content(branch) == list(range(10))


def test_a_rollback_gives_back_the_pages_behind_it():
    pool = new_pool()
    sequence = KVSequence(pool)
    append(sequence, *range(20))
    sequence.truncate(5)
    assert pool.free_pages == pool.num_pages - 2
    sequence.close()
    assert pool.free_pages == pool.num_pages


def test_room_is_made_before_anything_changes():
    pool = new_pool(3)
    sequence = KVSequence(pool)
    append(sequence, *range(6))
    branch = sequence.fork()
    assert branch.missing_pages(12) == 2
    with pytest.raises(InferenceError, match="2 pages of 4 tokens are needed, 1 of 3 are free"):
        branch.prepare(12)
    assert branch.missing_pages(12) == 2
    assert content(branch) == list(range(6))


def test_giving_up_the_shared_end_takes_no_page():
    pool = new_pool(2)
    sequence = KVSequence(pool)
    append(sequence, *range(6))
    branch = sequence.fork()
    branch.drop_shared_end()
    assert branch.length == 4
    sequence.drop_shared_end()  # its own end, which it may write
    assert sequence.length == 6


def test_pages_that_hold_the_same_take_the_place_of_ones_own():
    pool = new_pool()
    first, second = KVSequence(pool), KVSequence(pool)
    append(first, *range(10))
    append(second, *range(10))
    free = pool.free_pages
    second.share(first.pages[:2])
    assert pool.free_pages == free + 2
    assert second.pages[:2] == first.pages[:2]
    append(second, 10)
    assert content(second) == list(range(11))


@pytest.mark.parametrize("length", [-1, 5])
def test_lengths_that_are_not_held_are_refused(length):
    sequence = KVSequence(new_pool())
    append(sequence, *range(4))
    with pytest.raises(InferenceError, match=f"holds 4 positions, asked for {length}"):
        sequence.truncate(length)


actions = st.lists(
    st.tuples(
        st.sampled_from(["append", "fork", "truncate", "close"]), st.integers(0, 99), st.integers(0, 9)
    ),
    max_size=60,
)


@given(actions=actions)
def test_what_a_sequence_holds_is_changed_by_nobody_else(actions):
    pool = new_pool(400)
    sequences: list[tuple[KVSequence, list[int]]] = [(KVSequence(pool), [])]
    fresh = 0
    for action, who, size in actions:
        sequence, expected = sequences[who % len(sequences)]
        if action == "append":
            numbers = list(range(fresh, fresh + size))
            fresh += size
            append(sequence, *numbers)
            expected += numbers
        elif action == "fork":
            sequences.append((sequence.fork(), list(expected)))
        elif action == "truncate":
            length = len(expected) * size // 10
            sequence.truncate(length)
            del expected[length:]
        elif len(sequences) > 1:
            sequence.close()
            del sequences[who % len(sequences)]
        for each, holds in sequences:
            assert content(each) == holds
    for sequence, _ in sequences:
        sequence.close()
    assert pool.free_pages == pool.num_pages
