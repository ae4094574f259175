"""`agentkit policy …`: check, explain and test policy files."""

from __future__ import annotations

import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import typer

from agentkit.agent.runtime import EngineRoom
from agentkit.errors import PolicyError
from agentkit.shields.explanation import explain
from agentkit.shields.pipeline import Pipeline
from agentkit.shields.policy import Policy
from agentkit.shields.policy_tests import run_policy_tests


def run_check(files: list[Path], *, as_json: bool) -> int:
    """Load each file; return 1 if one is wrong."""
    failed = False
    for file in files:
        problem: PolicyError | None = None
        try:
            policy = Policy.load(file)
        except PolicyError as error:
            problem = error
            failed = True
        if as_json:
            line = problem.line if problem else None
            report = {
                "file": str(file),
                "ok": problem is None,
                "line": line,
                "error": str(problem) if problem else None,
            }
            typer.echo(json.dumps(report, ensure_ascii=False))
        elif problem is not None:
            typer.echo(str(problem), err=True)
        else:
            typer.echo(
                f"{file}: ok, {len(policy.shields)} shields, {len(policy.tests)} tests, digest {policy.digest[:12]}"
            )
    return 1 if failed else 0


def run_explain(files: list[Path]) -> int:
    """Say in words what each file does."""
    for file in files:
        typer.echo(explain(Policy.load(file)))
    return 0


def run_tests(files: list[Path], *, as_json: bool) -> int:
    """Run the tests in each file; return 1 if one fails."""
    return anyio.run(_run_tests, files, as_json)


async def _run_tests(files: list[Path], as_json: bool) -> int:
    failed = 0
    for file in files:
        async with AsyncExitStack() as closing:
            room = EngineRoom(closing)
            pipeline = await closing.enter_async_context(
                Pipeline(Policy.load(file), engines=room.shield_engine)
            )
            results = await run_policy_tests(pipeline)
        for index, result in enumerate(results, start=1):
            failed += not result.passed
            report = {
                "file": str(file),
                "test": index,
                "stage": result.test.stage.value,
                "expected": result.test.expect.value,
                "actual": result.action.value,
                "passed": result.passed,
            }
            if as_json:
                sys.stdout.write(json.dumps(report) + "\n")
            else:
                mark = "ok  " if result.passed else "FAIL"
                typer.echo(
                    f"{mark} {file} test {index}: {result.test.stage.value} {result.action.value}"
                    f" (expected {result.test.expect.value})"
                )
    return 1 if failed else 0
