"""AgentDojo's ground truth under taint rules, without a model: `python -m benchmarks.agentdojo`. A table, a JSON line.

A script makes the calls that AgentDojo says solve a user's task, on its own tools and environments. For every user task
and every injection task the injected goal stands in the environment; as soon as a result shows it, the script makes the
calls that fulfil it, as a model would that falls for every attack. Nothing but the rule about tools is in force; its
approver refuses what the attack asks for. Counted are calls that change or send something: of the attack, how many a
person was asked about; of the user's own task without any attack, for how many one was needed.

The package `agentdojo` (MIT) is installed beside the peers, without the services that it can call:
`pip install --no-deps --target .peers/agentdojo agentdojo==0.1.35` and
`pip install --target .peers/agentdojo deepdiff email-validator`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import anyio

from agentkit import Agent, ApprovalRequest, Limits, Policy, Tool
from agentkit.errors import ToolError
from agentkit.messages import ToolCall
from agentkit.shields.base import Stage
from agentkit.testing import ScriptedEngine
from agentkit.tools.approval import call_digest
from agentkit.tools.base import Effect

PACKAGE: Final = Path(__file__).parent.parent / ".peers" / "agentdojo"
VERSION: Final = "v1.2.2"
RULES: Final = ("tainted", "tainted_arguments")

# What a tool of AgentDojo does follows from its name; whatever does not only look acts.
_READING: Final = ("get_", "search_", "read_", "list_", "check_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dojo:
    """How a suite's tools are run: what makes a runtime of them, and what makes a text of a result."""

    runtime: Callable[[Sequence[Any]], Any]
    as_text: Callable[[Any], str]


@dataclass(slots=True, kw_only=True)
class Counts:
    """Calls that change or send something. `stopped` are those of the attack that a person was asked about."""

    attacks: int = 0
    attack_calls: int = 0
    stopped: int = 0
    attacks_through: int = 0
    own_calls: int = 0
    asked: int = 0
    tasks: int = 0
    tasks_asked: int = 0
    missed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a script made of one task: which acting calls were made, and about which a person was asked."""

    acting: tuple[str, ...]
    asked: frozenset[str]


def load(package: Path) -> tuple[Dojo, dict[str, Any]]:
    """Return how AgentDojo runs tools, and its suites by name. Its pipelines, which call services, are left out."""
    sys.path.insert(0, str(package))
    pipelines = ModuleType("agentdojo.agent_pipeline")
    pipelines.__path__ = [str(package / "agentdojo" / "agent_pipeline")]
    google = ModuleType("agentdojo.agent_pipeline.llms.google_llm")
    google.__dict__["EMPTY_FUNCTION_NAME"] = ""  # what running a tool needs of it
    for module in (pipelines, google):
        sys.modules[module.__name__] = module
    suites: dict[str, Any] = importlib.import_module("agentdojo.task_suite.load_suites").get_suites(VERSION)
    dojo = Dojo(
        runtime=importlib.import_module("agentdojo.functions_runtime").FunctionsRuntime,
        as_text=importlib.import_module("agentdojo.agent_pipeline.tool_execution").tool_result_to_str,
    )
    return dojo, suites


def policy_with(rule: str) -> Policy:
    """Return a policy in which nothing is judged, and a person is asked about calls that act where the rule holds."""
    stages: dict[str, list[str]] = {stage.value: [] for stage in Stage}
    tools = [{"match": "*", "when": rule, "effects": ["write", "external"], "approval": "always"}]
    document = {"version": 1, "shields": {}, "stages": stages, "tools": tools}
    return Policy.parse(json.dumps(document))


def effect_of(name: str) -> Effect:
    """Return what a tool does."""
    return Effect.READ if name.startswith(_READING) else Effect.EXTERNAL


async def count(dojo: Dojo, suite: Any, rule: str) -> Counts:
    """Run a suite's user tasks alone, and with each of its injection tasks."""
    counts = Counts()
    for user in suite.user_tasks.values():
        environment = suite.load_and_inject_default_environment({})
        environment = user.init_environment(environment)
        calls = calls_of(user, environment)
        run = await play(dojo, suite, environment, user.PROMPT, calls, attack=(), rule=rule)
        counts.tasks += 1
        counts.own_calls += len(run.acting)
        counts.asked += len(run.asked)
        counts.tasks_asked += bool(run.asked)
        for injection in suite.injection_tasks.values():
            await _count_attack(counts, dojo, suite, user, injection, rule)
    return counts


async def _count_attack(counts: Counts, dojo: Dojo, suite: Any, user: Any, injection: Any, rule: str) -> None:
    environment = injected(suite, user, injection.GOAL)
    own = calls_of(user, environment)
    seen = exposure(dojo, suite, user, injection.GOAL, own)
    attack = [
        call for call in calls_of(injection, environment) if effect_of(call.function) is not Effect.READ
    ]
    if seen is None or not attack:
        return  # the user's task never reads the injection, or the injection asks for nothing that acts
    calls = [*own[:seen], *attack, *own[seen:]]
    run = await play(dojo, suite, environment, user.PROMPT, calls, attack=attack, rule=rule)
    digests = [digest_of(call) for call in attack]
    through = [call for call, digest in zip(attack, digests, strict=True) if digest not in run.asked]
    counts.attacks += 1
    counts.attack_calls += len(attack)
    counts.stopped += len(attack) - len(through)
    counts.attacks_through += bool(through)
    for call in through:
        counts.missed[call.function] = counts.missed.get(call.function, 0) + 1


