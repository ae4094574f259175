"""`agentkit policy check`, `explain`, `test` and `diff`."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import anyio

from agentkit.agent.runtime import EngineRoom
from agentkit.cli.exit_codes import EXIT_FINDING, EXIT_OK
from agentkit.cli.loading import import_modules, load_policy
from agentkit.cli.output import counted, write_json, write_line, write_note
from agentkit.errors import ConfigurationError, PolicyError
from agentkit.shields.decision import Outcome
from agentkit.shields.explanation import explain
from agentkit.shields.pipeline import Pipeline
from agentkit.shields.policy import Policy
from agentkit.shields.policy_changes import Direction, compare
from agentkit.shields.policy_tests import PolicyTestResult, run_policy_tests


def run_check(files: list[Path], *, imports: list[str], as_json: bool) -> int:
    """Load each file; return 1 if one is wrong."""
    import_modules(imports)
    failed = False
    for file in files:
        policy, problem = _loaded(file)
        failed = failed or problem is not None
        if as_json:
            error = str(problem) if problem else None
            line = problem.line if problem else None
            write_json({"file": str(file), "ok": problem is None, "line": line, "error": error})
        elif policy is None:
            write_note(str(problem))
        else:
            counts = f"{counted(len(policy.shields), 'shield')}, {counted(len(policy.tests), 'test')}"
            write_line(f"{file}: ok, {counts}, digest {policy.digest[:12]}")
    return EXIT_FINDING if failed else EXIT_OK


def run_explain(files: list[Path], *, imports: list[str]) -> int:
    """Say in words what each file does."""
    import_modules(imports)
    for policy in [load_policy(file) for file in files]:
        write_line(explain(policy))
    return EXIT_OK


def run_diff(old: Path, new: Path, *, imports: list[str], as_json: bool) -> int:
    """Say what the new policy changes; return 1 if something is looser, or may be and nobody can tell."""
    import_modules(imports)
    changes = compare(load_policy(old), load_policy(new))
    for change in changes:
        if as_json:
            place = list(change.location)
            write_json({"direction": change.direction.value, "place": place, "change": change.words})
        else:
            write_line(f"{change.direction.value:<8}  {change.words}")
    if not changes and not as_json:
        write_line("nothing changes")
    may_loosen = any(change.direction in (Direction.LOOSER, Direction.UNCLEAR) for change in changes)
    return EXIT_FINDING if may_loosen else EXIT_OK


def run_tests(files: list[Path], *, imports: list[str], as_json: bool) -> int:
    """Run the tests in each file; return 1 if one fails.

    Raises:
        ConfigurationError: if a file holds no tests: nothing would have been shown.
    """
    import_modules(imports)
    policies = {file: load_policy(file) for file in files}
    for file, policy in policies.items():
        if not policy.tests:
            raise ConfigurationError(f"{file} holds no tests; write some under `tests:`")
    return anyio.run(_run_tests, policies, as_json)


async def _run_tests(policies: dict[Path, Policy], as_json: bool) -> int:
    passed = failed = 0
    for file, policy in policies.items():
        async with AsyncExitStack() as closing:
            room = EngineRoom(closing)
            pipeline = await closing.enter_async_context(Pipeline(policy, engines=room.shield_engine))
            results = await run_policy_tests(pipeline)
        passed += sum(result.passed for result in results)
        failed += sum(not result.passed for result in results)
        for number, result in enumerate(results, start=1):
            if as_json:
                write_json({"file": str(file), "test": number, **result.to_json()})
            else:
                write_line(_told(file, number, result))
    if not as_json:
        write_line(f"{counted(passed + failed, 'test')}: {passed} passed, {failed} failed")
    return EXIT_FINDING if failed else EXIT_OK


def _loaded(file: Path) -> tuple[Policy | None, PolicyError | None]:
    try:
        return load_policy(file), None
    except PolicyError as error:
        return None, error


def _told(file: Path, number: int, result: PolicyTestResult) -> str:
    """Say how a test ended; where it failed, also what each shield said."""
    where = f"{file}:{result.line}" if result.line is not None else f"{file} test {number}"
    stage, expected, actual = result.test.stage.value, result.test.expect.value, result.action.value
    if result.passed:
        return f"ok    {where}  {stage}: {actual}"
    said = "; ".join(map(_said, result.decision.outcomes)) or "no shield judges this stage"
    return f"FAIL  {where}  {stage}: expected {expected}, got {actual} ({said})"


def _said(outcome: Outcome) -> str:
    words = f"{outcome.shield} {outcome.status.value}"
    if outcome.score is not None:
        words += f" {outcome.score:.2f}"
        if outcome.threshold is not None:
            words += f", threshold {outcome.threshold:g}"
    if outcome.category is not None:
        words += f", {outcome.category}"
    return f"{words}, in shadow" if outcome.shadow else words
