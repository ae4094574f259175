"""One check of one shield: within its time, and whatever the shield does, an answer that says how it ended.

Knows no policy: what a hit or a failure leads to is decided elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

import anyio

from agentkit.errors import AgentKitError, ShieldError
from agentkit.shields.base import BatchShield, Finding, Shield, ShieldInput, Verdict
from agentkit.shields.decision import OutcomeStatus

_NO_ANSWER: Final = object()
_LATE: Final = object()
_LONGEST_REASON: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How a check ended. `verdict` is set where the shield came to one; `failure` says what went wrong otherwise."""

    status: OutcomeStatus
    milliseconds: float
    verdict: Verdict | None = None
    failure: str | None = None


async def run_check(shield: Shield, content: ShieldInput, seconds: float) -> Check:
    """Let a shield judge the content for at most this long.

    Never raises because of the shield; a cancellation from outside passes through. A shield that cannot be
    cancelled holds this call until it ends, and is a timeout all the same.
    """
    answer, elapsed = await _answer(lambda: shield.check(content), seconds)
    if answer is _LATE:
        return Check(
            status=OutcomeStatus.TIMEOUT,
            milliseconds=_milliseconds(elapsed),
            failure=f"no verdict within {seconds * 1000:.0f} ms",
        )
    return _checked(answer, content.text, _milliseconds(elapsed))


async def run_checks(shield: Shield, contents: Sequence[ShieldInput], seconds: float) -> list[Check]:
    """Let a shield judge many contents, each for at most this long; the checks are in their order.

    A shield that judges many at once is given all of them and the time of all of them. What that leaves without a
    verdict is judged alone, as everything is by other shields: one after the other, so that none is late for waiting.
    """
    checks: list[Check | None] = [None] * len(contents)
    if isinstance(shield, BatchShield) and len(contents) > 1:
        checks = await _batch(shield, contents, seconds * len(contents))
    return [
        await run_check(shield, content, seconds) if check is None else check
        for content, check in zip(contents, checks, strict=True)
    ]


async def _batch(shield: BatchShield, contents: Sequence[ShieldInput], seconds: float) -> list[Check | None]:
    """Return the checks that one call for all contents gave; each has its share of the time."""
    answer, elapsed = await _answer(lambda: shield.check_batch(contents), seconds)
    if not isinstance(answer, list | tuple) or len(answer) != len(contents):
        return [None] * len(contents)
    each = _milliseconds(elapsed / len(contents))
    checks = [_checked(one, content.text, each) for one, content in zip(answer, contents, strict=True)]
    return [check if check.verdict is not None else None for check in checks]


async def _answer(asking: Callable[[], Awaitable[object]], seconds: float) -> tuple[object, float]:
    """Return what a shield answered, or raised, and after how many seconds."""
    answers: list[Any] = []
    started = time.perf_counter()
    with anyio.move_on_after(seconds) as scope:
        # A group of its own: a shield that raises a cancellation nobody asked for ends this group alone.
        async with anyio.create_task_group() as group:
            group.start_soon(_ask, asking, answers)
    elapsed = time.perf_counter() - started
    # The clock too: a shield that holds the event loop may answer before the scope can notice.
    if scope.cancel_called or elapsed > seconds:
        return _LATE, elapsed
    return answers[0] if answers else _NO_ANSWER, elapsed


async def _ask(asking: Callable[[], Awaitable[object]], answers: list[Any]) -> None:
    try:
        answers.append(await asking())
    except Exception as exc:  # noqa: BLE001  # whatever it is, the shield is broken, and a broken shield blocks
        answers.append(exc)


def _checked(answer: object, text: str, milliseconds: float) -> Check:
    try:
        verdict = _verdict(answer, text)
    except Exception as exc:  # noqa: BLE001  # a forged verdict can fail anywhere
        return Check(status=OutcomeStatus.ERROR, milliseconds=milliseconds, failure=_told(exc))
    return Check(status=_status(verdict), milliseconds=milliseconds, verdict=verdict)


def _status(verdict: Verdict) -> OutcomeStatus:
    if verdict.flagged:
        return OutcomeStatus.HIT
    return OutcomeStatus.PASS if verdict.judged else OutcomeStatus.SKIPPED


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


async def at_once(run: Callable[[int], Coroutine[Any, Any, None]], indices: Sequence[int]) -> None:
    """Run a function with each of the indices, beside each other."""
    if len(indices) == 1:
        await run(indices[0])  # nothing runs beside it
        return
    async with anyio.create_task_group() as group:
        for index in indices:
            group.start_soon(run, index)
