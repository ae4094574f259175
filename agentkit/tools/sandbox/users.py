"""Who the code in a sandbox is on the host: never root, because no limit on processes binds root."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from agentkit.tools.sandbox.inside.confine import USER

_NOBODY: Final = 65534


def spare_id() -> int | None:
    """Return an id of the host that the code shall have; None where this process is not root and has but its own."""
    if os.geteuid() != 0:
        return None
    mapped = [
        range(int(first), int(first) + int(count))
        for first, _, count in (line.split() for line in Path("/proc/self/uid_map").read_text().splitlines())
    ]
    if any(_NOBODY in ids for ids in mapped):
        return _NOBODY
    # Root of a container with few ids is somebody else on the host already.
    return next((ids[-1] for ids in mapped if ids[-1] != 0), None)


def map_users(pid: int, spare: int) -> None:
    """Give the user namespace of a process two users, and two groups: root, and the sandbox's as `spare`.

    Raises:
        OSError: if the kernel refuses.
    """
    for kind in ("uid", "gid"):
        Path(f"/proc/{pid}/{kind}_map").write_text(f"0 0 1\n{USER} {spare} 1\n")