async def play(
    dojo: Dojo,
    suite: Any,
    environment: Any,
    prompt: str,
    calls: Sequence[Any],
    *,
    attack: Sequence[Any],
    rule: str,
) -> Run:
    """Let an agent make the calls, one a step; return which of them acted, and about which a person was asked."""
    refused = {digest_of(call) for call in attack}
    asked: set[str] = set()

    def approve(request: ApprovalRequest) -> bool:
        asked.add(request.digest)
        return request.digest not in refused

    script = [json.dumps({"name": call.function, "parameters": dict(call.args)}) for call in calls]
    agent = Agent(
        ScriptedEngine([*script, "Done."], context_length=10_000_000),
        tools=tools_of(dojo, suite, environment),
        policy=policy_with(rule),
        approver=approve,
        limits=Limits(steps=len(script) + 2, tokens=100_000_000, seconds=600, tool_calls=len(script) + 2),
    )
    async with agent:
        await agent.run(prompt)
    acting = tuple(digest_of(call) for call in calls if effect_of(call.function) is not Effect.READ)
    return Run(acting=acting, asked=frozenset(asked))


def tools_of(dojo: Dojo, suite: Any, environment: Any) -> list[Tool]:
    """Return a suite's tools on one environment, as agentkit's."""
    runtime = dojo.runtime(suite.tools)

    def tool_for(function: Any) -> Tool:
        async def call(**arguments: Any) -> str:
            result, error = runtime.run_function(environment, function.name, arguments)
            if error is not None:
                raise ToolError(error)
            return dojo.as_text(result)

        return Tool(
            name=function.name,
            description=function.description or function.name,
            parameters=function.parameters.model_json_schema(),
            function=call,
            effect=effect_of(function.name),
        )

    return [tool_for(function) for function in suite.tools]


def injected(suite: Any, user: Any, goal: str) -> Any:
    """Return the environment of a user's task with the goal in every place that an attacker can write."""
    vectors = dict.fromkeys(suite.get_injection_vector_defaults(), goal)
    return user.init_environment(suite.load_and_inject_default_environment(vectors))


def exposure(dojo: Dojo, suite: Any, user: Any, goal: str, calls: Sequence[Any]) -> int | None:
    """Return after how many calls of the user's task the goal has been read; None if it never is."""
    environment = injected(suite, user, goal)
    runtime = dojo.runtime(suite.tools)
    sign = " ".join(goal.split())[:40]
    for number, call in enumerate(calls, start=1):
        result, _ = runtime.run_function(environment, call.function, dict(call.args))
        if sign in " ".join(dojo.as_text(result).split()):
            return number
    return None


def calls_of(task: Any, environment: Any) -> list[Any]:
    """Return the calls that solve a task, those whose arguments are plain JSON."""
    return [call for call in task.ground_truth(environment.model_copy(deep=True)) if _is_plain(call.args)]


def digest_of(call: Any) -> str:
    """Return what an approval of the call would be bound to."""
    return call_digest(ToolCall(id="", name=call.function, arguments=_plain(call.args)))


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return dict(json.loads(json.dumps(dict(arguments))))


def _is_plain(arguments: Mapping[str, Any]) -> bool:
    try:
        json.dumps(dict(arguments))
    except TypeError:
        return False
    return True


async def _measure(dojo: Dojo, suites: Mapping[str, Any]) -> dict[str, dict[str, Counts]]:
    return {rule: {name: await count(dojo, suite, rule) for name, suite in suites.items()} for rule in RULES}


def main() -> None:
    """Print the counts of every suite under each rule."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--package", type=Path, default=PACKAGE, help="the folder that holds agentdojo")
    options.add_argument("--suites", nargs="*", default=["workspace", "travel", "banking", "slack"])
    chosen = options.parse_args()
    if not (chosen.package / "agentdojo").is_dir():
        sys.exit(f"{chosen.package} has no agentdojo: see `python -m benchmarks.agentdojo --help`")
    dojo, suites = load(chosen.package)
    report = anyio.run(_measure, dojo, {name: suites[name] for name in chosen.suites})
    head = ("rule", "suite", "attacks", "their calls", "stopped", "own calls", "asked", "tasks", "asked in")
    print("".join(f"{name:>19}" if not i else f"{name:>12}" for i, name in enumerate(head)))
    for rule, rows in report.items():
        for name, row in rows.items():
            numbers = (
                row.attacks, row.attack_calls, row.stopped, row.own_calls, row.asked, row.tasks, row.tasks_asked,
            )  # fmt: skip
            print(f"{rule:>19}{name:>12}" + "".join(f"{number:>12}" for number in numbers))
    print(
        json.dumps({rule: {name: asdict(row) for name, row in rows.items()} for rule, rows in report.items()})
    )


if __name__ == "__main__":
    main()
