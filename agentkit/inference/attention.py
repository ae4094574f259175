"""Causal attention of one forward pass over the pages of several sequences. Knows no weights.

Rows are the tokens of the pass, one sequence after another; slots are places in the pool of pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812  # the name that every reader of torch code knows
from torch.nn.attention.bias import causal_lower_right

from agentkit.inference.cpu import multiplies_bfloat16
from agentkit.inference.kv_sequence import KVSequence
from agentkit.inference.matrices import FEW_ROWS

FEW_QUERIES = 8
"""So many queries of a scattered sequence attend run by run on a CPU; for more, gathering the runs is cheaper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The rows of one sequence, and the slots of everything up to their last position, in as few runs.

    `mask` is added to the scores, or says what would be; None for a single query, which sees all, and where
    `causal` says it all. Into `room` (2, num_kv_heads, positions, head_dim) each layer gathers the keys and values of
    scattered runs: memory that is new to the process takes longer to get than to fill.
    """

    rows: slice
    runs: list[slice]
    causal: bool
    mask: torch.Tensor | None
    room: torch.Tensor | None


class Attention(Protocol):
    """Lets each row of a pass attend to its sequence."""

    def __call__(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Return (rows, num_heads * head_dim).

        `queries` have the shape (rows, num_heads, head_dim), a layer's `keys` and `values` (num_kv_heads, slots,
        head_dim).
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What all layers of one forward pass share.

    The keys and values of the rows are written to `slots`: a slice if they are neighbours, else one index a row.
    """

    cosines: torch.Tensor
    signed_sines: torch.Tensor
    slots: slice | torch.Tensor
    attend: Attention


def plan(
    sequences: Sequence[tuple[KVSequence, int]], *, dtype: torch.dtype, device: torch.device
) -> tuple[slice | torch.Tensor, list[Span]]:
    """Return the slots and the spans of a pass that appends so many tokens to each sequence."""
    spans, written, row = [], [], 0
    for sequence, count in sequences:
        start, end = sequence.length, sequence.length + count
        # torch aligns `is_causal` to the upper left: right only where the queries start at position 0.
        masked = start > 0 and count > 1
        runs = sequence.slots(0, end)
        spans.append(
            Span(
                rows=slice(row, row + count),
                runs=runs,
                causal=start == 0,
                mask=causal_mask(start, count, dtype=dtype, device=device) if masked else None,
                room=room_for(sequence.pool.keys, end) if gathers(count, runs, device) else None,
            )
        )
        written += sequence.slots(start, end)
        row += count
    if len(written) == 1:
        return written[0], spans
    return torch.cat([torch.arange(run.start, run.stop) for run in written]).to(device), spans


def gathers(count: int, runs: Sequence[slice], device: torch.device) -> bool:
    """Whether so many queries attend to a copy of their runs, side by side."""
    return len(runs) > 1 and (count > FEW_QUERIES or device.type != "cpu")


def room_for(content: torch.Tensor, positions: int) -> torch.Tensor:
    """Return room for one layer of a pool's (layers, num_kv_heads, slots, head_dim), for keys and for values."""
    _, num_kv_heads, _, head_dim = content.shape
    return content.new_empty((2, num_kv_heads, positions, head_dim))


def store(content: torch.Tensor, slots: slice | torch.Tensor, rows: torch.Tensor) -> None:
    """Write rows of the shape (rows, num_kv_heads, head_dim) into a layer's (num_kv_heads, slots, head_dim)."""
    if isinstance(slots, slice):
        content[:, slots] = rows.transpose(0, 1)
    else:
        content.index_copy_(1, slots, rows.transpose(0, 1).to(content.dtype))


def attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, spans: Sequence[Span]
) -> torch.Tensor:
    """Let each row attend to its sequence.

    `queries` have the shape (rows, num_heads, head_dim), a layer's `keys` and `values` (num_kv_heads, slots,
    head_dim); the result is (rows, num_heads * head_dim).
    """
    if len(spans) == 1:
        return _attend(queries, keys, values, spans[0])
    return torch.cat([_attend(queries[span.rows], keys, values, span) for span in spans])


