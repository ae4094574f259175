"""What the agent's tests share: a policy that lets everything through, an agent on a script, tools that count."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agentkit import Agent, Policy, Shield, Tool
from agentkit.testing import ScriptedEngine

STAGES = ("user_input", "tool_description", "tool_call", "code", "tool_result", "memory", "model_output")


def policy(*, segment_tokens: int = 4, tools: Sequence[Mapping[str, Any]] = (), **rules: str) -> Policy:
    """Return a policy whose stages hold one shield `canary` with the given action, or none."""
    return policy_of(rules, segment_tokens=segment_tokens, tools=tools)


def policy_of(
    rules: Mapping[str, str], *, segment_tokens: int = 4, tools: Sequence[Mapping[str, Any]] = ()
) -> Policy:
    """Return such a policy for actions by stage."""
    stages = {
        stage: [{"shield": "canary", "on_hit": rules[stage]}] if stage in rules else [] for stage in STAGES
    }
    document = {
        "version": 1,
        "shields": {"canary": {"use": "instruction_override"}} if rules else {},
        "stages": stages,
        "failure": {"on_error": "block", "on_timeout": "block", "timeout_ms": 500},
        "streaming": {"segment_tokens": segment_tokens},
        "tools": list(tools),
    }
    return Policy.parse(json.dumps(document))


def scripted(
    *replies: str,
    tools: Sequence[Tool] = (),
    shield: Shield | None = None,
    under: Policy | None = None,
    **options: Any,
) -> tuple[Agent, ScriptedEngine]:
    """Return an agent that says the replies, and its engine."""
    engine = ScriptedEngine(replies)
    agent = Agent(
        engine,
        instructions="You are a test.",
        tools=tools,
        policy=under or policy(),
        shields={"canary": shield} if shield is not None else None,
        **options,
    )
    return agent, engine


def call(name: str, **arguments: Any) -> str:
    """Return a call as a model writes it."""
    return json.dumps({"name": name, "parameters": arguments})
