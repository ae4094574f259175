"""agentkit as it comes, with prompt lookup: the other engines, and agentkit beside them, decode without drafts."""

from __future__ import annotations

import argparse

from benchmarks.peers.agentkit_peer import AgentkitPeer, load_with
from benchmarks.peers.protocol import serve


def load(arguments: argparse.Namespace) -> AgentkitPeer:
    """Load the model and start the engine, which drafts."""
    return load_with(arguments, speculation="prompt_lookup")


if __name__ == "__main__":
    serve(load, "agentkit", "torch")
