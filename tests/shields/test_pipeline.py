"""The pipeline: the strictest outcome decides, and only what was judged is cleared."""

from __future__ import annotations

import json

import anyio
import pytest

from agentkit.cleared import require_cleared
from agentkit.errors import ConfigurationError, PolicyError, ShieldError
from agentkit.shields import (
    WITHHELD_NOTE,
    Action,
    Decision,
    Escalation,
    EscalationRequest,
    Finding,
    OutcomeStatus,
    Pipeline,
    Policy,
    ShieldInput,
    Stage,
    Verdict,
)
from tests.shields.fakes import AnsweringShield, MarkerShield, always, content_at, policy_for, policy_text

HIT = Verdict(flagged=True, score=0.9, threshold=0.5, category="attack", reason="looks like one")
PASS = Verdict(flagged=False)


@pytest.mark.parametrize(
    ("on_hit", "cleared"),
    [("allow", "some text"), ("annotate", "some text"), ("withhold", WITHHELD_NOTE), ("block", None)],
)
async def test_a_hit_leads_to_the_action_of_its_rule(on_hit: str, cleared: str | None) -> None:
    policy = policy_for(Stage.TOOL_RESULT, f"[{{shield: a, on_hit: {on_hit}}}]")
    async with Pipeline(policy, overrides={"a": always(HIT)}) as pipeline:
        decision = await pipeline.judge(content_at(Stage.TOOL_RESULT))

    assert decision.action == on_hit
    assert (decision.cleared and require_cleared(decision.cleared)) == cleared
    (outcome,) = decision.outcomes
    assert (outcome.status, outcome.score, outcome.threshold) == (OutcomeStatus.HIT, 0.9, 0.5)


@pytest.mark.parametrize("first", Action)
@pytest.mark.parametrize("second", Action)
async def test_the_strictest_action_wins_in_any_order(first: Action, second: Action) -> None:
    rules = f"[{{shield: a, on_hit: {first}}}, {{shield: b, on_hit: {second}}}]"
    hit = Verdict(flagged=True, findings=(Finding(start=0, end=4, label="x"),))
    policy = policy_for(Stage.TOOL_RESULT, rules)
    async with Pipeline(policy, overrides={"a": always(hit), "b": always(hit)}) as pipeline:
        decision = await pipeline.judge(content_at(Stage.TOOL_RESULT))

    strictest = max(first, second, key=lambda action: action.severity)
    assert decision.action is (Action.BLOCK if strictest is Action.ESCALATE else strictest)
    assert decision.blocked is (decision.cleared is None)
    assert decision.shield == (None if strictest is Action.ALLOW else "a" if first is strictest else "b")


async def test_a_stage_without_rules_clears_everything() -> None:
    async with Pipeline(Policy.parse(policy_text())) as pipeline:
        decision = await pipeline.judge(content_at(Stage.MEMORY))
    assert (decision.action, decision.outcomes) == (Action.ALLOW, ())


async def test_a_shadow_hit_decides_nothing_and_a_rule_can_enforce_a_shadow_shield() -> None:
    shields = "a: {use: fake_marker, mode: shadow}"
    stages = {
        Stage.USER_INPUT: "[{shield: a, on_hit: block}]",
        Stage.MEMORY: "[{shield: a, on_hit: block, mode: enforce}]",
    }
    policy = Policy.parse(policy_text(stages, shields=shields))
    async with Pipeline(policy) as pipeline:
        shadow = await pipeline.judge(content_at(Stage.USER_INPUT, "BAD"))
        enforced = await pipeline.judge(content_at(Stage.MEMORY, "BAD"))

    assert not shadow.blocked
    assert (shadow.outcomes[0].status, shadow.outcomes[0].action) == (OutcomeStatus.HIT, Action.BLOCK)
    assert enforced.blocked


async def test_redaction_replaces_only_what_redacting_shields_found() -> None:
    text = "key=AKIA1234 and BAD"
    found = Verdict(
        flagged=True,
        findings=(Finding(start=4, end=10, label="AWS key"), Finding(start=8, end=12, label="other")),
    )
    annotated = Verdict(flagged=True, findings=(Finding(start=17, end=20, label="word"),))
    rules = "[{shield: a, on_hit: redact}, {shield: b, on_hit: annotate}]"
    policy = policy_for(Stage.MODEL_OUTPUT, rules)
    async with Pipeline(policy, overrides={"a": always(found), "b": always(annotated)}) as pipeline:
        decision = await pipeline.judge(content_at(Stage.MODEL_OUTPUT, text))

    assert decision.cleared is not None
    assert decision.cleared.value == "key=[REDACTED:AWS key] and BAD"
    assert decision.findings == (Finding(start=4, end=12, label="AWS key"),)


async def test_a_redact_hit_without_findings_blocks() -> None:
    policy = policy_for(Stage.MODEL_OUTPUT, "[{shield: a, on_hit: redact}]")
    async with Pipeline(policy, overrides={"a": always(HIT)}) as pipeline:
        decision = await pipeline.judge(content_at(Stage.MODEL_OUTPUT))
    assert decision.blocked
    assert decision.reason == "a hit without findings cannot be redacted"


async def test_what_a_person_releases_goes_on_under_the_remaining_rules() -> None:
    found = Verdict(flagged=True, findings=(Finding(start=0, end=4, label="word"),))
    rules = "[{shield: a, on_hit: escalate}, {shield: b, on_hit: redact}]"
    requests: list[EscalationRequest] = []

    async def ask(request: EscalationRequest) -> bool:
        requests.append(request)
        return True

    policy = policy_for(Stage.MODEL_OUTPUT, rules)
    async with Pipeline(policy, ask=ask, overrides={"a": always(HIT), "b": always(found)}) as pipeline:
        decision = await pipeline.judge(content_at(Stage.MODEL_OUTPUT))

    assert decision.cleared is not None
    assert decision.cleared.value == "[REDACTED:word] text"
    assert (decision.escalation, decision.shield) == (Escalation.RELEASED, "a")
    (request,) = requests
    assert (request.shield, request.category, request.text) == ("a", "attack", "some text")
    assert "some text" not in repr(request)


