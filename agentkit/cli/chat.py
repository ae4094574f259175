"""`agentkit chat`: a conversation in the terminal, with what the shields and the cache did after each turn."""

from __future__ import annotations

from pathlib import Path

import anyio
from rich.console import Console
from rich.markup import escape

from agentkit.agent.agent import Agent
from agentkit.agent.events import (
    ApprovalRequested,
    Event,
    RunFinished,
    ShieldDecision,
    TextDelta,
    ToolCallFinished,
    ToolCallStarted,
)
from agentkit.agent.result import RunResult, RunStatus
from agentkit.agent.session import Session
from agentkit.cli.loading import load_tools
from agentkit.cli.run import describe_ending
from agentkit.errors import AgentKitError
from agentkit.shields.base import Action
from agentkit.tools.approval import ApprovalRequest

_HELP = "Say something; /new begins a new session, /quit or Ctrl-D ends."


def run_chat(
    *,
    model: str,
    policy: Path | None,
    session_id: str | None,
    store: str,
    tools: list[str],
    instructions: str,
) -> int:
    """Talk until the user quits."""
    console = Console(highlight=False)
    approver = _Approver(console)
    agent = Agent(
        model,
        instructions=instructions,
        tools=load_tools(tools),
        policy=policy,
        approver=approver.ask,
        store=store if session_id else None,
    )
    anyio.run(_chat, agent, session_id, console)
    return 0


async def _chat(agent: Agent, session_id: str | None, console: Console) -> None:
    async with agent:
        session = await agent.session(session_id).load()
        console.print(f"[dim]session {session.id}, {len(session.messages)} messages. {_HELP}[/dim]")
        while (line := await _read_line(console)) is not None:
            if line == "/quit":
                return
            if line == "/new":
                session = agent.session()
                console.print(f"[dim]session {session.id}[/dim]")
            elif line:
                await _turn(session, line, console)


async def _read_line(console: Console) -> str | None:
    try:
        return (
            await anyio.to_thread.run_sync(lambda: console.input("[bold]you[/bold] "), abandon_on_cancel=True)
        ).strip()
    except EOFError:
        return None


async def _turn(session: Session, text: str, console: Console) -> None:
    try:
        async with session.stream(text) as run:
            async for event in run:
                _show(event, console)
    except AgentKitError as error:
        console.print(f"[red]{escape(str(error))}[/red]")


def _show(event: Event, console: Console) -> None:
    match event:
        case TextDelta(text=text):
            console.print(text, end="", markup=False)
        case ToolCallStarted(name=name, arguments=arguments):
            console.print(f"[cyan]call[/cyan] {escape(name)} {escape(str(dict(arguments)))}")
        case ToolCallFinished(name=name, status=status, content=content):
            console.print(f"[cyan]{escape(status)}[/cyan] {escape(name)} {escape(content)}")
        case ShieldDecision(decision=decision):
            if decision.action is not Action.ALLOW:
                console.print(
                    f"[yellow]{decision.action.value}[/yellow] at {decision.stage.value} by {decision.shield}"
                    f" ({decision.category})"
                )
        case RunFinished(result=result):
            _show_end(result, console)
        case ApprovalRequested():
            pass  # the approver asks


def _show_end(result: RunResult, console: Console) -> None:
    if result.status is not RunStatus.COMPLETED:
        console.print(f"[red]{escape(describe_ending(result))}[/red]")
    usage = result.usage
    console.print(
        f"\n[dim]{usage.output_tokens} tokens in {usage.total_seconds:.1f} s; {usage.cached_share:.0%} of "
        f"{usage.input_tokens} input tokens from the cache; shields {usage.shield_seconds * 1000:.0f} ms[/dim]"
    )


class _Approver:
    """Asks on the terminal whether a call may be made."""

    def __init__(self, console: Console) -> None:
        self._console = console

    async def ask(self, request: ApprovalRequest) -> bool:
        question = f"allow {request.tool_name} {dict(request.arguments)}? ({request.reason}) y/N "
        answer = await anyio.to_thread.run_sync(
            lambda: self._console.input(escape(question)), abandon_on_cancel=True
        )
        return answer.strip().lower() in {"y", "yes"}
