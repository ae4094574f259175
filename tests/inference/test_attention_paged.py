"""One query per sequence over scattered pages sees its own sequence, all of it, and nothing else."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.inference.attention_paged import paged_attention
from tests.inference.paged import PagedCase, paged_case


def attended(case: PagedCase, page_tokens: int) -> torch.Tensor:
    return paged_attention(
        case.queries, case.keys, case.values, case.pages, case.lengths, page_tokens=page_tokens
    )


def expected(case: PagedCase) -> torch.Tensor:
    """What torch's own attention gives, each row by itself."""
    rows = [
        F.scaled_dot_product_attention(query[None, :, None], keys[None], values[None], enable_gqa=True)
        for query, (keys, values) in zip(case.queries, case.rows, strict=True)
    ]
    return torch.cat(rows).flatten(1)


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    num_kv_heads=st.sampled_from([1, 2, 3]),
    group=st.sampled_from([1, 2, 4]),
    page_tokens=st.sampled_from([1, 3, 8, 32]),
    seed=st.integers(0, 100),
)
@settings(max_examples=40, deadline=None)
def test_every_row_gets_what_torch_gives_it_alone(lengths, num_kv_heads, group, page_tokens, seed):
    case = paged_case(
        lengths, num_kv_heads=num_kv_heads, group=group, page_tokens=page_tokens, head_dim=8, seed=seed
    )
    torch.testing.assert_close(attended(case, page_tokens), expected(case), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_result_has_the_dtype_of_the_queries(dtype):
    case = paged_case([5, 17], dtype=dtype)
    result = attended(case, 8)
    assert result.dtype == dtype
    torch.testing.assert_close(result, expected(case), rtol=0, atol=0.02)


def test_a_row_without_positions_is_zero():
    result = attended(paged_case([9, 0]), 8)
    assert result[0].abs().min() > 0
    assert result[1].abs().max() == 0
