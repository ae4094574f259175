"""Which sandbox there is on this machine. There may be none; the bare host is never one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Literal

from agentkit.errors import ConfigurationError
from agentkit.tools.sandbox.base import Sandbox
from agentkit.tools.sandbox.bubblewrap import Bubblewrap, bubblewrap_problem
from agentkit.tools.sandbox.monty import Monty, monty_problem, monty_version

SandboxName = Literal["auto", "bubblewrap", "monty"]


def choose_sandbox(name: SandboxName, *, packages: str | Path | None) -> Sandbox:
    """Return the sandbox of that name; `auto` is bubblewrap where it works, and Monty elsewhere.

    Raises:
        ConfigurationError: if there is no such sandbox here, saying why and what to install.
    """
    if name not in ("auto", "bubblewrap", "monty"):
        raise ConfigurationError(f"sandbox must be auto, bubblewrap or monty, got {name!r}")
    if name == "bubblewrap" or (name == "auto" and bubblewrap_problem() is None):
        return Bubblewrap(packages=packages)
    if packages is not None:
        reason = bubblewrap_problem() if name == "auto" else "Monty knows no packages"
        raise ConfigurationError(f"packages need the sandbox bubblewrap: {reason}")
    if name == "auto" and (problem := no_sandbox()) is not None:
        raise ConfigurationError(
            f"there is no sandbox to run code in, and it never runs outside one: {problem}"
        )
    return Monty()


def no_sandbox() -> str | None:
    """Return why there is no sandbox at all here, or None."""
    problems = (bubblewrap_problem(), monty_problem())
    return None if None in problems else "; ".join(problem for problem in problems if problem)


def describe_sandbox() -> str:
    """Return for people which sandbox `auto` takes; only where there is one."""
    if bubblewrap_problem() is None:
        bwrap = shutil.which("bwrap") or "bwrap"
        told = subprocess.run([bwrap, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
        return f"{told.stdout.strip() or 'bubblewrap'}: namespaces, limits and a filter of system calls"
    return f"pydantic-monty {monty_version()}: a part of Python, without files and packages ({bubblewrap_problem()})"
