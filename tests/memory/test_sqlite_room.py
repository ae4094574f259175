"""Where the file cannot grow or not be written, a write fails with one clear sentence and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio
import pytest

from agentkit.memory import SQLiteStore

ROOT = Path(__file__).parents[2]
MOUNT = 'mount -t tmpfs -o size=600k none "$0" && exec "$@"'
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT]

WRITE_UNPRIVILEGED = """
import os, sys
import anyio
from agentkit.errors import StoreError
from agentkit.memory import SQLiteStore
from agentkit.testing.store_samples import HEADER

async def write(path):
    store = SQLiteStore(path)
    await store.commit("s", expected_version=0, header=HEADER, entries=[])
    await store.close()

async def main():
    await write(sys.argv[1])
    if os.geteuid() == 0:  # who may write everywhere
        os.seteuid(65534)
    try:
        await write(sys.argv[2])
    except StoreError as exc:
        print(exc)

anyio.run(main)
"""


def fill(folder: Path, operation: str, room: str, *, within: tuple[str, ...] = ()) -> list[str]:
    command = [*within, sys.executable, "-m", "tests.memory.filling", str(folder), operation, room]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("operation", ["append", "commit"])
def test_a_file_that_may_not_grow_keeps_what_it_has(tmp_path: Path, operation: str):
    error, *states = fill(tmp_path, operation, "limit")
    assert error == f"store {tmp_path / 'agent.db'} cannot be read or written; check its disk"
    assert states == ["whole", "goes on"]


@pytest.mark.parametrize("operation", ["append", "commit"])
def test_a_full_disk_keeps_what_it_has(tmp_path: Path, operation: str):
    probe = subprocess.run([*NAMESPACE, str(tmp_path), "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("needs a small disk: unshare --user --mount and mount -t tmpfs are not allowed here")
    error, *states = fill(tmp_path, operation, "disk", within=(*NAMESPACE, str(tmp_path)))
    assert error == f"store {tmp_path / 'agent.db'} cannot grow: the disk is full; free some space"
    assert states == ["whole", "goes on"]


@pytest.mark.parametrize("folder_mode", [0o755, 0o555], ids=["read-only file", "read-only folder"])
def test_a_file_that_may_not_be_written_says_so(tmp_path: Path, folder_mode: int):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "agent.db")
        store = SQLiteStore(path)
        anyio.run(store.list)
        anyio.run(store.close)
        before = path.read_bytes()
        path.chmod(0o444)
        os.chmod(name, folder_mode)
        command = [sys.executable, "-c", WRITE_UNPRIVILEGED, str(tmp_path / "first.db"), str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        os.chmod(name, 0o755)
        assert done.stdout in (
            f"store {path} is read-only; it and its folder must be writable\n",
            f"store {path} cannot be opened; it and its folder must be readable and writable\n",
        )
        assert path.read_bytes() == before
