"""What a sandboxed Python session is: code in, bounded output out. Knows no way of building one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from agentkit.errors import ConfigurationError, ToolError

_MIB: Final = 2**20
_MAX_DETAIL_CHARS: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """What a session may use.

    `seconds` is the wall clock of one call; `cpu_seconds` is what the session may burn in all. `memory_bytes` bounds
    the address space, `disk_bytes` and `files` the work folder, which is memory too. `output_chars` holds for each of
    stdout and stderr, `attachment_bytes` for all files of one call together.
    """

    seconds: float = 30.0
    cpu_seconds: int = 300
    memory_bytes: int = 1024 * _MIB
    disk_bytes: int = 64 * _MIB
    files: int = 1000
    threads: int = 32
    output_chars: int = 8_000
    attachments: int = 8
    attachment_bytes: int = 8 * _MIB

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf:
            raise ConfigurationError(f"seconds must be above 0 and finite, got {self.seconds!r}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ConfigurationError(f"{name} must be an integer of at least {least}, got {value!r}")


# Below these Python itself does not start, or nothing could ever be written.
_LEAST: Final = {
    "cpu_seconds": 1,
    "memory_bytes": 64 * _MIB,
    "disk_bytes": _MIB,
    "files": 16,
    "threads": 1,
    "output_chars": 1,
    "attachments": 0,
    "attachment_bytes": 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file that code left in its work folder. Name and content are the code's: untrusted.

    The name is one path component of letters, digits, `.`, `_` and `-`, and begins with neither `.` nor `-`.
    """

    name: str
    content: bytes


class Ending(StrEnum):
    """How a call ended. After anything but `COMPLETED` the session is over, with its variables and files."""

    COMPLETED = "completed"
    TIMEOUT = "timeout"
    KILLED = "killed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What came of one call: untrusted, and bounded by the limits. An exception of the code is in `stderr`.

    `notes` say, in the SDK's words, what was cut or left out, and why a session was killed.
    """

    ending: Ending
    stdout: str = ""
    stderr: str = ""
    attachments: tuple[Attachment, ...] = ()
    notes: tuple[str, ...] = ()


class NotStartedError(ToolError):
    """A sandbox could not be started, and no code has run. `detail` is for people: it may name paths of the host."""

    def __init__(self, detail: str) -> None:
        self.detail = " ".join(detail.split())[-_MAX_DETAIL_CHARS:]
        super().__init__("the sandbox could not be started")


class SandboxSession(Protocol):
    """One Python session. Variables live from call to call; calls come one at a time."""

    async def run(self, code: str) -> Execution:
        """Run code and return what came of it, whatever the code did.

        When cancelled, the work is stopped and the session is over.

        Raises:
            NotStartedError: if the sandbox could not be started; the code has not run then.
        """

    async def close(self) -> None:
        """Stop everything; no process and no file is left. May be called twice."""


class Sandbox(Protocol):
    """A way of running code that works on this machine."""

    name: str
    """What it is, with its version, for people."""

    description: str
    """What a model should know about the Python inside."""

    def open(self, limits: SandboxLimits) -> SandboxSession:
        """Return a new session; its process starts with the first call."""
