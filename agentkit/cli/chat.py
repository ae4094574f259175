"""`agentkit chat`: a conversation in the terminal, with what the shields and the cache did after each turn."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import anyio
from rich.console import Console

from agentkit.agent.agent import Agent
from agentkit.agent.run import Run
from agentkit.agent.session import Session
from agentkit.cli.agent_options import AgentOptions
from agentkit.cli.chat_display import ChatDisplay
from agentkit.cli.exit_codes import EXIT_INTERRUPTED, EXIT_OK
from agentkit.cli.session_store import opened
from agentkit.cli.standard_input import StdinLines
from agentkit.cli.unfinished import check_same_setup, read_open_turn
from agentkit.errors import AgentKitError, StoreError
from agentkit.memory.rules import check_session_id
from agentkit.memory.store import Store
from agentkit.messages import Role
from agentkit.tools.approval import ApprovalRequest

_COMMANDS = "/new begins a new session, /quit or Ctrl-D ends, Ctrl-C stops an answer"
_UNFINISHED = (
    "its last turn has not ended: /resume goes on with it and asks about calls that wait, /abandon ends it"
)


def run_chat(options: AgentOptions, *, session_id: str | None, store: str) -> int:
    """Talk until the user quits; a session is kept where it was named."""
    if session_id is not None:
        check_session_id(session_id)
    chat = Chat(ChatDisplay(Console(highlight=False)))
    agent = options.agent(approver=chat.approve)
    if session_id is None:
        return anyio.run(_until_interrupted, chat, lambda: chat.talk(agent, None, None))
    kept = partial(_talk_in_store, chat, agent, options, session_id, store)
    return anyio.run(_until_interrupted, chat, kept)


async def _talk_in_store(chat: Chat, agent: Agent, options: AgentOptions, session_id: str, url: str) -> None:
    async with opened(url) as store:
        stored = await store.load(session_id)
        turn = read_open_turn(stored) if stored is not None else None
        if stored is not None and turn is not None:
            check_same_setup(stored, turn, options)
        await chat.talk(agent, session_id, store)


async def _until_interrupted(chat: Chat, talk: Callable[[], Awaitable[None]]) -> int:
    """Talk, with Ctrl-C stopping the answer in progress, or the chat where there is none."""
    failure: BaseException | None = None
    with anyio.CancelScope() as talking:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch_interrupts, chat, talking)
            try:
                await talk()
            except (Exception, SystemExit) as error:  # noqa: BLE001  # raised again, outside of the task group
                failure = error
            tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return EXIT_INTERRUPTED if talking.cancelled_caught else EXIT_OK


async def _watch_interrupts(chat: Chat, talking: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT) as interrupts:
        async for _ in interrupts:
            if not chat.stop_turn():
                talking.cancel()


class Chat:
    """One user at one terminal."""

    def __init__(self, display: ChatDisplay) -> None:
        self._display = display
        self._lines = StdinLines()
        self._run: Run | None = None

    async def talk(self, agent: Agent, session_id: str | None, store: Store | None) -> None:
        """Load the agent and answer lines until there are no more.

        Raises:
            AgentKitError: if the agent or the session cannot start.
        """
        async with agent:
            session = await agent.session(session_id, store=store).load()
            self._display.remark(f"{_told(session) if session_id else 'nothing is kept'}; {_COMMANDS}")
            if session.unfinished:
                self._display.remark(_UNFINISHED)
            while (line := await self._ask()) is not None:
                match line:
                    case "":
                        continue
                    case "/quit":
                        return
                    case "/new":
                        session = agent.session(store=store)
                        self._display.remark(_told(session) if session_id else "new session")
                    case "/resume" | "/abandon" if not session.unfinished:
                        self._display.remark("the last turn has ended")
                    case "/resume":
                        await self._turn(session.stream_resume())
                    case "/abandon":
                        await session.abandon()
                        self._display.remark(_told(session))
                    case _ if line.startswith("/") and line[1:].isalpha():
                        self._display.remark(f"there is no command {line}; {_COMMANDS}")
                    case _ if session.unfinished:
                        self._display.remark(_UNFINISHED)
                    case _:
                        await self._turn(session.stream(line))

    def stop_turn(self) -> bool:
        """Stop the answer in progress; return False where there is none, or it was to stop already."""
        run, self._run = self._run, None
        if run is None:
            return False
        run.cancel()
        return True

    async def approve(self, request: ApprovalRequest) -> bool:
        """Ask whether a call may be made; only a clear yes, typed after the question, is one."""
        self._lines.drop_typed_ahead()
        self._display.approval(request)
        answer = await self._lines.read()
        return answer is not None and answer.strip().lower() in ("y", "yes")

    async def _ask(self) -> str | None:
        self._display.prompt()
        line = await self._lines.read()
        if line is None:
            self._display.end_line()
            return None
        return line.strip()

    async def _turn(self, streaming: AbstractAsyncContextManager[Run]) -> None:
        try:
            async with streaming as run:
                self._run = run
                async for event in run:
                    self._display.show(event)
        except StoreError:
            raise  # what is said from here on could not be kept
        except AgentKitError as error:
            self._display.error(str(error))
        finally:
            self._run = None


def _told(session: Session) -> str:
    turns = sum(message.role is Role.USER for message in session.messages)
    if turns == 0:
        return f"new session {session.id}"
    return f"session {session.id}, {turns} {'turn' if turns == 1 else 'turns'} so far"
