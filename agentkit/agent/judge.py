"""Asks the pipeline, and keeps what it decided: for the result, the events, the spans and the metrics."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

from agentkit import telemetry
from agentkit.agent.events import EventSink
from agentkit.agent.metering import counting_shield_tokens
from agentkit.agent.result import UsageMeter
from agentkit.cleared import Cleared
from agentkit.memory.transcript import Transcript
from agentkit.messages import Provenance
from agentkit.shields.base import ShieldInput, Stage
from agentkit.shields.decision import Decision
from agentkit.shields.pipeline import Pipeline


class Judge:
    """The pipeline as one turn sees it."""

    def __init__(
        self, pipeline: Pipeline, transcript: Transcript, sink: EventSink, meter: UsageMeter
    ) -> None:
        self._pipeline = pipeline
        self._transcript = transcript
        self._sink = sink
        self._meter = meter
        self.decisions: list[Decision] = []

    async def judge(
        self, stage: Stage, text: str, provenance: Provenance, *, language: str | None = None
    ) -> Decision:
        """Judge one piece of content, with the conversation so far beside it."""
        content = ShieldInput(
            text=text,
            stage=stage,
            provenance=provenance,
            history=self._transcript.messages,
            language=language,
        )
        started = perf_counter()
        with telemetry.span(telemetry.SPAN_SHIELDS, **{telemetry.ATTR_STAGE: stage.value}) as span:
            with counting_shield_tokens() as count:
                decision = await self._pipeline.judge(content)
            span.set_attribute(telemetry.ATTR_ACTION, decision.action.value)
            if decision.shield is not None:
                span.set_attribute(telemetry.ATTR_SHIELD, decision.shield)
            if decision.category is not None:
                span.set_attribute(telemetry.ATTR_CATEGORY, decision.category)
        telemetry.count_decision(stage.value, decision.action.value)
        self._meter.shield_seconds += perf_counter() - started
        self._meter.shield_tokens += count.tokens
        await self.record(decision)
        return decision

    async def record(self, decision: Decision) -> None:
        """Keep a decision for the result, and tell it: what it decided, not the content that it cleared."""
        record = replace(decision, cleared=None)
        self.decisions.append(record)
        await self._sink.notify(record)

    def vouch(self, text: str) -> Cleared[str]:
        """Clear a text of the SDK's own."""
        return self._pipeline.vouch(text)
