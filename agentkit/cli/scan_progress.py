"""How far a scan is, on stderr, for whoever watches one whose verdicts go elsewhere. Nothing where nobody watches."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from agentkit.cli.output import counted
from agentkit.cli.standard_input import STDIN


class Report(Protocol):
    """Says how far a scan is."""

    def __call__(self, *, rows: int, flagged: int, read_bytes: int) -> None:
        """Say how many rows were judged, how many were flagged, and how much of stdin was read."""


@contextmanager
def scan_progress() -> Iterator[Report]:
    """Show a bar while the block runs; how long it gets is known where stdin is a file."""
    watched = sys.stderr.isatty() and not sys.stdout.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    # Not redirected: what is written to stdout are the verdicts.
    with Progress(
        *columns, console=console, disable=not watched, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        bar = progress.add_task("reading stdin", total=_size_of_stdin())

        def report(*, rows: int, flagged: int, read_bytes: int) -> None:
            words = f"{counted(rows, 'row')} judged, {flagged} flagged"
            progress.update(bar, completed=read_bytes, description=words)

        yield report


def _size_of_stdin() -> int | None:
    """Return how many bytes there are to read; None where nobody knows."""
    status = os.fstat(STDIN)
    return status.st_size if stat.S_ISREG(status.st_mode) else None
