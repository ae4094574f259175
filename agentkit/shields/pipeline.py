"""Runs a policy's shields over content and clears what they let through: the one holder of the seal.

Knows what a verdict leads to; not how a shield reaches one, nor what the caller does with the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import chain
from types import TracebackType
from typing import Final, Self, assert_never

import anyio

from agentkit.cleared import Cleared, Held, claim_seal
from agentkit.errors import ConfigurationError, ShieldError
from agentkit.shields.audit_sink import AuditSink
from agentkit.shields.base import (
    Action,
    Finding,
    Meanwhile,
    Shield,
    ShieldInput,
    Stage,
    runs_model,
    state_layers,
)
from agentkit.shields.check import Check, at_once, run_checks
from agentkit.shields.decision import (
    Ask,
    Decision,
    Escalation,
    EscalationRequest,
    Outcome,
    OutcomeStatus,
    digest_of,
)
from agentkit.shields.policy import Policy
from agentkit.shields.policy_errors import with_nearest
from agentkit.shields.policy_model import Mode, Rule
from agentkit.shields.redaction import merge_findings, redact
from agentkit.shields.registry import EngineProvider, find_shield
from agentkit.shields.self_test import SelfTested, failed_self_test

_SEAL: Final = claim_seal("agentkit.shields.pipeline")

WITHHELD_NOTE: Final = "[withheld: this content was withheld by the safety policy]"

_CLOSE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """One outcome, and the spans that it wants redacted."""

    outcome: Outcome
    findings: tuple[Finding, ...] = ()


class Pipeline:
    """Judges content by a policy. Use it as `async with Pipeline(policy) as pipeline:`.

    `engines` gives the models that shields run. `ask` asks a person on `escalate`; without it an escalation
    blocks. `overrides` are ready-made shields by their name in the policy, used in place of building them. `audit`
    is told every decision before its content goes on; if it cannot keep it, nothing is cleared.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        engines: EngineProvider | None = None,
        ask: Ask | None = None,
        overrides: Mapping[str, Shield] | None = None,
        audit: AuditSink | None = None,
    ) -> None:
        self._policy = policy
        self._engines = engines
        self._ask = ask
        self._audit = audit
        self._overrides = dict(overrides or {})
        self._shields: Mapping[str, Shield] | None = None
        self._closing = AsyncExitStack()
        for name in self._overrides:
            if name not in policy.shields:
                message = f"the policy has no shield {name!r} to override"
                raise ConfigurationError(with_nearest(message, name, policy.shields))

    @property
    def policy(self) -> Policy:
        """What the pipeline judges by."""
        return self._policy

    async def start(self) -> None:
        """Build, start and test every shield that some stage uses. Starting twice changes nothing.

        Raises:
            ConfigurationError, ModelLoadError: if a shield cannot work, or does not tell a known-bad text from a
                known-good one; those already started are closed.
        """
        if self._shields is not None:
            return
        started: dict[str, Shield] = {}
        async with AsyncExitStack() as closing:
            for name in _used_shields(self._policy):
                started[name] = self._overrides[name] if name in self._overrides else self._build(name)
                closing.push_async_callback(_close, name, started[name])
                await started[name].start()
                await self._test(name, started[name])
            self._closing = closing.pop_all()
        self._shields = started

    @property
    def untested(self) -> tuple[str, ...]:
        """The shields in use that bring no texts to test them with at the start."""
        return tuple(name for name, one in (self._shields or {}).items() if not isinstance(one, SelfTested))

    async def close(self) -> None:
        """Close every shield; nothing can be judged any more. Closing twice is allowed.

        Raises:
            ShieldError: if a shield could not be closed; the others are closed all the same.
        """
        self._shields = None
        await self._closing.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def judge(self, content: ShieldInput, *, meanwhile: Meanwhile | None = None) -> Decision:
        """Run the shields of the content's stage, all at once; the strictest outcome decides.

        A shield that breaks, is late or answers nonsense leads to the policy's failure action. May be called
        concurrently.

        With `meanwhile`, shields that run no model judge first. If they let the text through as it is and others
        are still to judge it, `meanwhile` is given the text, held, before those begin; the hidden states that it
        returns, they are given.

        Raises:
            ConfigurationError: if the pipeline was not started, or is closed.
            StoreError: if the decision cannot be put on record.
        """
        [decision] = await self._judge([content], meanwhile)
        return decision

    async def judge_batch(self, contents: Sequence[ShieldInput]) -> list[Decision]:
        """Judge contents of one stage together; return the decisions of `judge`, in order.

        What shields gain by it is time: one that runs a model judges all of them in one batch.

        Raises:
            ConfigurationError: if the pipeline was not started, or is closed, or the stages differ.
            StoreError: if a decision cannot be put on record.
        """
        return await self._judge(contents, None)

    async def _judge(self, contents: Sequence[ShieldInput], meanwhile: Meanwhile | None) -> list[Decision]:
        if self._shields is None:
            raise ConfigurationError("the shield pipeline is not running; use `async with Pipeline(policy)`")
        stages = {content.stage for content in contents}
        if len(stages) > 1:
            raise ConfigurationError(f"a batch is of one stage, got {', '.join(sorted(stages))}")
        decisions = []
        judged = await self._run_shields(self._shields, contents, meanwhile) if contents else []
        for content, outcomes in zip(contents, judged, strict=True):
            decision = await self._decide(content, outcomes)
            if self._audit is not None:
                await self._audit.record(content, decision, policy_digest=self._policy.digest)
            decisions.append(decision)
        return decisions

    def vouch(self, text: str) -> Cleared[str]:
        """Clear a text that the application's developer wrote: instructions, or a note of the SDK's own.

        No shield judges it. Never pass content that came from a user, a model, a tool or a store.
        """
        return Cleared(text, seal=_SEAL)

    def _build(self, name: str) -> Shield:
        config = self._policy.shields[name]
        try:
            return find_shield(config.use).build(config.options, engines=self._engines)
        except ConfigurationError as exc:
            raise self._policy.error(f"shield {name!r}: {exc}", "shields", name) from exc

    async def _test(self, name: str, shield: Shield) -> None:
        wrong = await failed_self_test(shield)
        if wrong is not None:
            use = self._policy.shields[name].use
            raise self._policy.error(
                f"shield {name!r} ({use}) failed its self-test: {wrong}; check its options, and that its model has "
                "trained weights of the right kind",
                "shields",
                name,
            )

    async def _run_shields(
        self,
        shields: Mapping[str, Shield],
        contents: Sequence[ShieldInput],
        meanwhile: Meanwhile | None,
    ) -> list[list[_Judged]]:
        """Run the rules beside each other; return for each content what each rule led to."""
        rules = self._policy.rules(contents[0].stage)
        judged: dict[int, list[_Judged]] = {}

        async def run(index: int) -> None:
            rule = rules[index]
            seconds = self._policy.failure.timeout_ms / 1000
            checks = await run_checks(shields[rule.shield], contents, seconds)
            judged[index] = [self._judged(rule, check) for check in checks]

        slow = [
            index
            for index, rule in enumerate(rules)
            if meanwhile is not None and runs_model(shields[rule.shield])
        ]
        await at_once(run, [index for index in range(len(rules)) if index not in slow])
        if meanwhile is not None and slow and _leaves_as_it_is(chain.from_iterable(judged.values())):
            layers = {layer for index in slow for layer in state_layers(shields[rules[index].shield])}
            states = meanwhile(Held(contents[0].text, seal=_SEAL), sorted(layers))
            contents = [replace(contents[0], states=states)]
        await at_once(run, slow)
        return [[judged[index][row] for index in range(len(rules))] for row in range(len(contents))]

    def _judged(self, rule: Rule, check: Check) -> _Judged:
        verdict, action = check.verdict, self._action(rule, check)
        reason = verdict.reason if verdict else check.failure
        findings = verdict.findings if verdict and action is Action.REDACT else ()
        if action is Action.REDACT and not findings:
            action, reason = Action.BLOCK, "a hit without findings cannot be redacted"
        outcome = Outcome(
            shield=rule.shield,
            status=check.status,
            action=action,
            score=verdict.score if verdict else None,
            threshold=verdict.threshold if verdict else None,
            category=verdict.category if verdict else None,
            reason=reason,
            milliseconds=check.milliseconds,
            shadow=self._policy.mode_of(rule) is Mode.SHADOW,
        )
        return _Judged(outcome=outcome, findings=findings)

    def _action(self, rule: Rule, check: Check) -> Action:
        match check.status:
            case OutcomeStatus.PASS | OutcomeStatus.SKIPPED:
                return Action.ALLOW
            case OutcomeStatus.HIT:
                return rule.on_hit
            case OutcomeStatus.ERROR:
                return Action(self._policy.failure.on_error)
            case OutcomeStatus.TIMEOUT:
                return Action(self._policy.failure.on_timeout)
            case never:
                assert_never(never)

    async def _decide(self, content: ShieldInput, judged: Sequence[_Judged]) -> Decision:
        digest = digest_of(content.text)
        enforced = [one for one in judged if not one.outcome.shadow]
        deciding = _strictest(enforced)
        escalation = None
        if deciding is not None and deciding.action is Action.ESCALATE:
            escalation = await self._escalate(content, deciding, digest)
            enforced = [one for one in enforced if one.outcome.action is not Action.ESCALATE]
        remaining = _strictest(enforced)
        action = remaining.action if remaining else Action.ALLOW
        if escalation is Escalation.REFUSED:
            action = Action.BLOCK
        spans = [span for one in enforced for span in one.findings] if action is Action.REDACT else []
        findings = merge_findings(spans)
        return Decision(
            stage=content.stage,
            action=action,
            outcomes=tuple(one.outcome for one in judged),
            content_digest=digest,
            cleared=_clear(action, content.text, findings),
            deciding=deciding,
            escalation=escalation,
            findings=findings,
        )

    async def _escalate(self, content: ShieldInput, deciding: Outcome, digest: str) -> Escalation:
        if self._ask is None:
            return Escalation.REFUSED
        request = EscalationRequest(
            stage=content.stage,
            shield=deciding.shield,
            category=deciding.category,
            reason=deciding.reason,
            content_digest=digest,
            text=content.text,
        )
        try:
            released = await self._ask(request)
        except Exception:  # noqa: BLE001  # without an answer there is no release
            return Escalation.REFUSED
        return Escalation.RELEASED if released is True else Escalation.REFUSED


