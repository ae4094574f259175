"""A grammar as a model server is asked to hold to it. Knows no server."""

from __future__ import annotations

from typing import Any

from agentkit.inference.base import Grammar


def structured_outputs(grammar: Grammar, stop_ids: frozenset[int]) -> dict[str, Any]:
    """Return vLLM's `structured_outputs`: the grammar, and the stop ids wherever it may end.

    Named in the grammar, a stop id need not be an end of text to the server, and no other end can be drawn.
    """
    ends = ",".join(str(token_id) for token_id in sorted(stop_ids))
    return {"grammar": f"start: %lark {{\n{grammar.lark}\n}} <[{ends}]>"}
