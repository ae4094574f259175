"""The conformance suite runs anywhere, and finds what is wrong with a store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import indent

IMPORTS = """
import contextlib
from agentkit.memory import MemoryStore
from agentkit.testing.store_conformance import StoreConformance
"""

SUITE = """
class Store{name}(MemoryStore):
{methods}

class Test{name}(StoreConformance):
    async def make_store(self, folder):
        return Store{name}()
"""

FAULTS = {
    "test_a_stale_append_is_refused": """
async def append(self, session_id, *, expected_version, header, records):
    version = await self.version(session_id)
    return await super().append(session_id, expected_version=version, header=header, records=records)
""",
    "test_what_a_commit_archives": """
async def commit(self, *arguments, archive=False, **options):
    return await super().commit(*arguments, **options)
""",
    "test_an_event_that_is_not_json": """
async def commit(self, session_id, *, event=None, **options):
    version = await super().commit(session_id, **options)
    if event:
        await self.note(session_id, event)
    return version
""",
    "test_a_session_is_held_by_one": """
def hold(self, session_id):
    return contextlib.nullcontext()
""",
    "test_a_fork_can_begin": """
async def fork(self, source_id, target_id, *, num_entries=None):
    return await super().fork(source_id, target_id)
""",
    "test_a_session_that_changed_is_not_deleted": """
async def delete(self, session_id, *, expected_version=None):
    return await super().delete(session_id)
""",
    "test_every_write_keeps_the_chain": """
async def audit(self, tenant):
    return (await super().audit(tenant))[:-1]
""",
}
"""What is wrong with a store, by a test that must fail for it."""


def run_suite(folder: Path, source: str, *, only: str) -> list[str]:
    """Run tests of the suite in a folder that configures nothing; return the names of those that failed."""
    (folder / "test_mine.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider", "-k", only]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    return [line.split("::")[1].split()[0] for line in lines]


def test_a_sound_store_passes_without_any_configuration(tmp_path: Path):
    source = IMPORTS + SUITE.format(name="Sound", methods="    pass")
    assert run_suite(tmp_path, source, only="held or journal") == []


def test_every_fault_is_found(tmp_path: Path):
    source = IMPORTS
    for number, methods in enumerate(FAULTS.values()):
        source += SUITE.format(name=f"Fault{number}", methods=indent(methods, "    "))
    only = " or ".join(f"(TestFault{number} and {test})" for number, test in enumerate(FAULTS))
    failed = run_suite(tmp_path, source, only=only)
    assert set(failed) == {f"TestFault{number}" for number in range(len(FAULTS))}


def test_the_doubles_are_imported_without_pytest_and_the_suite_without_torch():
    program = (
        "import sys; import agentkit.testing; assert 'pytest' not in sys.modules;"
        "import agentkit.testing.store_conformance; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
