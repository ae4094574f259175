"""A policy in words: what is judged where, and what follows. Knows the policy, runs nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from agentkit.shields.base import Action, Stage
from agentkit.shields.policy import Policy
from agentkit.shields.policy_model import Mode, Rule, ShieldConfig, ToolRule

_STAGES: Final[Mapping[Stage, str]] = {
    Stage.USER_INPUT: "What the user says",
    Stage.TOOL_DESCRIPTION: "What a tool says about itself",
    Stage.TOOL_CALL: "A tool call, before it runs",
    Stage.CODE: "Code in a tool call, before it runs",
    Stage.TOOL_RESULT: "What a tool gives back, before the model reads it",
    Stage.MEMORY: "What comes from earlier sessions, before the model reads it",
    Stage.MODEL_OUTPUT: "What the model says, before anyone sees it",
}

_ACTIONS: Final[Mapping[Action, str]] = {
    Action.ALLOW: "recorded, and let through",
    Action.ANNOTATE: "let through, marked",
    Action.REDACT: "let through with the finding replaced",
    Action.WITHHOLD: "replaced by a short neutral note",
    Action.ESCALATE: "shown to a person, and blocked unless they release it",
    Action.BLOCK: "blocked",
}

_WHEN: Final = {
    "tainted": "once untrusted content was read, or with some in the arguments",
    "tainted_arguments": "with untrusted text word for word in the arguments",
}


def explain(policy: Policy) -> str:
    """Return what the policy does, in words, for `agentkit policy explain`."""
    parts = [
        [f"Policy {policy.path or '(unnamed)'}, version {policy.version}, digest {policy.digest[:12]}"],
        *([_locks(policy)] if policy.extends or policy.locks else []),
        ["Shields:", *(_shield(name, config, policy) for name, config in policy.shields.items())],
        *(_stage(stage, policy) for stage in Stage),
        _failure(policy),
        [f"Answers are judged and released in segments of {policy.streaming.segment_tokens} tokens."],
        ["Approval of tool calls:", *_approvals(policy)],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _locks(policy: Policy) -> list[str]:
    extends = [f"It extends {policy.extends}."] if policy.extends else []
    locked = [f"No policy that extends it may loosen {', '.join(policy.locks)}."] if policy.locks else []
    return [*extends, *locked]


def _shield(name: str, config: ShieldConfig, policy: Policy) -> str:
    options = ", ".join(f"{key} {_words(value)}" for key, value in config.options.items())
    words = f"  {name}: {config.use}" + (f" ({options})" if options else "")
    if config.mode is Mode.SHADOW:
        words += ", in shadow: recorded, decides nothing"
    if not any(rule.shield == name for stage in Stage for rule in policy.rules(stage)):
        words += ", used at no stage"
    return words


def _words(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _stage(stage: Stage, policy: Policy) -> list[str]:
    rules = policy.rules(stage)
    lines = [_rule(rule, policy) for rule in rules] or ["  not judged"]
    return [f"{_STAGES[stage]} ({stage.value}):", *lines]


def _rule(rule: Rule, policy: Policy) -> str:
    if policy.mode_of(rule) is Mode.SHADOW:
        return f"  a hit of {rule.shield} is only recorded (shadow; it would be {_ACTIONS[rule.on_hit]})"
    return f"  a hit of {rule.shield} is {_ACTIONS[rule.on_hit]}"


def _failure(policy: Policy) -> list[str]:
    on_error, on_timeout = Action(policy.failure.on_error), Action(policy.failure.on_timeout)
    return [
        "When a shield fails:",
        f"  content whose shield breaks is {_ACTIONS[on_error]}",
        f"  content whose shield takes over {policy.failure.timeout_ms} ms is {_ACTIONS[on_timeout]}",
    ]


def _approvals(policy: Policy) -> list[str]:
    rules = [f"  {_approval(rule)}" for rule in policy.tools] or ["  no rules: each tool's own setting holds"]
    return [*rules, "  one matching `always` outweighs every `never`"] if policy.tools else rules


def _approval(rule: ToolRule) -> str:
    tools = "any tool" if rule.match == "*" else f"tools named {rule.match}"
    effects = f" with effect {' or '.join(rule.effects)}" if rule.effects else ""
    when = f", {_WHEN[rule.when]}" if rule.when else ""
    verb = "always needs" if rule.approval == "always" else "does not need"
    return f"{tools}{effects}{when}: {verb} a person's approval"
