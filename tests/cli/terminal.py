"""A command on a terminal of its own, typed at and read as a person does."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

AGENTKIT: Final = (sys.executable, "-m", "agentkit")
SECONDS: Final = 120.0

_ON_TERMINAL: Final = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, text: str) -> str:
        """Return what was shown up to a text, and forget it."""
        deadline = time.monotonic() + SECONDS
        while text not in self._seen and time.monotonic() < deadline:
            if select.select([self._descriptor], [], [], 0.1)[0]:
                self._seen += os.read(self._descriptor, 4096).decode()
        shown, found, self._seen = self._seen.partition(text)
        assert found, shown
        return shown + found


@contextmanager
def on_terminal(folder: Path, *arguments: str) -> Iterator[Terminal]:
    """Run a command in a folder, on a terminal; leaving the block waits for its end."""
    ours, theirs = pty.openpty()
    command = [*AGENTKIT, *arguments]
    # A session whose terminal this is: Ctrl-C then comes as a signal, as from a keyboard.
    with subprocess.Popen(
        [sys.executable, "-c", _ON_TERMINAL, *command],
        cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "dumb"},
        start_new_session=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        try:
            yield Terminal(process, ours)
            process.wait(SECONDS)
        finally:
            process.kill()
            os.close(ours)
