"""What an operator sees of a run: its spans and metrics, and never a word of what was said."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentkit import InferenceError, RunStatus, TextDelta, telemetry, tool
from agentkit.testing import FailingShield, StaticShield
from tests.agent.support import STAGES, call, policy, scripted

SECRET = "marzipan"
"""A word that stands in everything that is said in these runs."""


@tool(effect="read")
def look_up(topic: str) -> str:
    """Look a topic up."""
    if "broken" in topic:
        raise ValueError(f"no shelf for {topic}")
    return f"All about {topic}, and more {SECRET}."


@pytest.fixture(scope="module")
def metric_reader() -> InMemoryMetricReader:
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
    return reader


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_run_is_a_tree_of_spans_for_its_steps_shields_and_tools(spans: InMemorySpanExporter):
    agent, _ = scripted(call("look_up", topic=SECRET), f"It is {SECRET}.", tools=[look_up])
    async with agent:
        result = await agent.session("alice/42").run(f"What is {SECRET}?")
    assert result.status is RunStatus.COMPLETED
    (run,) = named(spans, telemetry.SPAN_RUN)
    steps = named(spans, telemetry.SPAN_STEP)
    (ran,) = named(spans, telemetry.SPAN_TOOL)
    shields = named(spans, telemetry.SPAN_SHIELDS)
    assert attributes(run)[telemetry.ATTR_SESSION] == "alice/42"
    assert attributes(run)[telemetry.ATTR_STATUS] == "completed"
    assert [attributes(step)[telemetry.ATTR_STEP] for step in steps] == [0, 1]
    assert attributes(ran)[telemetry.ATTR_TOOL] == "look_up"
    assert [attributes(shield)[telemetry.ATTR_STAGE] for shield in shields] == [
        decision.stage.value for decision in result.decisions
    ]
    assert {attributes(shield)[telemetry.ATTR_ACTION] for shield in shields} == {"allow"}
    parents = {span.context.span_id: span.name for span in spans.get_finished_spans()}
    assert {parents[step.parent.span_id] for step in steps if step.parent} == {telemetry.SPAN_RUN}
    assert ran.parent is not None
    assert parents[ran.parent.span_id] == telemetry.SPAN_STEP


@pytest.mark.parametrize("action", ["block", "withhold", "annotate"])
@pytest.mark.parametrize(
    "stage", [stage for stage in STAGES if stage not in {"tool_description", "memory", "code"}]
)
async def test_a_hit_names_stage_action_and_shield_and_quotes_nothing(
    spans: InMemorySpanExporter, stage: str, action: str
):
    rules: dict[str, Any] = {stage: action}
    agent, _ = scripted(
        call("look_up", topic=SECRET),
        f"It is {SECRET}.",
        tools=[look_up],
        shield=StaticShield(flagged=lambda content: SECRET in content.text, category="sweets"),
        under=policy(**rules),
    )
    async with agent:
        result = await agent.run(f"What is {SECRET}?")
    hits = [attributes(span) for span in named(spans, telemetry.SPAN_SHIELDS)]
    assert {
        telemetry.ATTR_STAGE: stage,
        telemetry.ATTR_ACTION: action,
        telemetry.ATTR_SHIELD: "canary",
    }.items() <= next(hit for hit in hits if hit[telemetry.ATTR_ACTION] != "allow").items()
    (run,) = named(spans, telemetry.SPAN_RUN)
    assert attributes(run)[telemetry.ATTR_STATUS] == result.status.value
    assert_quotes_nothing(spans)


async def test_a_tool_that_fails_an_unknown_one_and_a_wrong_argument_quote_nothing(
    spans: InMemorySpanExporter,
):
    agent, _ = scripted(
        call("look_up", topic=f"broken {SECRET}"),
        call(SECRET, topic=SECRET),
        call("look_up", **{SECRET: SECRET}),
        f"No {SECRET}.",
        tools=[look_up],
    )
    async with agent:
        result = await agent.run(f"What is {SECRET}?")
    assert result.status is RunStatus.COMPLETED
    assert_quotes_nothing(spans)


async def test_a_broken_shield_and_a_broken_engine_leave_the_type_of_the_error_alone(
    spans: InMemorySpanExporter,
):
    failing = FailingShield(error=ValueError(f"cannot judge {SECRET}"))
    agent, _ = scripted("Hello.", shield=failing, under=policy(user_input="annotate"))
    async with agent:
        assert (await agent.run(f"What is {SECRET}?")).status is RunStatus.BLOCKED
    agent, _ = scripted()
    async with agent:
        with pytest.raises(InferenceError):
            await agent.run(f"What is {SECRET}?")
    failed = [span for span in spans.get_finished_spans() if not span.status.is_ok]
    assert {span.name for span in failed} == {telemetry.SPAN_RUN, telemetry.SPAN_STEP}
    assert {span.status.description for span in failed} == {"InferenceError"}
    assert_quotes_nothing(spans)


async def test_a_cancelled_run_says_so_and_quotes_nothing(spans: InMemorySpanExporter):
    agent, _ = scripted(f"It is {SECRET}. " * 50)
    async with agent, agent.session().stream(f"What is {SECRET}?") as run:
        async for event in run:
            if isinstance(event, TextDelta):
                run.cancel()
    (ended,) = named(spans, telemetry.SPAN_RUN)
    assert attributes(ended)[telemetry.ATTR_STATUS] == "cancelled"
    assert_quotes_nothing(spans)


def test_decisions_are_counted_by_stage_and_action(metric_reader: InMemoryMetricReader):
    agent, _ = scripted(
        shield=StaticShield(flagged=True, category="sweets"), under=policy(user_input="block")
    )

    async def run_twice() -> None:
        async with agent:
            await agent.run(SECRET)
            await agent.run(SECRET)

    anyio.run(run_twice)
    collected = metric_reader.get_metrics_data()
    assert collected is not None
    (metric,) = [
        metric
        for resource in collected.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == telemetry.METRIC_DECISIONS
    ]
    counted = {
        tuple(sorted((point.attributes or {}).items())): point.value
        for point in metric.data.data_points
        if isinstance(point, NumberDataPoint)
    }
    blocked = ((telemetry.ATTR_ACTION, "block"), (telemetry.ATTR_STAGE, "user_input"))
    assert counted == {blocked: 2}


def assert_quotes_nothing(spans: InMemorySpanExporter) -> None:
    """Look through every finished span, as an exporter would write it out."""
    written = [span.to_json() for span in spans.get_finished_spans()]
    assert written
    assert not [text for text in written if SECRET in text or "shelf" in text]
