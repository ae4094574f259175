"""Random pages of keys and values, with what must not be read poisoned."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class PagedCase:
    """The arguments of a paged attention, and the keys and values of each row by themselves."""

    queries: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    pages: torch.Tensor
    lengths: torch.Tensor
    rows: list[tuple[torch.Tensor, torch.Tensor]]
    """Of each row: (num_kv_heads, length, head_dim), twice."""


def paged_case(
    lengths: list[int],
    *,
    num_kv_heads: int = 2,
    group: int = 2,
    head_dim: int = 16,
    page_tokens: int = 8,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
) -> PagedCase:
    """Scatter sequences over a pool in random order; every slot that no sequence has filled is NaN."""
    generator = torch.Generator().manual_seed(seed)
    counts = [-(-length // page_tokens) for length in lengths]
    order = torch.randperm(sum(counts) + 3, generator=generator)
    pages = torch.full((len(lengths), max(counts) + 2), int(order[-1]), dtype=torch.int32)
    shape = (num_kv_heads, len(order) * page_tokens, head_dim)
    keys, values = torch.full(shape, torch.nan), torch.full(shape, torch.nan)
    rows, taken = [], 0
    for row, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        pages[row, :count] = order[taken : taken + count]
        taken += count
        slots = (pages[row, :count, None] * page_tokens + torch.arange(page_tokens)).flatten()[:length]
        keys[:, slots], values[:, slots] = (
            torch.randn(num_kv_heads, length, head_dim, generator=generator) for _ in range(2)
        )
        rows.append((keys[:, slots].to(device, dtype), values[:, slots].to(device, dtype)))
    queries = torch.randn(len(lengths), num_kv_heads * group, head_dim, generator=generator)
    return PagedCase(
        queries=queries.to(device, dtype),
        keys=keys.to(device, dtype),
        values=values.to(device, dtype),
        pages=pages.to(device),
        lengths=torch.tensor(lengths, dtype=torch.int32, device=device),
        rows=rows,
    )
