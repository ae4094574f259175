"""A shield that fails in any way at any stage blocks, is recorded as what it was, and leaves the session usable."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import anyio
import pytest

from agentkit import (
    Agent,
    BlockedError,
    Code,
    MemoryStore,
    Policy,
    RunStatus,
    ShieldInput,
    Stage,
    Verdict,
    tool,
)
from agentkit.memory.audit_file import read_audit_file
from agentkit.shields.decision import OutcomeStatus
from agentkit.testing import ScriptedEngine
from tests.agent.support import STAGES, call

ERROR, TIMEOUT = OutcomeStatus.ERROR, OutcomeStatus.TIMEOUT
RUNS: list[str] = []


async def raise_error(content: ShieldInput) -> Verdict:
    raise ZeroDivisionError(content.text)


async def never_answer(content: ShieldInput) -> Verdict:
    await anyio.sleep_forever()
    raise AssertionError


async def answer_garbage(content: ShieldInput) -> Verdict:
    return "fine"  # type: ignore[return-value]  # that is the point


async def score_nan(content: ShieldInput) -> Verdict:
    verdict = Verdict(flagged=False, score=0.1)
    object.__setattr__(verdict, "score", math.nan)
    return verdict


async def cancel_itself(content: ShieldInput) -> Verdict:
    raise anyio.get_cancelled_exc_class()


FAILURES: dict[str, tuple[Callable[[ShieldInput], Awaitable[Verdict]], OutcomeStatus]] = {
    "raises": (raise_error, ERROR),
    "times out": (never_answer, TIMEOUT),
    "garbage": (answer_garbage, ERROR),
    "NaN": (score_nan, ERROR),
    "cancelled": (cancel_itself, ERROR),
}


class FailingAt:
    """Fails at one stage while it is broken; passes everything else."""

    def __init__(self, stage: str, fail: Callable[[ShieldInput], Awaitable[Verdict]]) -> None:
        self._stage = stage
        self._fail = fail
        self.broken = True

    async def start(self) -> None: ...

    async def check(self, content: ShieldInput) -> Verdict:
        if self.broken and content.stage == self._stage:
            return await self._fail(content)
        return Verdict(flagged=False)

    async def close(self) -> None: ...


@tool(effect="read")
def run_python(code: Annotated[str, Code("python")]) -> str:
    """Run Python code."""
    RUNS.append(code)
    return "done"


CALL = call("run_python", code="print(1)")
SCRIPTS = {"user_input": ["Fine."], "model_output": ["Hello.", "Fine."]}


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    RUNS.clear()


def agent_with(
    shield: FailingAt, replies: list[str], *, on_failure: str = "block", **options: object
) -> Agent:
    """Return an agent that the shield guards at every stage; a hit would only be marked."""
    seconds = 0.03 if shield._fail is never_answer else 9
    document = {
        "version": 1,
        "shields": {"failing": {"use": "instruction_override"}},
        "stages": {stage: [{"shield": "failing", "on_hit": "annotate"}] for stage in STAGES},
        "failure": {"on_error": on_failure, "on_timeout": on_failure, "timeout_ms": int(seconds * 1000)},
    }
    return Agent(
        ScriptedEngine(replies),
        tools=[run_python],
        policy=Policy.parse(json.dumps(document)),
        shields={"failing": shield},
        **options,  # type: ignore[arg-type]  # what an Agent takes
    )


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("stage", ["user_input", "tool_call", "code", "tool_result", "model_output"])
async def test_in_a_turn_it_blocks_and_the_session_goes_on(stage: str, failure: str, tmp_path: Path) -> None:
    fail, status = FAILURES[failure]
    shield = FailingAt(stage, fail)
    log = tmp_path / "audit.jsonl"
    async with agent_with(shield, SCRIPTS.get(stage, [CALL, "Fine."]), audit=log) as agent:
        session = agent.session("a/1")
        blocked = await session.run("Hello")
        shield.broken = False
        after = await session.run("Again")

    assert blocked.status is RunStatus.BLOCKED
    assert blocked.output is None
    decided = blocked.decisions[-1]
    assert (decided.stage.value, decided.outcomes[0].status) == (stage, status)
    assert (["print(1)"] if stage == "tool_result" else []) == RUNS
    recorded = [event.details for event in read_audit_file(log) if event.details["stage"] == stage]
    assert (recorded[0]["action"], recorded[0]["outcomes"][0]["status"]) == ("block", status.value)
    assert (after.status, after.output) == (RunStatus.COMPLETED, "Fine.")


@pytest.mark.parametrize("failure", FAILURES)
async def test_on_a_tools_description_the_agent_does_not_start_and_starts_later(failure: str) -> None:
    shield = FailingAt("tool_description", FAILURES[failure][0])
    agent = agent_with(shield, ["Fine."])
    with pytest.raises(
        BlockedError, match="the description of tool run_python was blocked by shield failing"
    ):
        await agent.start()
    shield.broken = False
    async with agent:
        assert (await agent.run("Hello")).output == "Fine."


@pytest.mark.parametrize("failure", FAILURES)
async def test_on_a_stored_session_nothing_is_loaded_and_it_is_later(failure: str) -> None:
    store = MemoryStore()
    shield = FailingAt("memory", FAILURES[failure][0])
    async with agent_with(shield, ["Hello."], store=store) as first:
        await first.session("a/1").run("Hello")
    async with agent_with(shield, ["Fine."], store=store) as second:
        with pytest.raises(BlockedError, match=r"that stage memory blocks \(shield failing\)"):
            await second.session("a/1").run("Again")
        shield.broken = False
        assert (await second.session("a/1").run("Again")).output == "Fine."


@pytest.mark.parametrize("failure", FAILURES)
async def test_what_a_failure_leads_to_is_the_policys_word(failure: str) -> None:
    fail, status = FAILURES[failure]
    shield = FailingAt("tool_result", fail)
    async with agent_with(shield, [CALL, "Fine."], on_failure="withhold") as agent:
        result = await agent.run("Hello")
    assert (result.status, result.output, RUNS) == (RunStatus.COMPLETED, "Fine.", ["print(1)"])
    (decided,) = [decision for decision in result.decisions if decision.stage is Stage.TOOL_RESULT]
    assert (decided.action.value, decided.outcomes[0].status) == ("withhold", status)


@pytest.mark.parametrize("stage", ["user_input", "tool_call", "code", "tool_result", "model_output"])
async def test_a_turn_cancelled_in_a_check_leaves_the_session_usable(stage: str) -> None:
    shield = FailingAt(stage, wait_for_long)
    async with agent_with(shield, SCRIPTS.get(stage, [CALL, "Fine."])) as agent:
        session = agent.session("a/1")
        with anyio.move_on_after(0.2) as scope:
            await session.run("Hello")
        shield.broken = False
        after = await session.run("Again")
    assert scope.cancelled_caught
    assert (after.status, after.output) == (RunStatus.COMPLETED, "Fine.")


async def wait_for_long(content: ShieldInput) -> Verdict:
    await anyio.sleep(60)
    raise AssertionError
