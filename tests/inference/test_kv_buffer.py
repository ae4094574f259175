"""A KV buffer grows without losing what it holds, and hands out copies of a prefix."""

from __future__ import annotations

import pytest
import torch

from agentkit.errors import InferenceError
from agentkit.inference.kv_cache import KVBuffer


@pytest.fixture
def filled() -> KVBuffer:
    """A buffer of 6 positions, of which 4 are held."""
    kv = KVBuffer(num_layers=2, num_kv_heads=3, head_dim=4, capacity=6)
    kv.keys.copy_(torch.arange(kv.keys.numel(), dtype=torch.float32).view_as(kv.keys))
    kv.values.copy_(-kv.keys)
    kv.length = 4
    return kv


def test_a_new_buffer_is_empty() -> None:
    kv = KVBuffer(num_layers=2, num_kv_heads=3, head_dim=4)
    assert (kv.length, kv.capacity, kv.nbytes) == (0, 0, 0)


def test_growing_keeps_the_content(filled: KVBuffer) -> None:
    keys, values = filled.keys[:, :, :4].clone(), filled.values[:, :, :4].clone()

    filled.reserve(10)

    assert (filled.length, filled.capacity) == (4, 10)
    assert torch.equal(filled.keys[:, :, :4], keys)
    assert torch.equal(filled.values[:, :, :4], values)


def test_a_buffer_that_cannot_grow_stays_as_it_was(filled: KVBuffer) -> None:
    filled.values = torch.empty((1, 1, 0, 1)).expand(
        1 << 40, 1, 0, 1
    )  # the keys fit into memory, these do not

    with pytest.raises(RuntimeError, match="can't allocate memory"):
        filled.reserve(10)
    assert filled.capacity == 6


def test_reserving_less_than_there_is_changes_nothing(filled: KVBuffer) -> None:
    keys = filled.keys
    filled.reserve(3)
    assert filled.capacity == 6
    assert filled.keys is keys


def test_truncating_keeps_the_memory(filled: KVBuffer) -> None:
    filled.truncate(1)
    assert (filled.length, filled.capacity) == (1, 6)


def test_a_copy_holds_only_what_was_asked_for(filled: KVBuffer) -> None:
    twin = filled.copy(3)
    assert (twin.length, twin.capacity) == (3, 3)
    assert torch.equal(twin.keys, filled.keys[:, :, :3])
    assert torch.equal(twin.values, filled.values[:, :, :3])


def test_a_copy_shares_no_memory(filled: KVBuffer) -> None:
    twin = filled.copy(4)
    twin.keys.zero_()
    assert filled.keys[1, 2, 3, 3] != 0


@pytest.mark.parametrize("length", [-1, 5])
def test_lengths_that_are_not_held_are_refused(filled: KVBuffer, length: int) -> None:
    with pytest.raises(InferenceError, match=f"holds 4 positions, asked for {length}"):
        filled.truncate(length)
    with pytest.raises(InferenceError, match=f"holds 4 positions, asked for {length}"):
        filled.copy(length)
    assert filled.length == 4


def test_nbytes_counts_keys_and_values(filled: KVBuffer) -> None:
    assert filled.nbytes == 2 * (2 * 3 * 6 * 4) * 4
