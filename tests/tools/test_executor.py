"""Cleared calls run within their limits, and every failure becomes words for the model."""

from __future__ import annotations

import logging
import threading
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from agentkit.errors import ConfigurationError, ToolError
from agentkit.messages import ToolCall
from agentkit.tools import Executor, Tool, ToolOutcome, Toolset, ToolStatus, tool
from tests.tools.calling import cleared


async def outcome_of(function_or_tool: Any, **arguments: Any) -> ToolOutcome:
    made = (
        function_or_tool if isinstance(function_or_tool, Tool) else tool(function_or_tool, description="X.")
    )
    return await Executor(Toolset([made])).run(cleared(made.name, **arguments))


@tool(effect="read")
def double(number: int) -> int:
    """Double a number."""
    return 2 * number


async def test_call_runs_with_converted_arguments():
    outcome = await outcome_of(double, number="21")

    assert (outcome.status, outcome.content, outcome.attempts) == (ToolStatus.OK, "42", 1)
    assert (outcome.call_id, outcome.tool_name, outcome.ok, outcome.truncated) == (
        "call_1",
        "double",
        True,
        False,
    )
    assert outcome.seconds >= 0


async def test_uncleared_call_is_not_taken():
    ran = []
    call = ToolCall(id="call_1", name="record", arguments={})

    def record() -> None:
        ran.append(1)

    executor = Executor(Toolset([tool(record, description="X.")]))

    with pytest.raises(TypeError, match="only cleared content"):
        await executor.run(call)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="only cleared content"):
        await executor.run_all([cleared("record"), call])  # type: ignore[list-item]
    assert ran == []


async def test_unknown_tool_names_the_tools():
    outcome = await Executor(Toolset([double])).run(cleared("duble", number=1))

    assert outcome.status is ToolStatus.UNKNOWN_TOOL
    assert outcome.content == (
        'Error: There is no tool named "duble". Did you mean double? The tools are: double.'
    )
    assert outcome.attempts == 0


async def test_invalid_arguments_do_not_reach_the_function():
    outcome = await outcome_of(double, numbr=1)

    assert outcome.status is ToolStatus.INVALID_ARGUMENTS
    assert 'unknown argument "numbr"; did you mean number?' in outcome.content
    assert outcome.attempts == 0
    assert not outcome.ok


async def test_async_tool_is_cancelled_at_its_timeout():
    ended = []

    @tool(timeout=0.05)
    async def wait() -> None:
        """Wait."""
        try:
            await anyio.sleep(30)
        finally:
            ended.append("cancelled")

    outcome = await outcome_of(wait)

    assert outcome.status is ToolStatus.TIMEOUT
    assert outcome.content == "Error: wait did not finish within 0.05 seconds"
    assert ended == ["cancelled"]
    assert outcome.seconds < 5


async def test_plain_tool_is_abandoned_at_its_timeout():
    release = threading.Event()

    @tool(timeout=0.05, effect="read", retries=3)
    def wait() -> None:
        """Wait."""
        release.wait(10)

    outcome = await outcome_of(wait)
    release.set()

    assert (outcome.status, outcome.attempts) == (ToolStatus.TIMEOUT, 1)
    assert outcome.seconds < 5


async def test_timeout_raised_by_the_tool_itself_is_an_error():
    async def reach() -> None:
        raise TimeoutError("10.0.0.1")

    outcome = await outcome_of(reach)

    assert (outcome.status, outcome.content) == (ToolStatus.ERROR, "Error: reach failed (TimeoutError).")


async def test_plain_tool_does_not_block_the_event_loop():
    met = threading.Event()

    def meet() -> bool:
        return met.wait(10)

    async def arrive():
        met.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(arrive)
        outcome = await outcome_of(meet)

    assert outcome.content == "true"


