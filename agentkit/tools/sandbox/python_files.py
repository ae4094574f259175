"""Which files of this machine make up its Python: what a sandbox shows of the host, read-only, and nothing else."""

from __future__ import annotations

import os
import stat
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agentkit.errors import ConfigurationError

PYTHON: Final = "/opt/python/bin/python3"
LIBRARIES: Final = "/opt/python/lib"

_VERSION: Final = f"python{sys.version_info.major}.{sys.version_info.minor}"
STDLIB: Final = f"{LIBRARIES}/{_VERSION}"
_READABLE_BY_OTHERS: Final = stat.S_IROTH | stat.S_IXOTH
_SYSTEM_FOLDERS: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")


def python_files() -> Iterator[tuple[str, str]]:
    """Yield the interpreter, its library, and the shared object that it may be built as: source, place inside."""
    yield str(Path(sys.executable).resolve()), PYTHON
    yield sysconfig.get_path("stdlib"), STDLIB
    # A distribution's own Python has it among the system's libraries instead, or has none.
    for shared in Path(sys.base_prefix, "lib").glob(f"lib{_VERSION}*.so*"):
        yield str(shared), f"{LIBRARIES}/{shared.name}"


def system_libraries() -> Iterator[tuple[str, str]]:
    """Yield folders of shared libraries and the dynamic loader, each at the place where it is on the host.

    Where the distribution sorts libraries by architecture, only this one's folder is shown, not all of `/usr/lib`.
    """
    architecture = sysconfig.get_config_var("MULTIARCH")
    for folder in map(Path, _SYSTEM_FOLDERS):
        if not folder.is_dir() or folder.is_symlink():
            continue
        sorted_by_architecture = architecture and (folder / architecture).is_dir()
        if not sorted_by_architecture:
            if folder != Path("/usr/lib") or not architecture:
                yield str(folder), str(folder)
            continue
        yield str(folder / architecture), str(folder / architecture)
        for loader in folder.glob("ld-linux*.so*"):
            yield str(loader), str(loader)


def system_links() -> Iterator[tuple[str, str]]:
    """Yield the system folders that are links on the host: what they point to, and the link."""
    for folder in map(Path, _SYSTEM_FOLDERS):
        if folder.is_symlink():
            yield str(folder.readlink()), str(folder)


def packages_folder(given: str | Path) -> Path:
    """Return the packages of a virtual environment, or the folder itself if it is none.

    Raises:
        ConfigurationError: if there are none for this version of Python.
    """
    folder = Path(given).resolve()
    if (folder / "pyvenv.cfg").is_file():
        folder = folder / "lib" / _VERSION / "site-packages"
    if not folder.is_dir():
        raise ConfigurationError(
            f"there are no packages at {folder}; name a virtual environment of {_VERSION}, or a folder of packages"
        )
    if os.geteuid() == 0 and folder.stat().st_mode & _READABLE_BY_OTHERS != _READABLE_BY_OTHERS:
        # Inside, root's files are somebody else's.
        raise ConfigurationError(
            f"the packages at {folder} can be read by root alone; chmod -R o+rX {folder}"
        )
    return folder
