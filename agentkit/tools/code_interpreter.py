"""`code_interpreter`: Llama's built-in tool, as a stateful Python session for each session of an agent.

Knows no way of building a sandbox, and never runs code without one.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Final, Literal

import anyio

from agentkit.errors import ConfigurationError, ToolError, ToolTimeoutError
from agentkit.tools.base import Approval, Code, Tool
from agentkit.tools.call_context import current_call
from agentkit.tools.decorator import tool
from agentkit.tools.sandbox.base import (
    Attachment,
    Ending,
    Execution,
    NotStartedError,
    Sandbox,
    SandboxLimits,
    SandboxSession,
)
from agentkit.tools.sandbox.choice import SandboxName, choose_sandbox
from agentkit.tools.state import SessionKey

logger = logging.getLogger(__name__)

Keep = Callable[[tuple[Attachment, ...]], Awaitable[None]]
"""Takes the files of one call; in it, `current_call()` names the call and its session."""

_NAME: Final = "code_interpreter"
_DESCRIPTION: Final = (
    "Run Python code in a sandboxed session. Variables live from call to call. "
    "The value of a last expression is shown, as in a notebook. "
)
# A sandbox may have to be started, and one that is stopped takes a moment to end.
_TIMEOUT_MARGIN: Final = 30.0
# Sessions that have lost their sandbox and have not been told. Beyond this many the oldest are not told.
_MAX_REMEMBERED: Final = 1000
_STOPPED: Final = "the call before was stopped"
_CLOSED: Final = "the session was closed while the call was being made"


def code_interpreter(
    *,
    sandbox: SandboxName = "auto",
    packages: str | Path | None = None,
    limits: SandboxLimits | None = None,
    keep_files: Keep | None = None,
    max_sessions: int = 8,
    approval: Approval | Literal["always", "never"] | None = None,
) -> Tool:
    """Return the tool `code_interpreter`, which runs Python in a sandbox and never on the bare host.

    Every session of an agent has a sandbox of its own, started by its first call and ended with the session.

    Args:
        sandbox: `bubblewrap` (Linux), `monty` (a part of Python, anywhere), or `auto`: the first of them that works.
        packages: A virtual environment of this version of Python, or a folder of packages, that code may import. It
            is shown read-only, and needs bubblewrap.
        limits: What a session may use.
        keep_files: Takes the files and plots that a call wrote. Without it their names alone are told to the model.
        max_sessions: How many sandboxes may live at once. The one that was idle longest makes room for a new one.
        approval: As in `@tool`. The default policy asks a person before every call.

    Raises:
        ConfigurationError: if there is no such sandbox on this machine; the message says what to install.
    """
    if max_sessions < 1:
        raise ConfigurationError(f"max_sessions must be at least 1, got {max_sessions!r}")
    limits = limits or SandboxLimits()
    chosen = choose_sandbox(sandbox, packages=packages)
    interpreter = _Interpreter(chosen, limits, keep_files=keep_files, max_sessions=max_sessions)
    made = tool(
        interpreter.run,
        name=_NAME,
        description=_DESCRIPTION + chosen.description,
        effect="write",
        approval=approval,
        timeout=limits.seconds + _TIMEOUT_MARGIN,
    )
    return replace(made, state=interpreter)


@dataclass(slots=True, eq=False)
class _Slot:
    """The sandbox of one session. `lost` says why its variables are gone, until the model has read it."""

    session: SandboxSession
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    live: bool = False
    closed: bool = False
    lost: str | None = None
    work: anyio.CancelScope | None = None


class _Interpreter:
    """The sandboxes of the sessions that called the tool, the longest idle first."""

    def __init__(
        self, sandbox: Sandbox, limits: SandboxLimits, *, keep_files: Keep | None, max_sessions: int
    ) -> None:
        self._sandbox = sandbox
        self._limits = limits
        self._keep_files = keep_files
        self._max_sessions = max_sessions
        self._slots: OrderedDict[SessionKey | None, _Slot] = OrderedDict()

    async def run(self, code: Annotated[str, Code("python")]) -> str:
        """Run code in the sandbox of the session that calls.

        Args:
            code: The Python code to run.
        """
        slot = self._slot(current_call().session)
        async with slot.lock:
            await self._make_room(slot)
            if slot.closed:
                raise ToolError(_CLOSED)
            execution = await self._execute(slot, code)
            lost, slot.lost = slot.lost, None if slot.live else _STOPPED
        if self._keep_files is not None and execution.attachments:
            await self._keep_files(execution.attachments)
        return _answer(execution, self._limits, lost=lost)

    async def end_all(self) -> None:
        """Stop and free every sandbox; see `ToolState.end_all`."""
        for session in list(self._slots):
            await self.end(session)

    async def end(self, session: SessionKey | None) -> None:
        """Stop what runs for a session and free its sandbox; see `ToolState.end`."""
        slot = self._slots.pop(session, None)
        if slot is None:
            return
        slot.closed = True
        if slot.work is not None:
            slot.work.cancel()
        with anyio.CancelScope(shield=True):
            async with slot.lock:
                await slot.session.close()

    async def _execute(self, slot: _Slot, code: str) -> Execution:
        with anyio.CancelScope() as slot.work:
            slot.live = True
            try:
                execution = await slot.session.run(code)
            except NotStartedError as error:
                slot.live = False
                logger.warning("a sandbox could not be started: %s", error.detail)
                raise
            except BaseException:
                slot.live, slot.lost = False, _STOPPED
                raise
            finally:
                slot.work = None
            slot.live = execution.ending is Ending.COMPLETED
            return execution
        raise ToolError(_CLOSED)

    def _slot(self, key: SessionKey | None) -> _Slot:
        if key not in self._slots:
            self._slots[key] = _Slot(self._sandbox.open(self._limits))
        self._slots.move_to_end(key)
        for old in list(self._slots)[: max(0, len(self._slots) - _MAX_REMEMBERED)]:
            if not self._slots[old].live:
                del self._slots[old]
        return self._slots[key]

    async def _make_room(self, slot: _Slot) -> None:
        """End the sandbox that was idle longest, if a new one would be one too many."""
        live = [other for other in self._slots.values() if other.live]
        if slot.live or len(live) < self._max_sessions:
            return
        idle = next((other for other in live if not other.lock.locked()), None)
        if idle is None:
            raise ToolError(f"all {self._max_sessions} sandboxes are busy; try again later")
        slot.live = True  # others that look for room meanwhile count it
        async with idle.lock:
            idle.live, idle.lost = False, "the session was idle for long"
            await idle.session.close()


def _answer(execution: Execution, limits: SandboxLimits, *, lost: str | None) -> str:
    """Return what the model reads, in the form that Llama's own interpreter gives.

    Raises:
        ToolTimeoutError, ToolError: with the same, if the code was stopped.
    """
    streams = (("stdout", execution.stdout), ("stderr", execution.stderr))
    lines = [f"[{name}]{text.removesuffix(chr(10))}[/{name}]" for name, text in streams if text]
    lines += [f"[file: {file.name}, {len(file.content)} bytes]" for file in execution.attachments]
    lines += [f"[{note}]" for note in execution.notes]
    if lost is not None:
        lines.append(f"[this is a new session, without earlier variables and files: {lost}]")
    if execution.ending is Ending.COMPLETED:
        return "\n".join(["completed", *lines])
    gone = "its variables and files are lost, and the next call begins a new session"
    if execution.ending is Ending.TIMEOUT:
        head = f"the code did not end within {limits.seconds:g} seconds and was stopped; {gone}"
        raise ToolTimeoutError("\n".join([head, *lines]))
    raise ToolError("\n".join([f"the session ended while the code ran; {gone}", *lines]))
