"""What a compiled step works on: its weights, where its rows stand, and what its threads share. Arrays alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Weights(NamedTuple):
    """All weights of a model, each with a row for every number that comes out of it.

    The matrices are float32, the bits of bfloat16 as int16, or int8; only int8 have scales, float32 (layers, out,
    in / 32), which are empty otherwise. Norms are float32 (layers, hidden_size).
    """

    attention_norm: np.ndarray
    qkv: np.ndarray  # (layers, (num_heads + 2 * num_kv_heads) * head_dim, hidden_size)
    qkv_scales: np.ndarray
    output: np.ndarray  # (layers, hidden_size, num_heads * head_dim)
    output_scales: np.ndarray
    mlp_norm: np.ndarray
    gate_up: np.ndarray  # (layers, 2 * intermediate_size, hidden_size)
    gate_up_scales: np.ndarray
    down: np.ndarray  # (layers, hidden_size, intermediate_size)
    down_scales: np.ndarray
    norm: np.ndarray  # (1, hidden_size)
    head: np.ndarray  # (1, vocab_size, hidden_size)
    head_scales: np.ndarray
    eps: float


class Places(NamedTuple):
    """Where the rows stand in the cache and in their sequences, and which of them are asked for.

    A row sees the first `lengths[row]` of its `slots`; its own is the last of these.
    """

    keys: np.ndarray  # (layers, num_kv_heads, slots of the pool, head_dim), float32 or the bits of bfloat16
    values: np.ndarray  # as keys
    slots: np.ndarray  # (rows, most positions), int64
    lengths: np.ndarray  # (rows,), int64
    cosines: np.ndarray  # (rows, head_dim), float32
    signed_sines: np.ndarray  # (rows, head_dim), float32
    wanted: np.ndarray  # (rows with logits,), int64


class Scratch(NamedTuple):
    """What the threads of one step share, float32 but for the counts.

    `hidden` holds the embeddings at first. Of each part of the step, so many shares are `taken` and `done`;
    products have `shares` of them.
    """

    hidden: np.ndarray  # (rows, hidden_size)
    qkv: np.ndarray  # (rows, (num_heads + 2 * num_kv_heads) * head_dim)
    attended: np.ndarray  # (rows, num_heads * head_dim)
    activated: np.ndarray  # (rows, intermediate_size)
    gate_up: np.ndarray  # (rows, 2 * intermediate_size)
    logits: np.ndarray  # (rows with logits, vocab_size)
    normed: np.ndarray  # (threads, most rows, hidden_size): each thread has its own
    scores: np.ndarray  # (threads, HEADS_AT_ONCE, SEGMENT): each thread has its own
    highest: np.ndarray  # (rows, num_heads, segments of the longest row): the highest score of each segment
    sums: np.ndarray  # (rows, num_heads, segments): of the weights that scores become
    mixed: np.ndarray  # (rows, num_heads, segments, head_dim): the values by these weights
    taken: np.ndarray  # (parts of the step,), int64
    done: np.ndarray  # (parts of the step,), int64
    shares: int