def _attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, span: Span) -> torch.Tensor:
    if span.room is not None:
        keys = torch.cat([keys[:, run] for run in span.runs], dim=1, out=span.room[0])
        values = torch.cat([values[:, run] for run in span.runs], dim=1, out=span.room[1])
    elif len(span.runs) > 1:
        return _attend_by_run(queries, keys, values, span)
    else:
        keys, values = keys[:, span.runs[0]], values[:, span.runs[0]]
    if queries.shape[0] == 1:
        # One query sees every key, and the heads of a group share theirs: they pass as the queries of one head,
        # (1, num_kv_heads, group, head_dim), which no mask hides and for which nothing is repeated.
        grouped = queries.view(1, keys.shape[0], -1, keys.shape[2])
        keys, values = keys.to(queries.dtype), values.to(queries.dtype)
        return F.scaled_dot_product_attention(grouped, keys[None], values[None]).view(1, -1)
    dtype = _dtype_of_attention(queries, keys)
    attended = F.scaled_dot_product_attention(
        queries.to(dtype).transpose(0, 1)[None],
        keys[None].to(dtype),
        values[None].to(dtype),
        attn_mask=span.mask,
        is_causal=span.causal,
        enable_gqa=True,
    )
    return attended[0].transpose(0, 1).reshape(queries.shape[0], -1).to(queries.dtype)


def _dtype_of_attention(queries: torch.Tensor, keys: torch.Tensor) -> torch.dtype:
    """Return the queries' dtype; where many meet keys in bfloat16, a CPU that is fast at it attends in that."""
    many = queries.shape[0] > FEW_ROWS and queries.device.type == "cpu"
    return keys.dtype if many and keys.dtype == torch.bfloat16 and multiplies_bfloat16() else queries.dtype


def _attend_by_run(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, span: Span
) -> torch.Tensor:
    """Attend with few queries to scattered keys, copying none of them: one softmax over the scores of all runs."""
    count, num_heads, head_dim = queries.shape
    num_kv_heads = keys.shape[0]
    # (num_kv_heads, group * count, head_dim): the queries of all heads that share a key head.
    grouped = queries.transpose(0, 1).reshape(num_kv_heads, -1, head_dim) * head_dim**-0.5
    scores = torch.cat(
        [grouped @ keys[:, run].to(grouped.dtype).transpose(1, 2) for run in span.runs], dim=-1
    )
    if count > 1:
        mask = lower_right_causal_mask(scores.shape[-1] - count, count) if span.mask is None else span.mask
        scores = (scores.view(num_kv_heads, -1, count, scores.shape[-1]) + mask.to(scores)).view_as(scores)
    lengths = [run.stop - run.start for run in span.runs]
    weights = torch.split(scores.softmax(dim=-1), lengths, dim=-1)
    attended = torch.stack(
        [part @ values[:, run].to(part.dtype) for part, run in zip(weights, span.runs, strict=True)]
    ).sum(dim=0)
    return attended.view(num_heads, count, head_dim).transpose(0, 1).reshape(count, -1)


def causal_mask(cached_len: int, query_len: int, *, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return the mask of a span whose first queries are cached already, as its device likes it best."""
    if device.type == "cpu":
        return lower_right_causal_mask(cached_len, query_len).to(dtype)
    # Not a matrix, which would keep torch from its fastest kernel, but the word for one.
    return causal_lower_right(query_len, cached_len + query_len)


def lower_right_causal_mask(cached_len: int, query_len: int) -> torch.Tensor:
    """Return what to add to the scores of the queries: zero where a key came before or is the query's own.

    The shape is (query_len, cached_len + query_len).
    """
    hidden = torch.full((query_len, cached_len + query_len), float("-inf"))
    return hidden.triu_(diagonal=cached_len + 1)
