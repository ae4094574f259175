"""vLLM as servers of our own, on this machine: `python -m benchmarks.vllm_server COMMAND` runs a command beside one.

The command finds it at AGENTKIT_VLLM_URL. `make bench-peers` or `make test-vllm` installs vLLM; it serves the embedded
model in fp32, which takes 3.5 GB of memory and about a minute to start.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from agentkit.inference.catalog import EMBEDDED_MODEL, resolve
from benchmarks.engines.lineup import PEERS, WEIGHTS, reason_file
from benchmarks.engines.weights import once, write_safetensors, write_served

MODEL: Final = "smollm2"
"""What the servers call the model."""

URL_VARIABLE: Final = "AGENTKIT_VLLM_URL"

_OPTIONS: Final = (
    *("--host", "127.0.0.1", "--served-model-name", MODEL),
    *("--dtype", "float32", "--max-model-len", "4096", "--enforce-eager", "--block-size", "32"),
    *("--structured-outputs-config", '{"backend": "guidance"}'),
    *("--scheduling-policy", "priority", "--enable-prompt-tokens-details"),
)
_SETTINGS: Final = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "TORCHDYNAMO_DISABLE": "1",
}


class VLLMServer:
    """A server at a port, started and ended with everything that it starts."""

    def __init__(self, port: int, folder: Path, *options: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / f"vllm-{port}.log"
        self._command = [str(PEERS / "vllm" / "bin" / "vllm"), "serve", str(served_model())]
        self._command += [*_OPTIONS, "--port", str(port), *options]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to start; `wait` until it serves."""
        self.kill()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=os.environ | _SETTINGS,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # after a kill its engine would live on: the whole group is ended
            )

    def wait(self, *, seconds: float = 300.0) -> None:
        """Wait until it serves.

        Raises:
            RuntimeError: with the end of its log, if it does not in time.
        """
        deadline = time.monotonic() + seconds
        while not self._is_up():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"vLLM did not start:\n{self.log.read_text(errors='replace')[-2_000:]}")
            time.sleep(0.5)

    def ensure(self) -> None:
        """Start it where it does not run, and wait until it serves."""
        if self._process is None:
            self.start()
        self.wait()

    def kill(self) -> None:
        """Kill it, as the system does when memory runs out."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _is_up(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5.0).is_success
        except httpx.TransportError:
            return False


def why_not() -> str | None:
    """Return why vLLM cannot run here, or None."""
    reason = reason_file("vllm")
    if reason.exists():
        return f"vLLM: {reason.read_text()}"
    if not (PEERS / "vllm" / "bin" / "vllm").exists():
        return "vLLM: not installed (make test-vllm)"
    return None


def served_model() -> Path:
    """Return the folder of the embedded model as vLLM reads it, written first where it is missing."""
    source = resolve(EMBEDDED_MODEL).path
    weights = once(WEIGHTS / "safetensors", lambda new: write_safetensors(source, new))
    return once(WEIGHTS / "served", lambda new: write_served(source, weights, new))


@contextmanager
def running(count: int, *options: str) -> Iterator[list[VLLMServer]]:
    """Run servers while the block runs."""
    with tempfile.TemporaryDirectory(prefix="agentkit-vllm-") as folder:
        servers = [VLLMServer(_free_port(), Path(folder), *options) for _ in range(count)]
        try:
            for server in servers:
                server.start()
            for server in servers:
                server.wait()
            yield servers
        finally:
            for server in servers:
                server.kill()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main() -> int:
    """Run the command of the command line beside a server; say why where there is none."""
    reason = why_not()
    if reason is not None:
        print(f"skipped: {reason}")
        return 0
    with running(1) as servers:
        environment = os.environ | {URL_VARIABLE: servers[0].url}
        return subprocess.run(sys.argv[1:], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
