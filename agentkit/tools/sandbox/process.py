"""A bubblewrap process and its pipes: starts it, carries bytes both ways, kills it. Knows no Python sessions."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
from collections.abc import Callable
from typing import Final

import anyio

from agentkit.tools.sandbox.printed import Output, Printed
from agentkit.tools.sandbox.users import map_users, spare_id

_CHUNK: Final = 2**16
_REAP_SECONDS: Final = 10.0
# bubblewrap tells a few numbers about the sandbox.
_MAX_INFO_BYTES: Final = 4096


class SandboxProcess:
    """One sandbox. When the thread that made it ends, the kernel kills everything inside."""

    def __init__(self, command: Callable[[dict[str, object]], list[str]]) -> None:
        """Start the command, which gets the numbers of the pipes that it is to pass on.

        Raises:
            OSError: if it cannot be started.
        """
        requests, replies, info, go, out, err = (os.pipe() for _ in range(6))
        theirs = [requests[0], replies[1], info[1], go[0], out[1], err[1]]
        self._ours = [requests[1], replies[0], info[0], go[1], out[0], err[0]]
        self._requests, self._replies, self._info, self._go, self._stdout, self._stderr = self._ours
        self._first_process: int | None = None
        self._spare_id = spare_id()
        bwrap, *arguments = command({"requests": requests[0], "replies": replies[1]})
        waiting = ["--userns-block-fd", str(go[0])] if self._spare_id is not None else []
        try:
            self._popen = subprocess.Popen(  # noqa: S603
                [bwrap, "--info-fd", str(info[1]), *waiting, *arguments],
                env={},  # what the command has could be read inside
                stdin=subprocess.DEVNULL,
                stdout=out[1],
                stderr=err[1],
                pass_fds=theirs[:4],
            )
        except OSError:
            _close(self._ours)
            raise
        finally:
            _close(theirs)
        self._command = os.pidfd_open(self._popen.pid)
        self._ours.append(self._command)
        for end in (self._requests, self._replies, self._info, self._stdout, self._stderr):
            os.set_blocking(end, False)

    async def begin(self) -> bool:
        """Learn the sandbox's first process, and give it its users where that is the host's to do.

        Return whether that was possible; if not, what the command printed says why.
        """
        told = b""
        while b"}" not in told and len(told) < _MAX_INFO_BYTES:
            part = await _read(self._info, _MAX_INFO_BYTES)
            if not part:
                return False
            told += part
        pid = int(json.loads(told)["child-pid"])
        self._first_process = os.pidfd_open(pid)
        self._ours.append(self._first_process)
        if self._spare_id is not None:
            try:
                map_users(pid, self._spare_id)
            except OSError:
                return False
            os.write(self._go, b"1")
        return True

    async def ask(self, payload: bytes, printed: Printed, *, max_reply: int) -> bytes | None:
        """Send a frame, unless it is empty, and return the next one; None if the sandbox ends or breaks the form.

        What is printed meanwhile is collected; too much of it kills the sandbox.
        """
        reply: bytes | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._collect, self._stdout, printed.stdout, printed)
            tasks.start_soon(self._collect, self._stderr, printed.stderr, printed)
            if payload:
                tasks.start_soon(self._send, struct.pack(">I", len(payload)) + payload)
            reply = await self._receive(max_reply)
            tasks.cancel_scope.cancel()
        self.take_printed(printed)
        return reply

    def kill(self) -> None:
        """Kill the sandbox's first process, and the kernel kills all others with it."""
        if self._first_process is None:
            self._popen.kill()
            return
        try:
            signal.pidfd_send_signal(self._first_process, signal.SIGKILL)
        except ProcessLookupError:
            self._popen.kill()

    async def close(self) -> None:
        """Kill the sandbox, wait for its end and close the pipes; a cancellation does not interrupt this."""
        self.kill()
        with anyio.move_on_after(_REAP_SECONDS, shield=True):
            await anyio.wait_readable(self._command)
            self._popen.wait()
            # bubblewrap may end a little before the first process of the sandbox, which ends last inside.
            if self._first_process is not None:
                await anyio.wait_readable(self._first_process)
        _close(self._ours)

    async def _send(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            await anyio.wait_writable(self._requests)
            try:
                left = left[os.write(self._requests, left) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return  # the end of the replies tells it

    async def _receive(self, max_bytes: int) -> bytes | None:
        header = await self._read_exactly(4)
        if header is None:
            return None
        (length,) = struct.unpack(">I", header)
        return await self._read_exactly(length) if length <= max_bytes else None

    async def _read_exactly(self, length: int) -> bytes | None:
        content = bytearray()
        while len(content) < length:
            part = await _read(self._replies, min(_CHUNK, length - len(content)))
            if not part:
                return None
            content += part
        return bytes(content)

    async def _collect(self, pipe: int, output: Output, printed: Printed) -> None:
        while part := await _read(pipe, _CHUNK):
            output.add(part)
            if printed.flooded:
                self.kill()
                return

    def take_printed(self, printed: Printed) -> None:
        """Take what is in the pipes already, which is all that was printed before a reply was sent."""
        for pipe, output in ((self._stdout, printed.stdout), (self._stderr, printed.stderr)):
            while not printed.flooded:
                try:
                    part = os.read(pipe, _CHUNK)
                except BlockingIOError:
                    break
                if not part:
                    break
                output.add(part)


def _close(ends: list[int]) -> None:
    for end in ends:
        os.close(end)


async def _read(pipe: int, limit: int) -> bytes:
    """Return what is next in a pipe, as soon as there is something; nothing at its end."""
    while True:
        await anyio.wait_readable(pipe)
        try:
            return os.read(pipe, limit)
        except BlockingIOError:
            continue
