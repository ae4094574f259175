"""The suite that every store passes. A test of yours subclasses it and says how to make the store:

    class TestMyStore(StoreConformance):
        async def make_store(self, folder: Path) -> Store:
            return MyStore(folder / "sessions")

Needs pytest, and no configuration of it.
"""  # noqa: D415  # the example ends the docstring's first sentence

from agentkit.testing.store_conformance.audit import AuditTests
from agentkit.testing.store_conformance.holding import HoldingTests
from agentkit.testing.store_conformance.interruptions import InterruptionTests
from agentkit.testing.store_conformance.journal import JournalTests
from agentkit.testing.store_conformance.sessions import SessionTests
from agentkit.testing.store_conformance.sharing import SharingTests

__all__ = ["StoreConformance"]


class StoreConformance(SessionTests, JournalTests, SharingTests, AuditTests, HoldingTests, InterruptionTests):
    """Everything that `agentkit.memory.Store` promises, except what outlives the process."""
