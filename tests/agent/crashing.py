"""Kills the process of a turn and lets others go on with it; says what was left. Run as a module it is the forge.

The forge has no threads and no event loop: it forks a process for each life, so that a life costs no start of Python.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from typing import Self

import anyio

from agentkit import SessionBusyError
from tests.agent.crash_turn import Life, live

_BUSY = 75


class Forge:
    """A process that forks those that are to be killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.agent.crashing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def run(self, life: Life) -> bool:
        """Run a life; return whether it came to its end, rather than being killed."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(asdict(life)) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        assert code in (0, -signal.SIGKILL), f"a life ended with {code}; see what it printed"
        return code == 0


def main() -> None:
    """Read lives, one a line, and print how each ended."""
    with suppress(ModuleNotFoundError):
        import_module("agentkit.memory.postgres")
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(live, Life(folder=folder, store="memory://", script=0))  # imports what it needs, once
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join()  # the loop has told it to end
    for line in sys.stdin:
        print(_run(Life(**json.loads(line))), flush=True)


def _run(life: Life) -> int:
    """Run a life. A server may need a moment to see that the process before is dead; the system knows at once."""
    deadline = time.monotonic() + 10
    while True:
        code = _fork(life)
        if code != _BUSY or life.store.startswith("sqlite") or time.monotonic() > deadline:
            return code
        time.sleep(0.02)


def _fork(life: Life) -> int:
    child = os.fork()
    if child == 0:
        _live_and_exit(life)
    if life.kill_after is not None:
        time.sleep(life.kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _live_and_exit(life: Life) -> None:
    try:
        anyio.run(live, life)
    except SessionBusyError:
        os._exit(_BUSY)
    except BaseException:  # noqa: BLE001  # the fork must not go on as the forge
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
