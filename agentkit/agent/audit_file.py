"""Every decision of the shields as a line of a file, as it is made. Without content, unless that is asked for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread

from agentkit.memory.audit import AuditEvent
from agentkit.memory.audit_file import append_to_file
from agentkit.shields.base import ShieldInput
from agentkit.shields.decision import Decision


class AuditFile:
    """An audit log for an agent without a database; `agentkit audit verify` checks its chain.

    A line says which policy judged at which stage: for every shield its outcome, score, threshold and milliseconds,
    and of the content its digest and where it came from. `content=True` adds the content itself: such a file holds
    everything that was blocked, secrets included.
    """

    def __init__(self, path: str | Path, *, content: bool = False) -> None:
        self.path = Path(path)
        self._content = content

    async def record(self, content: ShieldInput, decision: Decision, *, policy_digest: str) -> None:
        """Append one decision; it is on the disk when this returns.

        Raises:
            StoreError: if the file cannot be written.
        """
        provenance = content.provenance
        details: dict[str, Any] = {
            "policy_digest": policy_digest,
            "origin": provenance.origin.value,
            "source": provenance.source,
            "trusted": provenance.trusted,
            **decision.to_json(),
        }
        if self._content:
            details["text"] = content.text
        event = AuditEvent(kind="decision", details=details)
        await anyio.to_thread.run_sync(partial(append_to_file, self.path, event, session_id=content.scope))
