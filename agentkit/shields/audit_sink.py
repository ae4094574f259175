"""Where decisions are put on record as they are made. A seam: the pipeline writes, an application says where to."""

from __future__ import annotations

from typing import Protocol

from agentkit.shields.base import ShieldInput
from agentkit.shields.decision import Decision


class AuditSink(Protocol):
    """Keeps what shields decided."""

    async def record(self, content: ShieldInput, decision: Decision, *, policy_digest: str) -> None:
        """Put one decision on record. When this returns, it is kept; only then does the content go on.

        Raises:
            StoreError: if it cannot be kept; the content then goes nowhere.
        """
