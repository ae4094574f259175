"""A sandbox made with bubblewrap: the command line that builds it, and whether it can be built here.

Knows no pipes and no Python sessions.
"""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Final

import anyio

from agentkit.errors import ConfigurationError
from agentkit.tools.sandbox import inside
from agentkit.tools.sandbox.base import NotStartedError, SandboxLimits
from agentkit.tools.sandbox.bubblewrap_session import BubblewrapSession
from agentkit.tools.sandbox.python_files import (
    LIBRARIES,
    PYTHON,
    STDLIB,
    packages_folder,
    python_files,
    system_libraries,
    system_links,
)

_INSIDE: Final = "/opt/inside"
_START: Final = (
    "import sys; sys.path.insert(0, '/opt'); from inside.worker import main; sys.path.pop(0); main()"
)
# Namespaces of its own for users, processes, mounts, network, IPC, host name and cgroups; no terminal.
_ISOLATION: Final = ("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--clearenv")
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_ENVIRONMENT: Final = {
    "HOME": "/work",
    "TMPDIR": "/tmp",  # noqa: S108  # inside, a link into the work folder
    "LANG": "C.UTF-8",
    "LD_LIBRARY_PATH": LIBRARIES,
    "MPLBACKEND": "Agg",
    "MPLCONFIGDIR": "/tmp/matplotlib",  # noqa: S108
    # Arenas and pools of one process for every core would use up its address space.
    "MALLOC_ARENA_MAX": "2",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
# What the worker needs until it has confined itself: to bound its work folder, and to become another user.
_CAPABILITIES: Final = ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID")


class Bubblewrap:
    """Sandboxes on Linux namespaces. `packages` is a virtual environment, or a folder of packages, shown read-only."""

    name = "bubblewrap"
    description = (
        "The session has the standard library, a work folder whose files are handed to the user, "
        "no network and no other files."
    )

    def __init__(self, *, packages: str | Path | None = None) -> None:
        """Find out whether a sandbox can be built here.

        Raises:
            ConfigurationError: if it cannot, saying why.
        """
        problem = bubblewrap_problem()
        if problem is not None:
            raise ConfigurationError(problem)
        self._packages = packages_folder(packages) if packages is not None else None

    def open(self, limits: SandboxLimits) -> BubblewrapSession:
        """Return a new session; its process starts with the first call."""
        return _session(limits, self._packages)


@cache
def bubblewrap_problem() -> str | None:
    """Return why no sandbox can be built here, or None: builds one and runs code in it, once."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed: there is no bwrap; install your system's package bubblewrap"
    with ThreadPoolExecutor(max_workers=1) as pool:  # an event loop may be running in this thread
        return pool.submit(anyio.run, _try_one).result()


async def _try_one() -> str | None:
    session = _session(SandboxLimits(), packages=None)
    try:
        execution = await session.run("1 + 1")
    except NotStartedError as error:
        return f"bubblewrap cannot build a sandbox here: {error.detail}"
    finally:
        await session.close()
    return None if execution.stdout == "2\n" else "bubblewrap builds a sandbox here, but Python fails in it"


def _session(limits: SandboxLimits, packages: Path | None) -> BubblewrapSession:
    def command(settings: dict[str, object]) -> list[str]:
        start = json.dumps({**settings, "packages": packages is not None})
        return [*_arguments(limits, packages), PYTHON, "-I", "-S", "-B", "-X", "utf8", "-c", _START, start]

    return BubblewrapSession(command=command, limits=limits)


def _arguments(limits: SandboxLimits, packages: Path | None) -> Iterator[str]:
    yield from (shutil.which("bwrap") or "bwrap", *_ISOLATION)
    # Root inside until the worker becomes another user, where the host is root; that user from the start elsewhere.
    user = "0" if os.geteuid() == 0 else "1000"
    yield from ("--uid", user, "--gid", user, "--hostname", "sandbox", "--cap-drop", "ALL")
    for capability in _CAPABILITIES:
        yield from ("--cap-add", capability)
    for name, value in _ENVIRONMENT.items():
        yield from ("--setenv", name, value)
    yield from _files(packages)
    yield from ("--size", str(limits.disk_bytes), "--perms", "1777", "--tmpfs", "/work")
    yield from ("--symlink", "work/.tmp", "/tmp", "--chdir", "/work", "--remount-ro", "/")  # noqa: S108


def _files(packages: Path | None) -> Iterator[str]:
    for folder in ("/opt", "/opt/python", "/opt/python/bin", LIBRARIES, "/dev", "/usr", "/usr/lib"):
        yield from ("--perms", "0755", "--dir", folder)
    for source, place in (*system_libraries(), *python_files(), (str(_inside_folder()), _INSIDE)):
        yield from ("--ro-bind", source, place)
    for target, link in system_links():
        yield from ("--symlink", target, link)
    for device in _DEVICES:
        yield from ("--dev-bind", device, device)
    for folder in (f"{STDLIB}/{name}" for name in ("site-packages", "dist-packages")):
        # Packages that the host's Python happens to have are none of the sandbox's business.
        if Path(sysconfig.get_path("stdlib"), Path(folder).name).is_dir():
            yield from ("--size", "4096", "--perms", "0555", "--tmpfs", folder, "--remount-ro", folder)
    if packages is not None:
        yield from ("--ro-bind", str(packages), "/opt/packages")


def _inside_folder() -> Path:
    return Path(inside.__path__[0])
