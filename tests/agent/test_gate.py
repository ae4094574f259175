"""The gate between the model and the user, on real shields: what a segment's end would split is never shown in part."""

from __future__ import annotations

import pytest

from agentkit import Policy, TextDelta
from agentkit.agent.events import Event, EventSink, ShieldDecision
from agentkit.agent.gate import GateState, OutputGate
from agentkit.messages import MODEL
from agentkit.shields import Decision, Pipeline, ShieldInput, Stage

REDACTING = """\
version: 1
shields: {personal: {use: pii}, secrets: {use: secrets}}
stages:
  user_input: []
  tool_description: []
  tool_call: []
  code: []
  tool_result: []
  memory: []
  model_output: [{shield: personal, on_hit: redact}, {shield: secrets, on_hit: redact}]
failure: {on_error: block, on_timeout: block, timeout_ms: 5000}
"""


@pytest.mark.parametrize("segment_tokens", [1, 2, 5])
@pytest.mark.parametrize(
    ("secret", "label"),
    [
        ("4111 1111 1111 1111", "credit_card"),
        ("DE89 3704 0044 0532 0130 00", "iban"),
        ("+49 30 901820", "phone"),
        ("bob@example.org", "email"),
        ("-----BEGIN PRIVATE KEY-----\n" + "Ab0+" * 16 + "\n-----END PRIVATE KEY-----", "private key"),
    ],
)
async def test_a_secret_that_segments_split_is_redacted_whole_and_the_answer_goes_on(
    secret: str, label: str, segment_tokens: int
) -> None:
    shown: list[str] = []

    async def show(event: Event) -> None:
        assert isinstance(event, TextDelta | ShieldDecision)
        if isinstance(event, TextDelta):
            shown.append(event.text)

    text = f"You may use {secret} for it, and nothing else."
    async with Pipeline(Policy.parse(REDACTING)) as pipeline:

        async def judge(said: str) -> Decision:
            return await pipeline.judge(ShieldInput(text=said, stage=Stage.MODEL_OUTPUT, provenance=MODEL))

        gate = OutputGate(judge, EventSink(show), segment_tokens=segment_tokens)
        # Three characters a token: a boundary falls in every part of the secret.
        for start in range(0, len(text), 3):
            await gate.push(text[start : start + 3])
        await gate.finish("")

    assert gate.state is GateState.OPEN
    assert "".join(shown) == f"You may use [REDACTED:{label}] for it, and nothing else."
