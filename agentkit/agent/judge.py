"""Asks the pipeline, and keeps what it decided: for the result, the journal, the events, the spans and the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

from agentkit import telemetry
from agentkit.agent.events import EventSink
from agentkit.agent.logbook import Logbook
from agentkit.agent.metering import counting_shield_tokens
from agentkit.agent.result import UsageMeter
from agentkit.cleared import Cleared
from agentkit.memory.journal import DecisionMade
from agentkit.memory.transcript import Transcript
from agentkit.messages import Provenance
from agentkit.shields.base import Meanwhile, ShieldInput, Stage
from agentkit.shields.decision import Decision
from agentkit.shields.pipeline import Pipeline


class Judge:
    """The pipeline as one turn sees it. `earlier` are the turn's decisions from before it was resumed."""

    def __init__(
        self,
        pipeline: Pipeline,
        transcript: Transcript,
        sink: EventSink,
        meter: UsageMeter,
        logbook: Logbook,
        *,
        scope: str,
        earlier: Sequence[Decision] = (),
    ) -> None:
        self._pipeline = pipeline
        self._transcript = transcript
        self._sink = sink
        self._meter = meter
        self._logbook = logbook
        self._scope = scope
        self.decisions = list(earlier)

    async def judge(
        self,
        stage: Stage,
        text: str,
        provenance: Provenance,
        *,
        language: str | None = None,
        meanwhile: Meanwhile | None = None,
    ) -> Decision:
        """Judge one piece of content, with the conversation so far beside it; the decision has an id.

        `meanwhile` is given the text, held, while shields that run a model still judge it; see `Pipeline.judge`.
        """
        content = ShieldInput(
            text=text,
            stage=stage,
            provenance=provenance,
            history=self._transcript.messages,
            language=language,
            scope=self._scope,
        )
        started = perf_counter()
        with telemetry.span(telemetry.SPAN_SHIELDS, **{telemetry.ATTR_STAGE: stage.value}) as span:
            with counting_shield_tokens() as count:
                decision = await self._pipeline.judge(content, meanwhile=meanwhile)
            span.set_attribute(telemetry.ATTR_ACTION, decision.action.value)
            if decision.shield is not None:
                span.set_attribute(telemetry.ATTR_SHIELD, decision.shield)
            if decision.category is not None:
                span.set_attribute(telemetry.ATTR_CATEGORY, decision.category)
        telemetry.count_decision(stage.value, decision.action.value)
        self._meter.shield_seconds += perf_counter() - started
        self._meter.shield_tokens += count.tokens
        return await self.record(decision)

    async def readmit(self, decision: Decision) -> None:
        """Keep what shields decided about a stored message; of one that simply passed the journal keeps nothing.

        A long session has a thousand of these at every load: the audit log counts them.
        """
        if decision.deciding is not None:
            await self.record(decision)
        else:
            self.decisions.append(decision)
            await self._sink.notify(decision)

    async def record(self, decision: Decision) -> Decision:
        """Give a decision its id, keep it for the result and the journal, and tell it; return it with the id.

        What is kept and told is what it decided, not the content that it cleared.
        """
        named = replace(decision, id=self._logbook.decision_id())
        record = replace(named, cleared=None)
        self.decisions.append(record)
        self._logbook.note(DecisionMade(decision={"id": record.id, **record.to_json()}))
        await self._sink.notify(record)
        return named

    def vouch(self, text: str) -> Cleared[str]:
        """Clear a text of the SDK's own."""
        return self._pipeline.vouch(text)