def _used_shields(policy: Policy) -> list[str]:
    used = {rule.shield for stage in Stage for rule in policy.rules(stage)}
    return [name for name in policy.shields if name in used]


async def _close(name: str, shield: Shield) -> None:
    """Close one shield, also while being cancelled, within a bounded time."""
    try:
        with anyio.fail_after(_CLOSE_SECONDS, shield=True):
            await shield.close()
    except Exception as exc:
        raise ShieldError(f"shield {name!r} could not be closed: {type(exc).__name__}") from exc


def _leaves_as_it_is(judged: Iterable[_Judged]) -> bool:
    """Whether the text goes on unchanged, as far as these have a say in it."""
    strictest = _strictest([one for one in judged if not one.outcome.shadow])
    return strictest is None or strictest.action is Action.ANNOTATE


def _strictest(judged: Sequence[_Judged]) -> Outcome | None:
    """Return the outcome that decides, the first of equals; None where every action is to allow."""
    strictest = max(
        (one.outcome for one in judged), key=lambda outcome: outcome.action.severity, default=None
    )
    return None if strictest is None or strictest.action is Action.ALLOW else strictest


def _clear(action: Action, text: str, findings: Sequence[Finding]) -> Cleared[str] | None:
    match action:
        case Action.ALLOW | Action.ANNOTATE:
            return Cleared(text, seal=_SEAL)
        case Action.REDACT:
            return Cleared(redact(text, findings), seal=_SEAL)
        case Action.WITHHOLD:
            return Cleared(WITHHELD_NOTE, seal=_SEAL)
        case Action.ESCALATE | Action.BLOCK:
            return None
        case never:
            assert_never(never)
