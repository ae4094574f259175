"""Which MCP servers an application uses, and what it grants them. Knows no protocol and starts nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from agentkit.errors import ConfigurationError
from agentkit.tools.base import Effect

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9]*([_-][a-zA-Z0-9]+)*")
_MAX_NAME_CHARS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    """What is said of every server.

    `name` begins the names of its tools: `NAME__TOOL`. `tools` are globs over the server's own names; the others are
    not offered to the model. `reads` are globs of the tools that the application knows to change nothing: what a
    server says about that itself is not believed. `timeout` is how many seconds a call may take, `connect_timeout`
    how many the server may take to start and to list its tools. `pin` is the digest that `MCPTools.digests` gave when
    a person looked at the tools: with another offer the server is not used.
    """

    name: str
    tools: Sequence[str] = ("*",)
    reads: Sequence[str] = ()
    timeout: float = 30.0
    connect_timeout: float = 20.0
    pin: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.name) > _MAX_NAME_CHARS:
            raise ConfigurationError(
                f"MCP server name {self.name!r} must be 1 to {_MAX_NAME_CHARS} letters and digits, parted by single "
                "'_' or '-'"
            )
        if isinstance(self.tools, str) or isinstance(self.reads, str):
            raise ConfigurationError(
                f"MCP server {self.name}: tools and reads are lists of globs, not one text"
            )
        for option, seconds in (("timeout", self.timeout), ("connect_timeout", self.connect_timeout)):
            if not 0 < seconds < math.inf:
                raise ConfigurationError(
                    f"MCP server {self.name}: {option} must be a number of seconds above 0, got {seconds!r}"
                )

    def offers(self, tool_name: str) -> bool:
        """Whether the model may know of a tool of the server."""
        return any(fnmatchcase(tool_name, glob) for glob in self.tools)

    def effect_of(self, tool_name: str) -> Effect:
        """What a call of a tool is taken to change."""
        reads = any(fnmatchcase(tool_name, glob) for glob in self.reads)
        return Effect.READ if reads else Effect.EXTERNAL


@dataclass(frozen=True, slots=True, kw_only=True)
class MCPStdio(_Server):
    """A server that runs as a process of ours, for as long as the block of `mcp_tools`.

    Of our environment it sees HOME, LOGNAME, PATH, SHELL, TERM and USER, and what `env` adds: secrets that it
    needs have to be named. What it writes to standard error goes to ours.
    """

    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | Path | None = None

    def __post_init__(self) -> None:
        _Server.__post_init__(self)
        if isinstance(self.command, str) or not self.command:
            raise ConfigurationError(
                f'MCP server {self.name}: command is a list of the program and its arguments, such as ["npx", "server"]'
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class MCPHttp(_Server):
    """A server at an address, by streamable HTTP. `headers` are for its authentication, and are shown nowhere."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        _Server.__post_init__(self)
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(
                f"MCP server {self.name}: url must begin with https:// or http:// and a host"
            )
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise ConfigurationError(
                f"MCP server {self.name}: http:// is for this machine alone, anybody could change what another sends; "
                "use https://"
            )


MCPServer = MCPStdio | MCPHttp


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
