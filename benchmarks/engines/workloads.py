"""What every engine is asked to do: conversations of fresh ids, the same for all engines in a round."""

from __future__ import annotations

import random
from dataclasses import dataclass

from benchmarks.peers.protocol import Conversation

ORDINARY_IDS = range(20, 49_000)
"""Of SmolLM2's vocabulary, without its special tokens."""


FORWARD = "forward"
"""The agent workload, held with an engine's bare model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large the workloads are, in tokens, turns and sessions."""

    decode_prompt: int = 256
    decode_output: int = 128
    prefills: tuple[int, ...] = (512, 2_048)
    system: int = 1_500
    turns: int = 8
    turn_input: int = 150
    turn_output: int = 64
    sessions: int = 8

    @property
    def warm_prefill(self) -> int:
        """What a later turn has to compute: its input, and the last token that the turn before generated."""
        return self.turn_input + 1


FULL = Sizes()
QUICK = Sizes(
    decode_prompt=16,
    decode_output=8,
    prefills=(32,),
    system=64,
    turns=2,
    turn_input=16,
    turn_output=4,
    sessions=2,
)


def workload_names(sizes: Sizes) -> list[str]:
    """Return what there is to measure."""
    prefills = [f"prefill {length}" for length in (sizes.warm_prefill, *sizes.prefills)]
    return ["decode", *prefills, "agent", FORWARD, "sessions"]


def instance(name: str, sizes: Sizes, ids: random.Random) -> Conversation:
    """Return a workload with ids that no prefix cache has seen."""

    def fresh(length: int) -> list[int]:
        return ids.choices(ORDINARY_IDS, k=length)

    def session() -> list[list[int]]:
        return [fresh(sizes.turn_input) for _ in range(sizes.turns)]

    match name.split():
        case ["decode"]:
            turns = [[fresh(sizes.decode_prompt)]]
            return Conversation(system=[], turns=turns, output_tokens=sizes.decode_output)
        case ["prefill", length]:
            return Conversation(system=[], turns=[[fresh(int(length))]], output_tokens=1)
        case ["agent"]:
            turns = [session()]
            return Conversation(system=fresh(sizes.system), turns=turns, output_tokens=sizes.turn_output)
        case ["sessions"]:
            turns = [session() for _ in range(sizes.sessions)]
            return Conversation(system=fresh(sizes.system), turns=turns, output_tokens=sizes.turn_output)
        case _:
            raise ValueError(f"no workload is called {name!r}")
