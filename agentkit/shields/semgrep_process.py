"""One run of semgrep over files in a folder of its own: what it found, what it read, what it could not read.

Knows semgrep's command line and its JSON; not where code comes from. A run sees no home folder, no registry and no
settings, is killed with all its children when it is cancelled, and what it writes beyond its answer is thrown away.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
from anyio.abc import Process

from agentkit.errors import ConfigurationError, ShieldError
from agentkit.shields.code_shield.rules import Issue, Severity

# No limits of semgrep's own: what it would leave out without a word. The policy's timeout ends a run.
_OPTIONS: Final = (
    "--metrics", "off", "--disable-version-check", "--disable-nosem", "--no-git-ignore", "--no-rewrite-rule-ids",
    "--timeout", "0", "--max-target-bytes", "0", "--jobs", "1", "--json", "--quiet",
)  # fmt: skip
# Nothing listens there: a request that semgrep might make fails at once.
_NO_NETWORK: Final = "http://127.0.0.1:9"
_LONGEST_ANSWER: Final = 16 << 20
_VERSION_SECONDS: Final = 60.0
_CWE: Final = re.compile(r"CWE-\d+")
_SEVERITIES: Final = {
    "INFO": Severity.INFO,
    "LOW": Severity.INFO,
    "WARNING": Severity.WARNING,
    "MEDIUM": Severity.WARNING,
}
_UNREADABLE: Final = ("Syntax error", "PartialParsing", "Lexical error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What semgrep said: issues by file, the files that it read, and those that it could not read to their end."""

    issues: Mapping[str, tuple[Issue, ...]]
    read: frozenset[str]
    unreadable: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SemgrepProcess:
    """A semgrep program, the rules that it is given, and the version that it must have."""

    executable: Path
    rules: Path
    version: str

    async def check_version(self) -> None:
        """Find the program and the rules.

        Raises:
            ConfigurationError: if one is not there, or the program is of another version.
        """
        if not self.rules.exists():
            raise ConfigurationError(
                f"semgrep: there are no rules at {self.rules}; name a file or a folder (no registry is asked)"
            )
        if not os.access(self.executable, os.X_OK) or self.executable.is_dir():
            raise ConfigurationError(
                f"semgrep: {self.executable} is no program; install 'agentkit[semgrep]', or name with executable: "
                f"the semgrep=={self.version} of another environment"
            )
        try:
            with anyio.fail_after(_VERSION_SECONDS):
                found = (await self._run(("--version",), {})).decode("utf-8", "replace").strip()
        except (ShieldError, TimeoutError) as exc:
            raise ConfigurationError(f"semgrep: {self.executable} did not say its version: {exc}") from exc
        if found != self.version:
            raise ConfigurationError(
                f"semgrep: {self.executable} is version {found[:40]!r}, the policy wants {self.version}"
            )

    async def scan(self, files: Mapping[str, str]) -> Report:
        """Read files by name and content.

        Raises:
            ShieldError: if semgrep fails, or answers anything but what it read and found.
        """
        rules = str(await anyio.to_thread.run_sync(self.rules.resolve))
        answer = await self._run(("scan", "--config", rules, *_OPTIONS, *files), files)
        try:
            return _report(json.loads(answer), set(files))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise ShieldError(f"semgrep answered {len(answer)} bytes that are no report") from exc

    async def _run(self, arguments: tuple[str, ...], files: Mapping[str, str]) -> bytes:
        """Run the program in a new folder that holds the files; return what it writes to stdout."""
        with tempfile.TemporaryDirectory(prefix="agentkit-semgrep-") as folder:
            code = Path(folder) / "code"
            await anyio.to_thread.run_sync(_write, code, files)
            program = str(await anyio.to_thread.run_sync(self.executable.absolute))
            process = await anyio.open_process(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=code,
                env=_environment(Path(program), folder),
                start_new_session=True,
            )
            try:
                return await _answer(process)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with anyio.CancelScope(shield=True):
                    await process.aclose()


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8", errors="replace", newline="")


def _environment(program: Path, folder: str) -> dict[str, str]:
    return {
        "PATH": f"{program.parent}:/usr/bin:/bin",
        "HOME": folder,
        "TMPDIR": folder,
        "LC_ALL": "C.UTF-8",
        "SEMGREP_SEND_METRICS": "off",
        "SEMGREP_ENABLE_VERSION_CHECK": "0",
        "HTTP_PROXY": _NO_NETWORK,
        "HTTPS_PROXY": _NO_NETWORK,
    }


async def _answer(process: Process) -> bytes:
    answer = bytearray()
    if process.stdout is not None:
        async for chunk in process.stdout:
            answer += chunk
            if len(answer) > _LONGEST_ANSWER:
                raise ShieldError(f"semgrep answered more than {_LONGEST_ANSWER} bytes")
    code = await process.wait()
    if code != 0:
        raise ShieldError(f"semgrep ended with code {code}; run `semgrep --validate --config` on the rules")
    return bytes(answer)


def _report(answer: dict[str, Any], names: set[str]) -> Report:
    unreadable = set()
    for error in answer["errors"]:
        kind = error["type"] if isinstance(error["type"], str) else error["type"][0]
        if kind not in _UNREADABLE or error["path"] not in names:
            raise ShieldError(f"semgrep failed: {str(kind)[:60]}")
        unreadable.add(error["path"])
    issues: dict[str, tuple[Issue, ...]] = {}
    for result in answer["results"]:
        name = result["path"]
        if name not in names:
            raise ShieldError("semgrep found something in a file that it was not given")
        issues[name] = (*issues.get(name, ()), _issue(result))
    read = frozenset(answer["paths"]["scanned"]) & names - unreadable
    return Report(issues=issues, read=read, unreadable=frozenset(unreadable))


def _issue(result: dict[str, Any]) -> Issue:
    """Return an issue in words of ours: a rule's own message may quote the code."""
    extra = result["extra"]
    named = _CWE.search(str(extra.get("metadata", {}).get("cwe", "")))
    return Issue(
        rule=str(result["check_id"]).rpartition(".")[2],
        cwe=named[0] if named else "CWE-710",  # a coding standard is not kept
        severity=_SEVERITIES.get(extra["severity"], Severity.ERROR),
        line=int(result["start"]["line"]),
        message="the code breaks a rule of semgrep",
        hint="see the rule",
    )
