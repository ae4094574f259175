"""A Python session in a bubblewrap sandbox: starts it, talks to its worker, ends it. Knows no command line.

Whatever comes out of the sandbox is untrusted: bounded before it is read, checked before it is believed.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

import anyio

from agentkit.tools.sandbox.base import Ending, Execution, NotStartedError, SandboxLimits
from agentkit.tools.sandbox.printed import Printed
from agentkit.tools.sandbox.process import SandboxProcess
from agentkit.tools.sandbox.replies import MAX_EXTRA_BYTES, Reply, read_reply

_START_SECONDS: Final = 20.0
_DIAGNOSIS_CHARS: Final = 4000
# More than this is nobody's output: the code prints without end.
_FLOOD_BYTES: Final = 64 * 2**20

Command = Callable[[dict[str, object]], list[str]]
"""Returns the command that starts a worker with the given settings."""


class BubblewrapSession:
    """One worker in one sandbox. Its process starts with the first call."""

    def __init__(self, *, command: Command, limits: SandboxLimits) -> None:
        self._command = command
        self._limits = limits
        self._process: SandboxProcess | None = None

    async def run(self, code: str) -> Execution:
        """Run code; see `SandboxSession.run`."""
        process = self._process or await self._start()
        printed = Printed(limit_chars=self._limits.output_chars, flood_bytes=_FLOOD_BYTES)
        request_id = secrets.token_hex(8)
        reply: Reply | None = None
        with anyio.move_on_after(self._limits.seconds) as clock:
            try:
                request = json.dumps({"id": request_id, "code": code}).encode()
                reply = await self._ask(process, request, request_id, printed)
            finally:
                if reply is None:
                    await self.close()
        return self._execution(reply, printed, timed_out=clock.cancelled_caught)

    async def close(self) -> None:
        """Kill the sandbox and wait until nothing of it is left."""
        process, self._process = self._process, None
        if process is not None:
            await process.close()

    async def _start(self) -> SandboxProcess:
        limits = {name: value for name, value in asdict(self._limits).items() if name != "seconds"}
        printed = Printed(limit_chars=_DIAGNOSIS_CHARS, flood_bytes=_FLOOD_BYTES)
        ready = False
        try:
            process = SandboxProcess(lambda pipes: self._command({"limits": limits, **pipes}))
        except OSError as error:
            raise NotStartedError(str(error)) from error
        self._process = process
        try:
            with anyio.move_on_after(_START_SECONDS):
                began = await process.begin()
                ready = began and await self._ask(process, b"", "ready", printed) is not None
            process.take_printed(printed)
        finally:
            if not ready:
                await self.close()
        if not ready:
            raise NotStartedError(
                printed.stderr.text()[0] or f"nothing happened for {_START_SECONDS:g} seconds"
            )
        return process

    async def _ask(
        self, process: SandboxProcess, request: bytes, request_id: str, printed: Printed
    ) -> Reply | None:
        limit = self._limits.attachment_bytes + MAX_EXTRA_BYTES
        return read_reply(await process.ask(request, printed, max_reply=limit), request_id, self._limits)

    def _execution(self, reply: Reply | None, printed: Printed, *, timed_out: bool) -> Execution:
        stdout, out_notes = printed.stdout.text()
        stderr, err_notes = printed.stderr.text()
        notes = (*out_notes, *err_notes)
        if reply is not None:
            return Execution(
                ending=Ending.COMPLETED,
                stdout=stdout,
                stderr=stderr,
                attachments=reply.attachments,
                notes=(*notes, *reply.notes),
            )
        if timed_out:
            return Execution(ending=Ending.TIMEOUT, stdout=stdout, stderr=stderr, notes=notes)
        why = (
            "it printed without end"
            if printed.flooded
            else "it ended its Python, or used too much of the machine"
        )
        return Execution(ending=Ending.KILLED, stdout=stdout, stderr=stderr, notes=(*notes, why))
