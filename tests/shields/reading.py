"""A scripted engine that gives hidden states, and a head that understands them: what probes are tested with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agentkit.inference.base import Engine, Priority
from agentkit.inference.probe_head import ProbeHead, save_head
from agentkit.shields.engine_address import EngineAddress
from agentkit.shields.registry import EngineProvider
from agentkit.testing import ScriptedEngine

FINGERPRINT = "a" * 64
HEAD = ProbeHead(
    name="buzzing",
    model="m",
    fingerprint=FINGERPRINT,
    layers=(1,),
    window=8,
    weights=np.array([[20.0, 0.0]], np.float32),
    bias=-10.0,
    threshold=0.9,
    known_bad="zzzz",
    known_good="aaaa",
)


class StatesEngine(ScriptedEngine):
    """Its first number of a token's hidden state is 1 for the letter z, 0 for any other byte."""

    def __init__(self, *, fingerprint: str = FINGERPRINT) -> None:
        super().__init__([])
        self.fingerprint = fingerprint
        self.num_layers = 12
        self.texts: list[str] = []

    async def early_states(
        self, ids: Sequence[int], layers: Sequence[int], *, priority: Priority = Priority.SHIELD
    ) -> NDArray[np.float32]:
        self.texts.append(self.tokenizer.decode(ids).rpartition("user\n")[2])
        found = [float(self.tokenizer.decode([one]) == "z") for one in ids]
        state = np.stack([np.array(found), np.ones(len(ids))], axis=1)
        return np.repeat(state[:, None], len(layers), axis=1).astype(np.float32)


class GivenStates:
    """Hidden states as an agent gives them to shields."""

    def __init__(
        self,
        states: NDArray[np.float64] | None,
        *,
        fingerprint: str = FINGERPRINT,
        layers: tuple[int, ...] = (0, 1),
    ) -> None:
        self.fingerprint = fingerprint
        self.layers = layers
        self._states = states

    async def receive(self) -> NDArray[np.float32] | None:
        return None if self._states is None else self._states.astype(np.float32)


def engines_of(engine: Engine) -> EngineProvider:
    async def engines(reference: str | EngineAddress) -> Engine:
        return engine

    return engines


def written_head(folder: Path, **changed: object) -> str:
    """Write the head, with some fields changed, and return its path."""
    path = folder / "buzzing.safetensors"
    save_head(replace(HEAD, **changed), path)  # type: ignore[arg-type]
    return str(path)
