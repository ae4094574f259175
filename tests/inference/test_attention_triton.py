"""The Triton kernels give what the reference gives: in Triton's interpreter, or on a GPU with TRITON_INTERPRET=0."""

from __future__ import annotations

import os
from functools import partial

import pytest
import torch

from agentkit.inference.attention_paged import paged_attention
from tests.inference.paged import PagedCase, paged_case

DEVICE = "cuda" if os.environ["TRITON_INTERPRET"] == "0" else "cpu"
pytest.importorskip("triton", reason="needs Triton (pip install triton), which is for Linux on x86-64 only")

TOLERANCES = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}
LENGTHS = [1, 63, 64, 65, 200]  # around the 64 positions that are read at once


def assert_agrees(case: PagedCase, *, page_tokens: int, splits: int) -> None:
    from agentkit.inference.attention_triton import triton_paged_attention

    arguments = (case.queries, case.keys, case.values, case.pages, case.lengths)
    reference = paged_attention(*arguments, page_tokens=page_tokens)
    result = triton_paged_attention(*arguments, page_tokens=page_tokens, splits=splits)
    assert result.dtype == reference.dtype
    torch.testing.assert_close(result, reference, rtol=0, atol=TOLERANCES[case.keys.dtype])


new_case = partial(paged_case, device=DEVICE)


@pytest.mark.parametrize("splits", [1, 2, 3, 8])
def test_sequences_of_many_lengths_in_any_number_of_splits(splits):
    assert_agrees(new_case(LENGTHS), page_tokens=8, splits=splits)


@pytest.mark.parametrize("page_tokens", [1, 12, 32, 64, 128])
def test_pages_of_any_size(page_tokens):
    assert_agrees(new_case(LENGTHS, page_tokens=page_tokens), page_tokens=page_tokens, splits=2)


@pytest.mark.parametrize(("num_kv_heads", "group"), [(1, 1), (4, 1), (2, 3), (8, 4), (1, 32)])
def test_any_number_of_query_heads_for_a_key_head(num_kv_heads, group):
    case = new_case([3, 130], num_kv_heads=num_kv_heads, group=group)
    assert_agrees(case, page_tokens=8, splits=3)


@pytest.mark.parametrize("head_dim", [8, 64, 80, 128])
def test_heads_of_any_size(head_dim):
    assert_agrees(new_case([5, 100], head_dim=head_dim), page_tokens=8, splits=2)


@pytest.mark.parametrize("dtype", list(TOLERANCES))
def test_every_dtype_of_keys_and_values(dtype):
    assert_agrees(new_case(LENGTHS, dtype=dtype, head_dim=64, page_tokens=32), page_tokens=32, splits=2)


@pytest.mark.parametrize("splits", [1, 4])
def test_a_row_without_positions_is_zero(splits):
    assert_agrees(new_case([0, 70, 0]), page_tokens=8, splits=splits)


def test_queries_may_be_a_view_of_a_wider_tensor():
    case = new_case([30, 90])
    wide = torch.cat((case.queries, torch.full_like(case.queries, torch.nan)), dim=1)
    narrow = wide[:, : case.queries.shape[1]]
    from agentkit.inference.attention_triton import triton_paged_attention

    arguments = (case.keys, case.values, case.pages, case.lengths)
    result = triton_paged_attention(narrow, *arguments, page_tokens=8, splits=2)
    torch.testing.assert_close(result, paged_attention(narrow, *arguments, page_tokens=8), rtol=0, atol=1e-5)
