"""Cleared messages for tests: through a real pipeline, under a policy that judges nothing and says so."""

from __future__ import annotations

from typing import Final

from agentkit.cleared import Cleared
from agentkit.messages import Message
from agentkit.shields.base import ShieldInput, Stage
from agentkit.shields.pipeline import Pipeline
from agentkit.shields.policy import Policy

_NOTHING_JUDGED: Final = Policy.parse(
    "version: 1\nshields: {}\nstages:\n" + "".join(f"  {stage}: []\n" for stage in Stage)
)


async def cleared(message: Message) -> Cleared[Message]:
    """Return the message as cleared content."""
    content = ShieldInput(text=message.content, stage=Stage.USER_INPUT, provenance=message.provenance)
    async with Pipeline(_NOTHING_JUDGED) as pipeline:
        decision = await pipeline.judge(content)
    assert decision.cleared is not None
    return decision.cleared.map(lambda _: message)