async def test_cancellation_passes_through_and_leaves_the_executor_usable():
    started = anyio.Event()

    async def wait() -> None:
        started.set()
        await anyio.sleep(30)

    executor = Executor(Toolset([tool(wait, description="X."), double]))
    finished = []

    async def run():
        finished.append(await executor.run(cleared("wait")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await started.wait()
        tasks.cancel_scope.cancel()

    assert finished == []
    assert (await executor.run(cleared("double", number=1))).content == "2"


async def test_tool_error_is_told_word_for_word():
    def look_up() -> None:
        raise ToolError("No such city; try the English name.")

    assert (await outcome_of(look_up)).content == "Error: No such city; try the English name."


@pytest.mark.parametrize(
    "error", [ValueError, KeyError, RuntimeError, StopIteration, SystemExit, ExceptionGroup]
)
async def test_other_errors_are_told_by_class_only(error, caplog):
    caplog.set_level(logging.DEBUG, logger="agentkit")

    def fail() -> None:
        raise (
            ExceptionGroup("password=1234", [OSError()])
            if error is ExceptionGroup
            else error("password=1234")
        )

    outcome = await outcome_of(fail)

    assert outcome.status is ToolStatus.ERROR
    assert outcome.content.startswith("Error: fail failed (")
    assert "1234" not in outcome.content + caplog.text


async def test_failing_read_is_tried_again():
    tries = []

    @tool(effect="read", retries=2)
    async def flaky() -> str:
        """Fail twice."""
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError
        return "there"

    outcome = await outcome_of(flaky)

    assert (outcome.content, outcome.attempts, len(tries)) == ("there", 3, 3)


async def test_retries_are_bounded():
    @tool(effect="read", retries=1)
    async def broken() -> None:
        """Fail."""
        raise ConnectionError

    outcome = await outcome_of(broken)

    assert (outcome.status, outcome.attempts) == (ToolStatus.ERROR, 2)


async def test_tool_error_is_an_answer_and_not_tried_again():
    @tool(effect="read", retries=5)
    async def refuse() -> None:
        """Refuse."""
        raise ToolError("No.")

    assert (await outcome_of(refuse)).attempts == 1


async def test_effect_happens_once_when_the_tool_fails():
    sent = []

    @tool
    def send() -> None:
        """Send."""
        sent.append(1)
        raise ConnectionError

    outcome = await outcome_of(send)

    assert (outcome.attempts, sent) == (1, [1])


async def test_async_function_behind_a_plain_decorator_is_awaited():
    async def inner() -> str:
        await anyio.lowlevel.checkpoint()
        return "awaited"

    def outer() -> Any:
        return inner()

    assert (await outcome_of(outer)).content == "awaited"


async def test_long_result_is_cut_with_a_note():
    def read() -> str:
        return "x" * 100

    executor = Executor(Toolset([tool(read, description="X.")]), result_chars=10)

    outcome = await executor.run(cleared("read"))

    assert outcome.truncated
    assert outcome.content == "xxxxxxxxxx\n[cut: the first 10 of 100 characters are shown]"


def test_limit_without_room_is_refused():
    with pytest.raises(ConfigurationError, match="result_chars must be at least 1, got 0"):
        Executor(Toolset(), result_chars=0)


async def test_reads_run_side_by_side_and_answer_in_order():
    meeting = [anyio.Event() for _ in range(3)]

    @tool(effect="read")
    async def meet(index: int) -> int:
        """Wait until all three are here."""
        meeting[index].set()
        for other in meeting:
            await other.wait()
        await anyio.sleep(0.01 * (3 - index))
        return index

    executor = Executor(Toolset([meet]))
    outcomes = await executor.run_all([cleared("meet", f"call_{index}", index=index) for index in range(3)])

    assert [outcome.call_id for outcome in outcomes] == ["call_0", "call_1", "call_2"]
    assert [outcome.content for outcome in outcomes] == ["0", "1", "2"]


async def test_number_of_reads_side_by_side_is_bounded():
    running = [0, 0]

    @tool(effect="read")
    async def count() -> None:
        """Count."""
        running[0] += 1
        running[1] = max(running)
        await anyio.sleep(0.005)
        running[0] -= 1

    await Executor(Toolset([count])).run_all([cleared("count")] * 30)

    assert 1 < running[1] <= 8


async def test_effects_wait_for_what_is_before_and_are_waited_for():
    log: list[str] = []

    async def note(name: str) -> None:
        log.append(f"{name} begins")
        await anyio.sleep(0.005)
        log.append(f"{name} ends")

    look = tool(note, name="look", description="X.", effect="read")
    write = tool(note, name="write", description="X.", effect="write")
    executor = Executor(Toolset([look, write]))

    calls = [("look", "a"), ("look", "b"), ("write", "c"), ("write", "d"), ("look", "e")]
    outcomes = await executor.run_all([cleared(tool_name, name, name=name) for tool_name, name in calls])

    assert [outcome.call_id for outcome in outcomes] == ["a", "b", "c", "d", "e"]
    assert log[:2] == ["a begins", "b begins"]
    assert log[4:] == ["c begins", "c ends", "d begins", "d ends", "e begins", "e ends"]


async def test_one_failure_does_not_stop_the_other_calls():
    @tool(effect="read")
    async def fail() -> None:
        """Fail."""
        raise RuntimeError

    executor = Executor(Toolset([fail, double]))

    outcomes = await executor.run_all([cleared("fail"), cleared("double", number=2), cleared("nothing")])

    assert [outcome.status.value for outcome in outcomes] == ["error", "ok", "unknown_tool"]


async def test_no_calls_give_no_outcomes():
    assert await Executor(Toolset()).run_all([]) == ()


async def test_result_without_a_text_form_is_an_error():
    def picture() -> bytes:
        return b"\x89PNG"

    assert (await outcome_of(picture)).content == (
        "Error: its result of type bytes cannot be written as text or JSON"
    )
