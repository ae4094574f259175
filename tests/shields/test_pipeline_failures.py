"""A broken shield blocks: every way to break, at every stage, is recorded as what it was."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

import anyio
import pytest

from agentkit.errors import ShieldError
from agentkit.shields import Action, Finding, OutcomeStatus, Pipeline, ShieldInput, Stage, Verdict
from tests.shields.fakes import AnsweringShield, always, content_at, policy_for

PASS = Verdict(flagged=False)
# Only what is meant to be late has little time: a busy machine must not make the others late.
TIMEOUTS = {
    OutcomeStatus.TIMEOUT: "failure: {timeout_ms: 30}",
    OutcomeStatus.ERROR: "failure: {timeout_ms: 9000}",
}


def nan_verdict() -> Verdict:
    verdict = Verdict(flagged=False, score=0.1)
    object.__setattr__(verdict, "score", math.nan)
    return verdict


def unset_verdict() -> Verdict:
    return object.__new__(Verdict)


async def raise_shield_error(content: ShieldInput) -> Verdict:
    raise ShieldError("model gave 3 logits, expected 2")


async def raise_runtime_error(content: ShieldInput) -> Verdict:
    raise RuntimeError(content.text)


async def raise_timeout_error(content: ShieldInput) -> Verdict:
    raise TimeoutError


async def raise_group(content: ShieldInput) -> Verdict:
    raise ExceptionGroup("two", [ValueError(), OSError()])


async def cancel_itself(content: ShieldInput) -> Verdict:
    raise asyncio.CancelledError


async def never_answer(content: ShieldInput) -> Verdict:
    await anyio.sleep_forever()
    raise AssertionError


async def answer_late_against_cancellation(content: ShieldInput) -> Verdict:
    with anyio.CancelScope(shield=True):
        await anyio.sleep(0.06)
    return PASS


async def answer_late_in_a_blocked_loop(content: ShieldInput) -> Verdict:
    time.sleep(0.06)  # noqa: ASYNC251  # what a badly written shield does
    return PASS


async def abandon_a_thread(content: ShieldInput) -> Verdict:
    await anyio.to_thread.run_sync(time.sleep, 0.2, abandon_on_cancel=True)
    return PASS


def answering(value: object) -> AnsweringShield:
    async def answer(content: ShieldInput) -> Verdict:
        return value  # type: ignore[return-value]  # that is the point

    return AnsweringShield(answer)


ERROR, TIMEOUT = OutcomeStatus.ERROR, OutcomeStatus.TIMEOUT
LATE = "no verdict within 30 ms"
FAILURES: dict[str, tuple[Callable[[], AnsweringShield], OutcomeStatus, str]] = {
    "ShieldError": (
        lambda: AnsweringShield(raise_shield_error), ERROR,
        "ShieldError: model gave 3 logits, expected 2",
    ),
    "RuntimeError": (lambda: AnsweringShield(raise_runtime_error), ERROR, "RuntimeError"),
    "its own TimeoutError": (lambda: AnsweringShield(raise_timeout_error), ERROR, "TimeoutError"),
    "a group": (lambda: AnsweringShield(raise_group), ERROR, "ExceptionGroup"),
    "cancels itself": (
        lambda: AnsweringShield(cancel_itself), ERROR,
        "ShieldError: the check cancelled itself",
    ),
    "never answers": (lambda: AnsweringShield(never_answer), TIMEOUT, LATE),
    "resists cancellation": (lambda: AnsweringShield(answer_late_against_cancellation), TIMEOUT, LATE),
    "blocks the loop": (lambda: AnsweringShield(answer_late_in_a_blocked_loop), TIMEOUT, LATE),
    "hangs in a thread": (lambda: AnsweringShield(abandon_a_thread), TIMEOUT, LATE),
    "returns None": (
        lambda: answering(None), ERROR,
        "ShieldError: the check returned NoneType, not a Verdict",
    ),
    "returns a text": (
        lambda: answering("fine"), ERROR,
        "ShieldError: the check returned str, not a Verdict",
    ),
    "returns True": (lambda: answering(True), ERROR, "ShieldError: the check returned bool, not a Verdict"),
    "scores NaN": (
        lambda: answering(nan_verdict()), ERROR,
        "ShieldError: verdict.score must be in [0, 1], got nan",
    ),
    "forges a verdict": (lambda: answering(unset_verdict()), ERROR, "AttributeError"),
    "finds outside the text": (
        lambda: always(Verdict(flagged=True, findings=(Finding(start=5, end=99, label="x"),))),
        ERROR,
        "ShieldError: a finding at [5, 99) does not lie in a text of 9 characters",
    ),
}  # fmt: skip


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_broken_shield_blocks_and_is_recorded_as_what_it_was(failure: str, stage: Stage) -> None:
    make, status, reason = FAILURES[failure]
    policy = policy_for(
        stage, "[{shield: a, on_hit: annotate}, {shield: b, on_hit: block}]", rest=TIMEOUTS[status]
    )
    shield = make()
    async with Pipeline(policy, overrides={"a": shield}) as pipeline:
        decision = await pipeline.judge(content_at(stage))

        assert decision.blocked
        assert decision.cleared is None
        assert (decision.shield, decision.reason) == ("a", reason)
        broken, healthy = decision.outcomes
        assert (broken.status, broken.action) == (status, Action.BLOCK)
        # A shield that blocks the event loop makes the others late too.
        assert healthy.status in {OutcomeStatus.PASS, OutcomeStatus.TIMEOUT}
        other = next(other for other in Stage if other is not stage)
        assert not (await pipeline.judge(content_at(other))).blocked


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_broken_shadow_shield_is_recorded_and_decides_nothing(failure: str) -> None:
    make, status, reason = FAILURES[failure]
    rules = "[{shield: a, on_hit: block, mode: shadow}]"
    policy = policy_for(Stage.USER_INPUT, rules, rest=TIMEOUTS[status])
    async with Pipeline(policy, overrides={"a": make()}) as pipeline:
        decision = await pipeline.judge(content_at(Stage.USER_INPUT))

    assert decision.action is Action.ALLOW
    assert decision.shield is None
    (outcome,) = decision.outcomes
    assert (outcome.status, outcome.reason, outcome.shadow) == (status, reason, True)


@pytest.mark.parametrize("stage", Stage)
async def test_cancellation_from_outside_passes_through_and_leaves_the_pipeline_usable(stage: Stage) -> None:
    answers = iter([never_answer, raise_shield_error])

    async def first_hang_then_fail(content: ShieldInput) -> Verdict:
        return await next(answers)(content)

    policy = policy_for(stage, "[{shield: a, on_hit: block}]")
    async with Pipeline(policy, overrides={"a": AnsweringShield(first_hang_then_fail)}) as pipeline:
        with anyio.move_on_after(0.02) as scope:
            await pipeline.judge(content_at(stage))
        assert scope.cancelled_caught
        assert (await pipeline.judge(content_at(stage))).outcomes[0].status is OutcomeStatus.ERROR


async def test_a_cancelled_asyncio_task_ends_as_cancelled() -> None:
    policy = policy_for(Stage.USER_INPUT, "[{shield: a, on_hit: block}]")
    async with Pipeline(policy, overrides={"a": AnsweringShield(never_answer)}) as pipeline:
        task = asyncio.create_task(pipeline.judge(content_at(Stage.USER_INPUT)))
        await anyio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("failure", "stage", "action"),
    [
        ("withhold", Stage.TOOL_RESULT, Action.WITHHOLD),
        ("escalate", Stage.TOOL_RESULT, Action.BLOCK),
        ("block", Stage.MEMORY, Action.BLOCK),
    ],
)
async def test_failure_actions_follow_the_policy(failure: str, stage: Stage, action: Action) -> None:
    rest = f"failure: {{on_error: {failure}, on_timeout: block}}"
    policy = policy_for(stage, "[{shield: a, on_hit: allow}]", rest=rest)
    async with Pipeline(policy, overrides={"a": AnsweringShield(raise_runtime_error)}) as pipeline:
        assert (await pipeline.judge(content_at(stage))).action is action
