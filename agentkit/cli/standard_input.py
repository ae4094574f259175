"""Reads stdin: whole, or line by line as it arrives. Knows bytes and UTF-8, not what the text means."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from typing import Final

import anyio

from agentkit.cli.output import write_note
from agentkit.errors import ConfigurationError

STDIN: Final = 0
_CHUNK: Final = 65536


def read_stdin() -> str:
    """Read all of stdin.

    Raises:
        ConfigurationError: if it is closed, or not UTF-8.
    """
    _check_open()
    if os.isatty(STDIN):
        write_note("agentkit: reading from the terminal; end with Ctrl-D on a line of its own")
    chunks = []
    while chunk := os.read(STDIN, _CHUNK):
        chunks.append(chunk)
    return _decoded(b"".join(chunks), "stdin")


class StdinLines:
    """The lines of stdin, each as soon as it is there; waiting for one can be cancelled.

    `number` counts the lines that were read, `num_bytes` what they and their ends take.
    """

    def __init__(self) -> None:
        _check_open()
        self._pending = bytearray()
        self._ended = False
        self.number = 0
        self.num_bytes = 0

    async def read(self) -> str | None:
        """Return the next line without its end; None when there is no more.

        Raises:
            ConfigurationError: if the line is not UTF-8.
        """
        searched = 0
        while (end := self._pending.find(b"\n", searched)) < 0 and not self._ended:
            searched = len(self._pending)
            self._take(await _chunk())
        if end < 0 and not self._pending:
            return None
        cut = len(self._pending) if end < 0 else end + 1
        line = bytes(self._pending[:cut])
        del self._pending[:cut]
        self.number += 1
        self.num_bytes += cut
        if self.number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")  # the mark that some editors begin a file with
        return _decoded(line, f"line {self.number} of stdin").rstrip("\r\n")

    def has_more_now(self) -> bool:
        """Whether reading on would not have to wait: there is a line, a beginning of one, or the end."""
        return b"\n" in self._pending or self._ended or bool(select.select([STDIN], [], [], 0)[0])

    def drop_typed_ahead(self) -> None:
        """Forget what was typed on a terminal before it was asked for. A pipe keeps what it holds."""
        if not os.isatty(STDIN):
            return
        import termios  # a terminal is there, so this module is

        termios.tcflush(STDIN, termios.TCIFLUSH)
        self._pending.clear()

    def _take(self, chunk: bytes) -> None:
        self._ended = not chunk
        self._pending += chunk


async def _chunk() -> bytes:
    with contextlib.suppress(PermissionError):  # epoll refuses a file: reading that never has to wait
        await anyio.wait_readable(STDIN)
    return os.read(STDIN, _CHUNK)


def _check_open() -> None:
    if sys.__stdin__ is None:
        raise ConfigurationError("stdin is closed; pipe the input into the command")


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{name} is not UTF-8 (byte {error.start}); convert it first") from None
