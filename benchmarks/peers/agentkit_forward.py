"""agentkit's model without its engine: what a warm turn's new tokens cost by themselves.

Holds a conversation as `agentkit_peer` does, and computes the same tokens at the same positions; a turn's
`first_seconds` are those of one forward pass over what the turn adds, and nothing is generated.
"""

from __future__ import annotations

import argparse
import time

import torch

from agentkit.inference.kv_sequence import KVSequence
from agentkit.inference.loading import load_model
from agentkit.inference.model import LlamaModel
from benchmarks.peers.agentkit_peer import config_for
from benchmarks.peers.protocol import Answer, Conversation, Turn, peak_mb, serve

_ANY_ID = 20  # in place of what would be generated: which ids they are changes no time


class BareForward:
    """A `Peer`."""

    def __init__(self, model: LlamaModel) -> None:
        self._model = model

    def converse(self, conversation: Conversation) -> Answer:
        """Hold the sessions one after another."""
        started = time.perf_counter()
        turns = [self._session(conversation, turns) for turns in conversation.turns]
        seconds = time.perf_counter() - started
        return Answer(turns=turns, system_seconds=0.0, turns_seconds=seconds, peak_mb=peak_mb())

    def _session(self, conversation: Conversation, turns: list[list[int]]) -> list[Turn]:
        generated = [_ANY_ID] * conversation.output_tokens
        kv = self._model.new_buffer(
            len(conversation.system) + sum(len(ids) + len(generated) for ids in turns)
        )
        self._seconds(conversation.system, kv)
        seconds, drawn = [], list[int]()
        for new_ids in turns:
            # The last token that a turn draws is computed in the next one only.
            seconds.append(self._seconds(drawn + new_ids, kv))
            self._seconds(generated[:-1], kv)
            drawn = generated[-1:]
        return [Turn(ids=[], first_seconds=taken, seconds=taken) for taken in seconds]

    def _seconds(self, ids: list[int], kv: KVSequence) -> float:
        if not ids:
            return 0.0
        started = time.perf_counter()
        self._model.forward(torch.tensor(ids), kv)
        return time.perf_counter() - started


def load(arguments: argparse.Namespace) -> BareForward:
    """Load the model as the engine does."""
    torch.set_num_threads(arguments.threads)
    return BareForward(load_model(arguments.model, config_for(arguments)).model)


if __name__ == "__main__":
    serve(load, "agentkit", "torch")
