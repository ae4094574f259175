"""Every OpenTelemetry name in one place. Spans carry names, counts and verdicts, never content."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import metrics, trace
from opentelemetry.trace import Span

_INSTRUMENTATION = "agentkit"

SPAN_RUN = "agentkit.run"
SPAN_STEP = "agentkit.step"
SPAN_SHIELDS = "agentkit.shields"
SPAN_TOOL = "agentkit.tool"

ATTR_SESSION = "agentkit.session.id"
ATTR_STATUS = "agentkit.status"
ATTR_STEP = "agentkit.step"
ATTR_STAGE = "agentkit.stage"
ATTR_ACTION = "agentkit.action"
ATTR_SHIELD = "agentkit.shield"
ATTR_CATEGORY = "agentkit.category"
ATTR_TOOL = "gen_ai.tool.name"
ATTR_MODEL = "gen_ai.request.model"
ATTR_INPUT_TOKENS = "gen_ai.usage.input_tokens"
ATTR_CACHED_TOKENS = "agentkit.usage.cached_tokens"
ATTR_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"

METRIC_DECISIONS = "agentkit.shield.decisions"

# OpenTelemetry's proxies: they find the application's providers, also when these are set later.
_tracer = trace.get_tracer(_INSTRUMENTATION)
_decisions = metrics.get_meter(_INSTRUMENTATION).create_counter(
    METRIC_DECISIONS, description="Decisions by stage and action"
)


@contextmanager
def span(name: str, **attributes: str | int | float | bool) -> Iterator[Span]:
    """Open a span. Attribute names are the ATTR_ constants' values.

    An exception is recorded by its type alone: its message may hold content.
    """
    with _tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as opened:
        opened.set_attributes(attributes)
        try:
            yield opened
        except BaseException as error:
            opened.set_status(trace.StatusCode.ERROR, type(error).__name__)
            raise


def count_decision(stage: str, action: str) -> None:
    """Add one decision of the pipeline to the metric `agentkit.shield.decisions`."""
    _decisions.add(1, {ATTR_STAGE: stage, ATTR_ACTION: action})
