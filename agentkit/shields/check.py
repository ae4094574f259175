"""One check of one shield: within its time, and whatever the shield does, an answer that says how it ended.

Knows no policy: what a hit or a failure leads to is decided elsewhere.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import anyio

from agentkit.errors import AgentKitError, ShieldError
from agentkit.shields.base import Finding, Shield, ShieldInput, Verdict
from agentkit.shields.decision import OutcomeStatus

_NO_ANSWER: Final = object()
_LONGEST_REASON: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How a check ended. `verdict` is set on a pass and a hit; `failure` says what went wrong otherwise."""

    status: OutcomeStatus
    milliseconds: float
    verdict: Verdict | None = None
    failure: str | None = None


async def run_check(shield: Shield, content: ShieldInput, seconds: float) -> Check:
    """Let a shield judge the content for at most this long.

    Never raises because of the shield; a cancellation from outside passes through. A shield that cannot be
    cancelled holds this call until it ends, and is a timeout all the same.
    """
    answers: list[Any] = []
    started = time.perf_counter()
    with anyio.move_on_after(seconds) as scope:
        # A group of its own: a shield that raises a cancellation nobody asked for ends this group alone.
        async with anyio.create_task_group() as group:
            group.start_soon(_ask, shield, content, answers)
    elapsed = time.perf_counter() - started
    # The clock too: a shield that holds the event loop may answer before the scope can notice.
    if scope.cancel_called or elapsed > seconds:
        return Check(
            status=OutcomeStatus.TIMEOUT,
            milliseconds=_milliseconds(elapsed),
            failure=f"no verdict within {seconds * 1000:.0f} ms",
        )
    return _checked(answers[0] if answers else _NO_ANSWER, content.text, _milliseconds(elapsed))


async def _ask(shield: Shield, content: ShieldInput, answers: list[Any]) -> None:
    try:
        answers.append(await shield.check(content))
    except Exception as exc:  # noqa: BLE001  # whatever it is, the shield is broken, and a broken shield blocks
        answers.append(exc)


def _checked(answer: object, text: str, milliseconds: float) -> Check:
    try:
        verdict = _verdict(answer, text)
    except Exception as exc:  # noqa: BLE001  # a forged verdict can fail anywhere
        return Check(status=OutcomeStatus.ERROR, milliseconds=milliseconds, failure=_told(exc))
    status = OutcomeStatus.HIT if verdict.flagged else OutcomeStatus.PASS
    return Check(status=status, milliseconds=milliseconds, verdict=verdict)


def _verdict(answer: object, text: str) -> Verdict:
    """Return the answer if it is a verdict about this text.

    Raises:
        Exception: what the shield raised, or ShieldError if it answered something else.
    """
    if isinstance(answer, Exception):
        raise answer
    if answer is _NO_ANSWER:
        raise ShieldError("the check cancelled itself")
    if type(answer) is not Verdict:
        raise ShieldError(f"the check returned {type(answer).__name__}, not a Verdict")
    answer.__post_init__()  # a verdict can be built around its constructor
    for finding in answer.findings:
        _check_finding(finding, len(text))
    return answer


def _check_finding(finding: Finding, length: int) -> None:
    start, end = finding.start, finding.end
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= length:
        raise ShieldError(f"a finding at [{start!r}, {end!r}) does not lie in a text of {length} characters")


def _told(error: Exception) -> str:
    """Our own errors carry no content; of others only the kind can be told."""
    kind = type(error).__name__
    return f"{kind}: {error}"[:_LONGEST_REASON] if isinstance(error, AgentKitError) else kind


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
