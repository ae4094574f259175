"""What an engine tells of itself between two steps. Knows numbers alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from agentkit.inference.kv_host import HostStats

Decoding: TypeAlias = Literal["compiled", "torch", "runner"]
"""Who computes a step of few rows: functions compiled for the CPU, torch's operators, or the runner of a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """What an engine holds between two steps. A page that a request shares with the cache counts as both.

    `weight_bytes` is what the matrices of the model take, `kv_token_bytes` the keys and values of one token.
    `drafted_tokens` were verified ahead of their turn since the start, and `accepted_tokens` of them were right.
    `host` is None where there is no host memory behind the pool.
    """

    active_requests: int
    active_bytes: int
    cached_sequences: int
    cached_tokens: int
    cached_bytes: int
    free_bytes: int
    preemptions: int
    weight_bytes: int
    kv_token_bytes: int
    decoding: Decoding
    drafted_tokens: int
    accepted_tokens: int
    host: HostStats | None
