"""What `python -m examples.workers` has to show, whatever serves its model."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio

ROOT = Path(__file__).parent.parent


async def check_example(database: str, urls: Sequence[str], model: str) -> None:
    """Run the example; its sessions change workers at every turn, and lose neither their messages nor their cache."""
    command = [sys.executable, "-m", "examples.workers", "--database", database, "--servers", *urls]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = await anyio.run_process(
        [*command, "--model", model], cwd=ROOT, env=environment, check=False, stderr=None
    )
    printed = ended.stdout.decode()
    assert ended.returncode == 0, printed
    turns = re.findall(r"^(worker \d) +(\w+)/1 .* (\d+) messages, (\d+)% cached$", printed, re.MULTILINE)
    for tenant in ("alice", "bob"):
        own = [turn for turn in turns if turn[1] == tenant]
        assert [worker for worker, *_ in own] == ["worker 1", "worker 2", "worker 1"]
        assert [int(messages) for _, _, messages, _ in own] == [3, 5, 7]
        assert min(int(cached) for *_, cached in own[1:]) >= 30
