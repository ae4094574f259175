"""A peer in a process of its own, which is stopped while others are measured. Knows no engine."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.engines.lineup import ROOT, Contender
from benchmarks.peers.protocol import Answer, Conversation

ANSWER_SECONDS = 1_800
EXIT_SECONDS = 20
KV_GIGABYTES = "1"  # agentkit's default, which the other engines with a pool get too


class PeerError(Exception):
    """The peer cannot go on; says why."""


class PeerProcess:
    """Starts a peer and talks to it; its whole process group is stopped between two questions."""

    def __init__(self, contender: Contender, model: Path | str, *, threads: int) -> None:
        """Start it and wait until it has loaded its model.

        Raises:
            PeerError: if it cannot be started or loaded.
        """
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the process
        command = [str(contender.python), "-m", f"benchmarks.peers.{contender.module}"]
        settings = ["--model", str(model), "--precision", contender.precision, "--threads", str(threads)]
        self._process = subprocess.Popen(
            [*command, *settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env=_environment(threads),
            start_new_session=True,
        )
        try:
            hello = self._receive()
        except BaseException:
            self.close()
            raise
        self.versions: dict[str, str] = hello["versions"]
        self._signal(signal.SIGSTOP)

    def converse(self, conversation: Conversation) -> Answer:
        """Have it hold a conversation.

        Raises:
            PeerError: if it fails, dies or takes longer than `ANSWER_SECONDS`.
        """
        self._signal(signal.SIGCONT)
        with suppress(BrokenPipeError):  # it has died, as `_receive` will say
            print(json.dumps(asdict(conversation)), file=self._process.stdin, flush=True)
        answer = Answer.from_json(self._receive())
        self._signal(signal.SIGSTOP)
        return answer

    def close(self) -> None:
        """End the process and whatever it started; closing twice is allowed."""
        if self._log.closed:
            return
        self._signal(signal.SIGCONT)
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_SECONDS)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def _receive(self) -> dict[str, Any]:
        stdout = self._process.stdout
        if stdout is None or not select.select([stdout], [], [], ANSWER_SECONDS)[0]:
            raise PeerError(f"no answer within {ANSWER_SECONDS} s")
        line = stdout.readline()
        if not line:
            raise PeerError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"].splitlines()[0])
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._log.seek(0)
        said = self._log.read().strip().splitlines() or ["nothing"]
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"ended with {how}; the last it said: {said[-1]}"

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def _environment(threads: int) -> dict[str, str]:
    return os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TORCHDYNAMO_DISABLE": "1",
        "VLLM_CPU_KVCACHE_SPACE": KV_GIGABYTES,
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
