"""The embedded model copies a table, with drafts and without: the same tokens, in far fewer passes."""

from __future__ import annotations

import json

import pytest

from agentkit.inference.base import Grammar
from agentkit.inference.catalog import EMBEDDED_MODEL
from agentkit.inference.config import EngineConfig
from agentkit.inference.formats import format_for
from agentkit.inference.generation import GenerationRequest
from agentkit.inference.grammar import json_schema_grammar
from agentkit.inference.loading import LoadedModel, load_model
from agentkit.inference.speculation import Speculation
from agentkit.messages import Message
from tests.inference.drafts import eager_speculation
from tests.inference.scheduling import drain, drawn, generation, new_scheduler

TABLE = json.dumps([{"city": "Paris", "wind": 12}, {"city": "Bergen", "wind": 37}])
ROWS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "wind": {"type": "integer"}},
        "required": ["city", "wind"],
    },
    "minItems": 2,
    "maxItems": 2,
}


@pytest.fixture(scope="module")
def embedded() -> LoadedModel:
    return load_model(EMBEDDED_MODEL, EngineConfig(device="cpu"))


def copied(
    embedded: LoadedModel, speculation: Speculation | None, **constraint: Grammar
) -> GenerationRequest:
    """Return the request that asked for a copy, at its end."""
    dialect = format_for(embedded.tokenizer)
    request = generation(
        dialect.render([Message.user(f"Repeat this table exactly, and nothing else:\n{TABLE}")]),
        max_tokens=36,
        stop_ids=dialect.stop_ids,
        tokenizer=embedded.tokenizer,
        **constraint,
    )
    scheduler = new_scheduler(embedded.model, prefill_chunk=256, speculation=speculation)
    scheduler.submit(request)
    drain(scheduler)
    return request


@pytest.mark.model
@pytest.mark.parametrize("constraint", [{}, {"grammar": json_schema_grammar(ROWS)}], ids=["text", "grammar"])
def test_a_copy_is_the_same_in_far_fewer_passes(
    embedded: LoadedModel, constraint: dict[str, Grammar]
) -> None:
    request = copied(embedded, eager_speculation(), **constraint)
    assert drawn(request) == drawn(copied(embedded, None, **constraint))
    assert '"city": "Paris", "wind": ' in embedded.tokenizer.decode(drawn(request))
    assert request.accepted_tokens > len(drawn(request)) / 2
