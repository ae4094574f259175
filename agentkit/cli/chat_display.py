"""What a chat looks like. Text of models and tools is shown without its control characters."""

from __future__ import annotations

from typing import assert_never

from rich.console import Console

from agentkit.agent.events import (
    ApprovalRequested,
    ContextTrimmed,
    Event,
    RunFinished,
    ShieldDecision,
    TextDelta,
    ToolCallFinished,
    ToolCallStarted,
)
from agentkit.agent.result import RunResult, RunStatus
from agentkit.cli.output import counted, one_line, printable
from agentkit.cli.run import describe_ending
from agentkit.shields.base import Action
from agentkit.shields.decision import Decision
from agentkit.tools.approval import ApprovalRequest

_LONGEST_RESULT = 300


class ChatDisplay:
    """Shows the events of turns on a console, each line on its own."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._in_line = False

    def prompt(self) -> None:
        """Ask the user for the next line."""
        self._write("you ", style="bold", end="")

    def end_line(self) -> None:
        """Leave the line that something was written on."""
        self._write("")

    def remark(self, text: str) -> None:
        """Say something of the chat's own."""
        self._line(text, style="dim")

    def error(self, text: str) -> None:
        """Say what went wrong."""
        self._line(" ".join(text.split()), style="red")

    def approval(self, request: ApprovalRequest) -> None:
        """Ask whether a call may be made."""
        why = ": ".join(filter(None, (request.reason, ", ".join(request.tainted_arguments))))
        question = f"allow {request.tool_name} {one_line(request.arguments)}? ({why}) y/N "
        self._line(question, style="bold yellow", end="")

    def show(self, event: Event) -> None:
        """Show one event of a turn."""
        match event:
            case TextDelta(text=text):
                self._write(printable(text), end="")
                self._in_line = not text.endswith("\n")
            case ToolCallStarted(name=name, arguments=arguments):
                self._line(f"call {name} {one_line(arguments)}", style="cyan")
            case ToolCallFinished(name=name, status=status, content=content):
                self._line(f"{name} {status}: {_shortened(content)}", style="cyan")
            case ShieldDecision(decision=decision):
                self._decision(decision)
            case RunFinished(result=result):
                self._end(result)
            case ContextTrimmed():
                self._trimmed(event)
            case ApprovalRequested():
                pass  # the approver asks
            case never:
                assert_never(never)

    def _decision(self, decision: Decision) -> None:
        if decision.action is Action.ALLOW:
            return
        category = f", {decision.category}" if decision.category else ""
        words = f"{decision.action.value} at {decision.stage.value} by {decision.shield}{category}"
        self._line(words, style="yellow")

    def _trimmed(self, event: ContextTrimmed) -> None:
        left = f"{counted(event.dropped_turns, 'turn')} left it{', summed up' if event.summarised else ''}"
        cut = f"{counted(event.cut_results, 'tool result')} cut"
        tokens = f"{event.tokens_before} tokens became {event.tokens_after}"
        self._line(f"the context was full: {left}; {cut}; {tokens}", style="yellow")

    def _end(self, result: RunResult) -> None:
        if result.status is not RunStatus.COMPLETED:
            self._line(describe_ending(result), style="red")
        if result.truncated:
            self._line("the answer was cut at its largest length", style="yellow")
        usage = result.usage
        self._line(
            f"{usage.output_tokens} tokens in {usage.total_seconds:.1f} s; {usage.cached_share:.0%} of "
            f"{usage.input_tokens} input tokens from the cache; shields {usage.shield_seconds * 1000:.0f} ms",
            style="dim",
        )

    def _line(self, text: str, *, style: str, end: str = "\n") -> None:
        if self._in_line:
            self._write("")
        self._in_line = False
        self._write(printable(text), style=style, end=end)

    def _write(self, text: str, *, style: str | None = None, end: str = "\n") -> None:
        # soft_wrap: the terminal wraps, so that what is copied or piped has the lines that were written.
        self._console.print(text, style=style, end=end, markup=False, soft_wrap=True)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_RESULT else f"{line[:_LONGEST_RESULT]}…"
