"""Shields: content is judged by what a policy file configures, and only what they let through is cleared."""

from agentkit.shields.base import Action, Finding, Shield, ShieldInput, Stage, Verdict
from agentkit.shields.decision import Decision, Escalation, EscalationRequest, Outcome, OutcomeStatus
from agentkit.shields.explanation import explain
from agentkit.shields.pipeline import WITHHELD_NOTE, Pipeline
from agentkit.shields.policy import Policy
from agentkit.shields.policy_tests import PolicyTestResult, run_policy_tests
from agentkit.shields.registry import EngineProvider, register_shield, shield_names

__all__ = [
    "WITHHELD_NOTE",
    "Action",
    "Decision",
    "EngineProvider",
    "Escalation",
    "EscalationRequest",
    "Finding",
    "Outcome",
    "OutcomeStatus",
    "Pipeline",
    "Policy",
    "PolicyTestResult",
    "Shield",
    "ShieldInput",
    "Stage",
    "Verdict",
    "explain",
    "register_shield",
    "run_policy_tests",
    "shield_names",
]
