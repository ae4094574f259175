"""Small shields of our own, and the policies and contents that the tests of this room judge with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Literal

from pydantic import Field

from agentkit.messages import USER
from agentkit.shields import Policy, Shield, ShieldInput, Stage, Verdict
from agentkit.shields.registry import EngineProvider, register_shield

GOOD = """\
version: 1
shields:
  injection: {use: fake_marker, marker: BAD}
  content: {use: fake_engine_user, model: m, categories: [S6]}
stages:
  user_input: [{shield: injection, on_hit: block}]
  tool_description: []
  tool_call: []
  code: []
  tool_result:
    - {shield: injection, on_hit: withhold}
    - {shield: content, on_hit: annotate, mode: shadow}
  memory: []
  model_output: []
failure: {on_error: block, timeout_ms: 500}
"""

Answer = Callable[[ShieldInput], Awaitable[Verdict]]


@register_shield("fake_marker")
class MarkerShield(Shield):
    """Flags text that holds a marker."""

    def __init__(self, *, marker: str = "BAD") -> None:
        self.marker = marker
        self.started = self.closed = 0

    async def start(self) -> None:
        self.started += 1

    async def check(self, content: ShieldInput) -> Verdict:
        flagged = self.marker in content.text
        return Verdict(flagged=flagged, category="marker" if flagged else None)

    async def close(self) -> None:
        self.closed += 1


@register_shield("fake_engine_user")
class EngineUser(MarkerShield):
    """Asks for an engine."""

    def __init__(
        self,
        *,
        model: str,
        threshold: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5,
        categories: tuple[Literal["S1", "S6"], ...] = (),
        engines: EngineProvider,
    ) -> None:
        super().__init__()
        self.model, self.threshold, self.categories, self.engines = model, threshold, categories, engines


class AnsweringShield(MarkerShield):
    """Answers with what a function returns or raises."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer

    async def check(self, content: ShieldInput) -> Verdict:
        return await self._answer(content)


def always(verdict: Verdict) -> AnsweringShield:
    async def answer(content: ShieldInput) -> Verdict:
        return verdict

    return AnsweringShield(answer)


def policy_text(
    stages: Mapping[Stage, str] | None = None,
    *,
    shields: str = "a: {use: fake_marker}\n  b: {use: fake_marker}",
    rest: str = "",
) -> str:
    lines = [f"  {stage}: {(stages or {}).get(stage, '[]')}" for stage in Stage]
    return "\n".join(["version: 1", "shields:", f"  {shields}", "stages:", *lines, rest])


def policy_for(stage: Stage, rules: str, *, rest: str = "", shields: str | None = None) -> Policy:
    if shields is None:
        return Policy.parse(policy_text({stage: rules}, rest=rest))
    return Policy.parse(policy_text({stage: rules}, rest=rest, shields=shields))


def content_at(stage: Stage, text: str = "some text") -> ShieldInput:
    return ShieldInput(text=text, stage=stage, provenance=USER)
