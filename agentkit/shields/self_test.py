"""The self-test of a shield at load: it must tell texts known to be bad from texts known to be good.

A guard with random, damaged or foreign weights answers like a good one, only wrongly: this is where it is found out.
Knows no concrete shield; each brings texts that it is sure about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from agentkit.messages import USER
from agentkit.shields.base import Shield, ShieldInput, Stage, Verdict
from agentkit.shields.check import run_check

# A first check may compile or warm something up: the policy's timeout is for those that follow.
_SECONDS: Final = 120.0
# What scores all texts nearly alike has not told them apart, on whichever side of its threshold they fall.
_MIN_SCORE_MARGIN: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTexts:
    """Texts about which there is no doubt. `bad` may be empty where the shield's options leave none."""

    bad: tuple[ShieldInput, ...]
    good: tuple[ShieldInput, ...]


def known_user_texts(*, bad: str | None, good: str) -> KnownTexts:
    """Return known texts as a user would say them."""

    def said(text: str) -> ShieldInput:
        return ShieldInput(text=text, stage=Stage.USER_INPUT, provenance=USER)

    return KnownTexts(bad=() if bad is None else (said(bad),), good=(said(good),))


@runtime_checkable
class SelfTested(Protocol):
    """A shield that can be tested at load. One that has no `known_texts` is not, and `agentkit doctor` says so."""

    def known_texts(self) -> KnownTexts:
        """Return what the shield, with its options, must flag and must not flag."""


async def failed_self_test(shield: Shield) -> str | None:
    """Test a started shield; return what it got wrong, or None where it passed or brings no texts."""
    if not isinstance(shield, SelfTested):
        return None
    known = shield.known_texts()
    scores: dict[bool, list[float]] = {True: [], False: []}
    for content, bad in [*((text, False) for text in known.good), *((text, True) for text in known.bad)]:
        check = await run_check(shield, content, _SECONDS)
        if check.verdict is None:
            return f"it could not judge a known text: {check.failure}"
        if check.verdict.flagged is not bad:
            return _wrong(check.verdict, bad=bad)
        if check.verdict.score is not None:
            scores[bad].append(check.verdict.score)
    return _too_close(min(scores[True], default=1.0), max(scores[False], default=0.0))


def _wrong(verdict: Verdict, *, bad: bool) -> str:
    what = "it did not flag a known-bad text" if bad else "it flagged a known-good text"
    if verdict.score is None:
        return what
    limit = "" if verdict.threshold is None else f", threshold {verdict.threshold:g}"
    return f"{what} (score {verdict.score:.3f}{limit})"


def _too_close(bad: float, good: float) -> str | None:
    if bad - good >= _MIN_SCORE_MARGIN:
        return None
    return f"it scores a known-bad text {bad:.3f} and a known-good one {good:.3f}, which tells nothing apart"
