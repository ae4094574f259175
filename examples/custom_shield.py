"""A shield of your own: a class with options, named in a policy, whose findings are redacted or block.

Run it with `python -m examples.custom_shield`.
"""

from __future__ import annotations

import re

import anyio

from agentkit import (
    Agent,
    Finding,
    Origin,
    Pipeline,
    Policy,
    Provenance,
    SamplingParams,
    ShieldInput,
    Stage,
    Verdict,
    register_shield,
)

# A file says the same: Policy.load("shields.yaml"), after the shield is registered.
POLICY = """
version: 1
shields:
  rivals: {use: competitors, names: [Globex, Initech]}
  crowd:  {use: competitors, names: [Globex, Initech], at_least: 2}
stages:
  user_input:       [{shield: crowd, on_hit: block}]
  tool_description: []
  tool_call:        []
  code:             []
  tool_result:      [{shield: rivals, on_hit: redact}]
  memory:           []
  model_output:     [{shield: rivals, on_hit: redact}]
"""


@register_shield("competitors")
class CompetitorShield:
    """Finds the names of competitors. Its constructor's arguments are the options that a policy may write."""

    def __init__(self, *, names: list[str], at_least: int = 1) -> None:
        self._pattern = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in names), re.IGNORECASE)
        self._at_least = at_least

    async def start(self) -> None:
        """Load nothing: this shield has no model."""

    async def check(self, content: ShieldInput) -> Verdict:
        """Say where the names are. What a hit leads to is for the policy to say, not for the shield."""
        findings = tuple(
            Finding(start=match.start(), end=match.end(), label="competitor")
            for match in self._pattern.finditer(content.text)
        )
        if len(findings) < self._at_least:
            return Verdict(flagged=False)
        return Verdict(
            flagged=True,
            category="competitor",
            reason=f"{len(findings)} mentions of competitors",  # a reason never quotes the content
            findings=findings,
        )

    async def close(self) -> None:
        """Free nothing."""


async def judge(policy: Policy, text: str) -> None:
    """Judge one text as an answer of the model, without any model."""
    async with Pipeline(policy) as shields:
        decision = await shields.judge(
            ShieldInput(text=text, stage=Stage.MODEL_OUTPUT, provenance=Provenance(origin=Origin.MODEL))
        )
    print(f"\n{decision.stage.value}: {decision.action.value}, {decision.reason}")
    print(f"  {text}\n  {decision.cleared.value if decision.cleared else 'nothing goes out'}")


async def converse(policy: Policy) -> None:
    """Put the same shields around the embedded model."""
    async with Agent("smollm2-135m-instruct", policy=policy, sampling=SamplingParams(max_tokens=40)) as agent:
        for question in ("Say: Globex sells widgets.", "Is Globex cheaper than Initech?"):
            result = await agent.run(question)
            print(f"\nuser:   {question}\nanswer: {result.output} ({result.status.value})")
            for decision in result.decisions:
                print(
                    f"  {decision.stage.value}: {decision.action.value} ({decision.category or 'no finding'})"
                )


async def main() -> None:
    policy = Policy.parse(POLICY)
    await judge(policy, "Our widgets are lighter than those of Globex and of Initech.")
    await converse(policy)


if __name__ == "__main__":
    anyio.run(main)
