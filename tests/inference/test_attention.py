"""Prefill behind a cached prefix: the mask that a GPU gets means what the matrix means that a CPU gets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention.bias import CausalBias

from agentkit.inference.attention import Span, attend, causal_mask, gathers
from tests.inference.paged import paged_case

CPU, GPU = torch.device("cpu"), torch.device("cuda")
PAGE = 8


def span(
    pages: list[int], cached: int, count: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> Span:
    runs = [slice(page * PAGE, (page + 1) * PAGE) for page in pages]
    runs[-1] = slice(runs[-1].start, runs[-1].start + (cached + count - 1) % PAGE + 1)
    mask = causal_mask(cached, count, dtype=torch.float32, device=device)
    room = torch.empty(2, 2, cached + count, 16, dtype=dtype) if gathers(count, runs, device) else None
    return Span(rows=slice(0, count), runs=runs, causal=False, mask=mask, room=room)


@pytest.mark.parametrize(("cached", "count"), [(1, 39), (24, 16), (31, 9), (30, 10)])
def test_the_words_lower_right_mean_the_matrix(cached, count):
    case = paged_case([40])
    queries = torch.randn(count, 4, 16, generator=torch.Generator().manual_seed(1))
    pages = case.pages[0, :5].tolist()
    words, matrix = (span(pages, cached, count, device) for device in (GPU, CPU))
    assert isinstance(words.mask, CausalBias)
    assert not isinstance(matrix.mask, CausalBias)
    expected = attend(queries, case.keys, case.values, [matrix])
    torch.testing.assert_close(attend(queries, case.keys, case.values, [words]), expected, rtol=0, atol=1e-6)
    upper_left = attend(queries, case.keys, case.values, [replace(matrix, mask=None, causal=True)])
    assert (upper_left - expected).abs().max() > 0.1


@pytest.mark.parametrize("cached", [0, 24])
def test_keys_in_bfloat16_cost_many_queries_no_more_than_their_rounding(cached):
    case = paged_case([64])
    queries = torch.randn(64 - cached, 4, 16, generator=torch.Generator().manual_seed(1))
    behind = span(case.pages[0, :8].tolist(), cached, 64 - cached, CPU)
    keys, values = case.keys.bfloat16(), case.values.bfloat16()
    expected = attend(queries, keys.float(), values.float(), [behind])
    rounded = span(case.pages[0, :8].tolist(), cached, 64 - cached, CPU, torch.bfloat16)
    attended = attend(queries, keys, values, [rounded])
    assert attended.dtype == torch.float32
    torch.testing.assert_close(attended, expected, rtol=0, atol=0.03)