async def test_without_a_plain_yes_an_escalation_blocks() -> None:
    async def no(request: EscalationRequest) -> bool:
        return False

    async def almost_yes(request: EscalationRequest) -> bool:
        return "yes"  # type: ignore[return-value]  # that is the point

    async def broken(request: EscalationRequest) -> bool:
        raise OSError

    policy = policy_for(Stage.USER_INPUT, "[{shield: a, on_hit: escalate}]")
    for ask in (None, no, almost_yes, broken):
        async with Pipeline(policy, ask=ask, overrides={"a": always(HIT)}) as pipeline:
            decision = await pipeline.judge(content_at(Stage.USER_INPUT))
        assert decision.blocked
        assert (decision.escalation, decision.category) == (Escalation.REFUSED, "attack")


async def test_shields_run_at_the_same_time() -> None:
    both_run = anyio.Event()
    running: list[str] = []

    async def meet(content: ShieldInput) -> Verdict:
        running.append("one")
        if len(running) == 2:
            both_run.set()
        await both_run.wait()
        return PASS

    policy = policy_for(Stage.USER_INPUT, "[{shield: a, on_hit: block}, {shield: b, on_hit: block}]")
    shields = {"a": AnsweringShield(meet), "b": AnsweringShield(meet)}
    async with Pipeline(policy, overrides=shields) as pipeline:
        assert not (await pipeline.judge(content_at(Stage.USER_INPUT))).blocked


async def test_a_decision_in_json_quotes_nothing_of_the_content() -> None:
    async def quote_the_content(content: ShieldInput) -> Verdict:
        raise RuntimeError(content.text)

    policy = policy_for(Stage.USER_INPUT, "[{shield: a, on_hit: block}]")
    text = "a very private sentence"
    async with Pipeline(policy, overrides={"a": AnsweringShield(quote_the_content)}) as pipeline:
        decision = await pipeline.judge(content_at(Stage.USER_INPUT, text))

    assert text not in json.dumps(decision.to_json())
    assert text not in repr(decision)
    assert decision.to_json()["content_digest"] == decision.content_digest


async def test_text_that_is_not_valid_unicode_is_judged_like_any_other() -> None:
    async with Pipeline(policy_for(Stage.USER_INPUT, "[{shield: a, on_hit: block}]")) as pipeline:
        assert (await pipeline.judge(content_at(Stage.USER_INPUT, "BAD \ud800"))).blocked


async def test_only_shields_in_use_are_started_and_every_one_is_closed() -> None:
    class Stubborn(MarkerShield):
        async def close(self) -> None:
            raise OSError

    used, unused, stubborn = MarkerShield(), MarkerShield(), Stubborn()
    shields = "a: {use: fake_marker}\n  b: {use: fake_marker}\n  c: {use: fake_marker}"
    rules = "[{shield: a, on_hit: block}, {shield: c, on_hit: block}]"
    policy = policy_for(Stage.USER_INPUT, rules, shields=shields)
    pipeline = Pipeline(policy, overrides={"a": used, "b": unused, "c": stubborn})
    await pipeline.start()
    await pipeline.start()
    with pytest.raises(ShieldError, match="shield 'c' could not be closed: OSError"):
        await pipeline.close()
    await pipeline.close()

    assert (used.started, used.closed, unused.started) == (1, 1, 0)
    with pytest.raises(ConfigurationError, match="not running"):
        await pipeline.judge(content_at(Stage.USER_INPUT))


async def test_a_shield_that_cannot_start_stops_the_pipeline_and_closes_the_others() -> None:
    class Unstartable(MarkerShield):
        async def start(self) -> None:
            raise ConfigurationError("no such model")

    good = MarkerShield()
    policy = policy_for(Stage.USER_INPUT, "[{shield: a, on_hit: block}, {shield: b, on_hit: block}]")
    pipeline = Pipeline(policy, overrides={"a": good, "b": Unstartable()})
    with pytest.raises(ConfigurationError, match="no such model"):
        await pipeline.start()
    assert good.closed == 1
    with pytest.raises(ConfigurationError, match="not running"):
        await pipeline.judge(content_at(Stage.USER_INPUT))


async def test_a_shield_that_needs_an_engine_says_where_it_is_written() -> None:
    policy = policy_for(
        Stage.USER_INPUT, "[{shield: a, on_hit: block}]", shields="a: {use: fake_engine_user, model: m}"
    )
    with pytest.raises(
        PolicyError, match=r"^3: shield 'a': .*'fake_engine_user' runs a model; pass engines="
    ):
        await Pipeline(policy).start()


def test_an_override_must_name_a_shield_of_the_policy() -> None:
    policy = policy_for(Stage.USER_INPUT, "[]", shields="injection: {use: fake_marker}")
    with pytest.raises(ConfigurationError, match=r"no shield 'injektion'.*did you mean 'injection'"):
        Pipeline(policy, overrides={"injektion": MarkerShield()})


async def test_a_decision_that_blocks_cannot_hold_cleared_content() -> None:
    async with Pipeline(policy_for(Stage.USER_INPUT, "[]")) as pipeline:
        cleared = (await pipeline.judge(content_at(Stage.USER_INPUT))).cleared
    assert cleared is not None
    with pytest.raises(TypeError, match="has no cleared content"):
        Decision(stage=Stage.CODE, action=Action.BLOCK, outcomes=(), content_digest="", cleared=cleared)
