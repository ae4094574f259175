"""A bubblewrap process and its pipes: starts it, carries bytes both ways, kills it. Knows no Python sessions."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
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
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()
        self._info, info = os.pipe()
        go, self._go = os.pipe()
        given = (requests, replies, info, go)
        self._pidfd: int | None = None
        self._spare_id = spare_id()
        arguments = command({"requests": requests, "replies": replies})
        extra = [
            "--info-fd",
            str(info),
            *(["--userns-block-fd", str(go)] if self._spare_id is not None else []),
        ]
        try:
            # An empty environment: what the command gets could be read inside.
            self._popen = subprocess.Popen(  # noqa: S603
                [arguments[0], *extra, *arguments[1:]],
                env={},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=given,
                bufsize=0,
            )
        except OSError:
            for end in (self._requests, self._replies, self._info, self._go):
                os.close(end)
            raise
        finally:
            for end in given:
                os.close(end)
        if self._popen.stdout is None or self._popen.stderr is None:  # pragma: no cover  # both are pipes
            raise AssertionError
        self._end = os.pidfd_open(self._popen.pid)
        self._stdout, self._stderr = self._popen.stdout.fileno(), self._popen.stderr.fileno()
        for end in (self._requests, self._replies, self._info, self._stdout, self._stderr):
            os.set_blocking(end, False)

    async def begin(self) -> None:
        """Learn the sandbox's first process, and give it its users where that is the host's to do.

        Raises:
            OSError: if the process has ended already, or the users cannot be mapped.
        """
        told = b""
        while b"}" not in told and len(told) < _MAX_INFO_BYTES:
            part = await _read(self._info, _MAX_INFO_BYTES)
            if not part:
                raise ProcessLookupError("the sandbox has ended before it began")
            told += part
        pid = int(json.loads(told)["child-pid"])
        self._pidfd = os.pidfd_open(pid)
        if self._spare_id is not None:
            map_users(pid, self._spare_id)
            os.write(self._go, b"1")

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
        self._collect_rest(printed)
        return reply

    def kill(self) -> None:
        """Kill the sandbox's first process, and the kernel kills all others with it."""
        if self._pidfd is None:
            self._popen.kill()
            return
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            self._popen.kill()

    async def close(self) -> None:
        """Kill the sandbox, wait for its end and close the pipes; a cancellation does not interrupt this."""
        self.kill()
        with anyio.move_on_after(_REAP_SECONDS, shield=True):
            await anyio.wait_readable(self._end)
            self._popen.wait()
            # bubblewrap may end a little before the first process of the sandbox, which ends last inside.
            if self._pidfd is not None:
                await anyio.wait_readable(self._pidfd)
        for end in self._open_ends():
            os.close(end)
        for stream in (self._popen.stdout, self._popen.stderr):
            if stream is not None:
                stream.close()

    def _open_ends(self) -> Iterator[int]:
        yield from (self._requests, self._replies, self._info, self._go, self._end)
        if self._pidfd is not None:
            yield self._pidfd

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

    def _collect_rest(self, printed: Printed) -> None:
        """Take what is in the pipes already: it was printed before the reply was sent."""
        for pipe, output in ((self._stdout, printed.stdout), (self._stderr, printed.stderr)):
            while not printed.flooded:
                try:
                    part = os.read(pipe, _CHUNK)
                except BlockingIOError:
                    break
                if not part:
                    break
                output.add(part)


async def _read(pipe: int, limit: int) -> bytes:
    """Return what is next in a pipe, as soon as there is something; nothing at its end."""
    while True:
        await anyio.wait_readable(pipe)
        try:
            return os.read(pipe, limit)
        except BlockingIOError:
            continue
