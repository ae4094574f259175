"""A Python session that takes code and gives what came of it, as frames over two pipes: JSON, then bytes of files.

It shares its process with the code that it runs, which may do to it what it likes: whoever reads a frame believes none
of it. What code prints goes to the process's own stdout and stderr, which the host reads.
"""

import ast
import contextlib
import json
import linecache
import os
import stat
import struct
import sys
import traceback
import types
from typing import Any

from .confine import WORK, confine

PACKAGES = "/opt/packages"


def main() -> None:
    """Confine the process, say so, then serve requests until the host hangs up."""
    settings = json.loads(sys.argv[1])
    _close_all_but({0, 1, 2, settings["requests"], settings["replies"]})
    confine(settings["limits"])
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    if settings["packages"]:
        sys.path.append(PACKAGES)
    session = _Session()
    folder = _Folder(
        limit=settings["limits"]["attachments"], limit_bytes=settings["limits"]["attachment_bytes"]
    )
    _send(settings["replies"], {"id": "ready", "files": [], "notes": []}, [])
    while (request := _receive(settings["requests"])) is not None:
        folder.remember()
        session.run(request["code"])
        files, notes = folder.changes()
        sizes = [{"name": name, "size": len(content)} for name, content in files]
        reply = {"id": request["id"], "files": sizes, "notes": notes}
        _send(settings["replies"], reply, [content for _, content in files])


class _Session:
    """The variables of a session, and how code runs among them."""

    def __init__(self) -> None:
        self._module = types.ModuleType("__main__")
        self._calls = 0
        self._streams = sys.stdout, sys.stderr
        sys.modules["__main__"] = self._module

    def run(self, code: str) -> None:
        """Run code; the value of a last expression is printed, and so is what it raised."""
        self._calls += 1
        name = f"<call {self._calls}>"
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        try:
            self._execute(code, name)
            _save_figures()
        except BaseException as error:  # noqa: BLE001  # a session outlives what code raises, SystemExit too
            self._show(error, name)
        finally:
            for stream in (sys.stdout, sys.stderr, *self._streams):
                _flush(stream)
            sys.stdout, sys.stderr = self._streams

    def _execute(self, code: str, name: str) -> None:
        tree = ast.parse(code, name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        variables = self._module.__dict__
        exec(compile(tree, name, "exec"), variables)  # noqa: S102  # what the sandbox is for
        if isinstance(last, ast.Expr):
            expression = ast.Expression(last.value)
            sys.displayhook(eval(compile(expression, name, "eval"), variables))  # noqa: S307  # see above

    def _show(self, error: BaseException, name: str) -> None:
        if isinstance(error, SystemExit) and error.code in (None, 0):
            return
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != name:
            trace = trace.tb_next
        try:
            text = "".join(traceback.format_exception(type(error), error, trace))
        except BaseException as second:  # noqa: BLE001  # an exception of the code's own, or no memory is left
            text = f"{type(error).__name__} (showing it failed: {type(second).__name__})\n"
        self._streams[1].write(text)


class _Folder:
    """The work folder: which of its files a call has made or changed. Folders below it are not looked at."""

    def __init__(self, *, limit: int, limit_bytes: int) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._before: dict[str, tuple[int, int, int]] = {}

    def remember(self) -> None:
        self._before = {name: _state(status) for name, status in _regular_files()}

    def changes(self) -> tuple[list[tuple[str, bytes]], list[str]]:
        """Return the changed files, by name with their content, and notes on those that are left out."""
        files: list[tuple[str, bytes]] = []
        notes: list[str] = []
        room = self._limit_bytes
        for name, status in sorted(_regular_files()):
            if self._before.get(name) == _state(status):
                continue
            if len(files) == self._limit:
                notes.append(f"more than {self._limit} files were written; the rest is not returned")
                break
            if status.st_size > room:
                notes.append(f"a file of {status.st_size} bytes is too large to be returned")
                continue
            content = _read(name, status.st_size)
            room -= len(content)
            files.append((name, content))
        return files, notes


def _regular_files() -> list[tuple[str, os.stat_result]]:
    found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in os.scandir(WORK)]
    return [(name, status) for name, status in found if stat.S_ISREG(status.st_mode) and name[0] != "."]


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read(name: str, size: int) -> bytes:
    with open(os.open(os.path.join(WORK, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        return file.read(size)


def _save_figures() -> None:
    """Save the figures that matplotlib has open, if the code uses it, and close them."""
    pyplot: Any = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    for number in pyplot.get_fignums():
        pyplot.figure(number).savefig(os.path.join(WORK, f"figure_{number}.png"))
    pyplot.close("all")


def _flush(stream: Any) -> None:
    with contextlib.suppress(Exception):  # the code may have closed or replaced it
        stream.flush()


def _close_all_but(kept: set[int]) -> None:
    """Close what bubblewrap passed on besides."""
    for number in range(max(kept) + 16):
        if number not in kept:
            with contextlib.suppress(OSError):
                os.close(number)


def _send(pipe: int, message: dict[str, Any], contents: list[bytes]) -> None:
    text = json.dumps(message).encode()
    payload = b"".join([struct.pack(">I", len(text)), text, *contents])
    left = memoryview(struct.pack(">I", len(payload)) + payload)
    while left:
        left = left[os.write(pipe, left) :]


def _receive(pipe: int) -> dict[str, Any] | None:
    header = _read_exactly(pipe, 4)
    if not header:
        return None
    (length,) = struct.unpack(">I", header)
    request: dict[str, Any] = json.loads(_read_exactly(pipe, length))
    return request


def _read_exactly(pipe: int, length: int) -> bytes:
    content = b""
    while len(content) < length:
        part = os.read(pipe, length - len(content))
        if not part:
            return b""
        content += part
    return content
