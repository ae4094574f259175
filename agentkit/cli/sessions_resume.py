"""`agentkit sessions resume` and `abandon`: an unfinished turn goes on, or ends where it is. Both need the agent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from rich.console import Console

from agentkit.agent.result import RunResult, RunStatus
from agentkit.agent.session import Session
from agentkit.cli.agent_options import AgentOptions
from agentkit.cli.chat_display import ChatDisplay
from agentkit.cli.exit_codes import EXIT_FINDING, EXIT_OK
from agentkit.cli.output import write_json, write_line
from agentkit.cli.run import result_to_json
from agentkit.cli.session_store import existing, opened_existing
from agentkit.cli.unfinished import check_same_setup, note_waiting, read_open_turn
from agentkit.errors import ConfigurationError
from agentkit.tools.approval import ask_later


def run_resume(session_id: str, store: str, *, options: AgentOptions, as_json: bool) -> int:
    """Go on with an unfinished turn; return 1 unless it completed. Nobody is asked: a call that needs it waits."""
    result = anyio.run(_resume_quietly if as_json else _resume_showing, session_id, store, options)
    if as_json:
        write_json(result_to_json(result))
    if result.approvals:
        note_waiting(session_id, result.approvals)
    return EXIT_OK if result.status is RunStatus.COMPLETED else EXIT_FINDING


def run_abandon(session_id: str, store: str, *, options: AgentOptions) -> int:
    """End an unfinished turn where its last finished step left it."""
    anyio.run(_abandon, session_id, store, options)
    write_line(f"the unfinished turn of {session_id} is abandoned")
    return EXIT_OK


async def _resume_quietly(session_id: str, url: str, options: AgentOptions) -> RunResult:
    async with _unfinished(session_id, url, options) as session:
        return await session.resume()


async def _resume_showing(session_id: str, url: str, options: AgentOptions) -> RunResult:
    display = ChatDisplay(Console(highlight=False))
    async with _unfinished(session_id, url, options) as session, session.stream_resume() as run:
        async for event in run:
            display.show(event)
        return run.result


async def _abandon(session_id: str, url: str, options: AgentOptions) -> None:
    async with _unfinished(session_id, url, options) as session:
        await session.abandon()


@asynccontextmanager
async def _unfinished(session_id: str, url: str, options: AgentOptions) -> AsyncIterator[Session]:
    """Load the agent of a session that has an unfinished turn; what can be wrong without it is said before that."""
    async with opened_existing(url) as store:
        stored = await existing(store, session_id)
        turn = read_open_turn(stored)
        if turn is None:
            raise ConfigurationError(f"session {session_id!r} has no unfinished turn")
        check_same_setup(stored, turn, options)
        async with options.of_session(stored.header).agent(approver=ask_later) as agent:
            yield agent.session(session_id, store=store)
