"""The seeds that the fuzzer begins with hold, and so do variations of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.inference.fuzzing import OUTPUT_SEEDS, PROMPT_SEEDS, check_output, check_prompt


@pytest.mark.parametrize("seed", OUTPUT_SEEDS)
@pytest.mark.parametrize("sizes", [b"\x00\x00\x00\x00", b"\x02\x04\x00\x06"])
def test_output_seeds_hold(seed, sizes):
    check_output(sizes + seed.encode())


@pytest.mark.parametrize("seed", PROMPT_SEEDS)
@pytest.mark.parametrize("dialect", range(28))
def test_prompt_seeds_hold_in_every_dialect(seed, dialect):
    for offered in (0, 1):
        check_prompt(bytes([dialect, offered]) + seed.encode())


@given(
    pieces=st.lists(st.sampled_from(OUTPUT_SEEDS), min_size=2, max_size=3), cuts=st.lists(st.integers(0, 80))
)
def test_cut_and_joined_seeds_hold(pieces, cuts):
    joined = "".join(
        piece[: cuts[index] if index < len(cuts) else None] for index, piece in enumerate(pieces)
    )
    check_output(b"\x00\x03\x01\x07" + joined.encode())
