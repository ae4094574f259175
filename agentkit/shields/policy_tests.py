"""Runs the `tests:` of a policy. Knows the pipeline only through its public face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agentkit.messages import MODEL, USER, Origin, Provenance
from agentkit.shields.base import Action, ShieldInput, Stage
from agentkit.shields.decision import Decision
from agentkit.shields.pipeline import Pipeline
from agentkit.shields.policy_model import PolicyTest

_PROVENANCE: Final[Mapping[Stage, Provenance]] = {
    Stage.USER_INPUT: USER,
    Stage.TOOL_DESCRIPTION: Provenance(origin=Origin.TOOL, source="policy test"),
    Stage.TOOL_CALL: MODEL,
    Stage.CODE: MODEL,
    Stage.TOOL_RESULT: Provenance(origin=Origin.TOOL, source="policy test"),
    Stage.MEMORY: Provenance(origin=Origin.MEMORY, source="policy test"),
    Stage.MODEL_OUTPUT: MODEL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTestResult:
    """One line of `tests:`, what it expected and what the policy did. `line` is where it is written."""

    test: PolicyTest
    action: Action
    decision: Decision
    line: int | None

    @property
    def passed(self) -> bool:
        """Whether the policy did what the test expects."""
        return self.action is self.test.expect

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "passed": self.passed,
            "stage": self.test.stage.value,
            "expect": self.test.expect.value,
            "action": self.action.value,
            "line": self.line,
            "decision": self.decision.to_json(),
        }


async def run_policy_tests(pipeline: Pipeline) -> tuple[PolicyTestResult, ...]:
    """Judge every text under `tests:` with a running pipeline, one after the other.

    An escalation counts as `escalate`, whatever a person answers: give the pipeline no `ask`.
    """
    policy = pipeline.policy
    results: list[PolicyTestResult] = []
    for index, test in enumerate(policy.tests):
        content = ShieldInput(text=test.text, stage=test.stage, provenance=_PROVENANCE[test.stage])
        decision = await pipeline.judge(content)
        action = Action.ESCALATE if decision.escalation else decision.action
        line = policy.line_of("tests", index)
        results.append(PolicyTestResult(test=test, action=action, decision=decision, line=line))
    return tuple(results)
