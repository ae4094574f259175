"""Attention of one query per sequence over KV pages that a table names: the reference that kernels are held to.

Its shapes depend on no length, so that one captured step serves sequences of all lengths.
"""

from __future__ import annotations

from typing import Protocol

import torch


class PagedAttention(Protocol):
    """Lets one query of each row attend to the first positions of its sequence.

    `queries` have the shape (rows, num_heads, head_dim), a layer's `keys` and `values` (num_kv_heads, slots,
    head_dim). Position `p` of a row lies in slot `pages[row, p // page_tokens] * page_tokens + p % page_tokens`;
    the row sees its first `lengths[row]` positions. `pages` (rows, most pages) and `lengths` (rows,) are int32. What
    the table says behind a row's last page, and what lies in slots behind its length, has no influence.

    Returns (rows, num_heads * head_dim), which is zero in a row of length 0. Reads only, and never waits for the
    device.
    """

    def __call__(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        pages: torch.Tensor,
        lengths: torch.Tensor,
        *,
        page_tokens: int,
    ) -> torch.Tensor:
        """Return what each row's query finds."""


def paged_attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    pages: torch.Tensor,
    lengths: torch.Tensor,
    *,
    page_tokens: int,
) -> torch.Tensor:
    """Implement `PagedAttention` in plain torch, in fp32: every page of the table is gathered."""
    num_rows, num_heads, head_dim = queries.shape
    num_kv_heads = keys.shape[0]
    positions = torch.arange(pages.shape[1] * page_tokens, device=queries.device)
    inside = positions < lengths[:, None]  # (rows, positions)
    in_page = positions[:page_tokens]
    slots = torch.where(inside, (pages[:, :, None] * page_tokens + in_page).flatten(1), 0)
    # What lies behind the length may be anything, and zero times NaN is NaN.
    outside = ~inside[None, :, :, None]
    seen_keys, seen_values = (
        content[:, slots].float().masked_fill(outside, 0.0) for content in (keys, values)
    )  # (num_kv_heads, rows, positions, head_dim)
    grouped = queries.float().view(num_rows, num_kv_heads, -1, head_dim).transpose(0, 1)
    scores = grouped @ seen_keys.transpose(-2, -1) * head_dim**-0.5
    weights = scores.masked_fill(~inside[None, :, None], float("-inf")).softmax(dim=-1)
    attended: torch.Tensor = weights.masked_fill(lengths[None, :, None, None] == 0, 0.0) @ seen_values
    return attended.transpose(0, 1).reshape(num_rows, num_heads * head_dim).to(queries.dtype)
