"""What the audit log is told about a session. Never content: ids, digests and decisions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from agentkit.memory.audit import AuditEvent
from agentkit.memory.transcript import Entry
from agentkit.messages import message_to_json
from agentkit.shields.decision import Decision


def turn_ended(
    turn_key: str, status: str, *, entries: Sequence[Entry], decisions: Sequence[Decision], policy_digest: str
) -> AuditEvent:
    """Return the event of a turn that ended: what it left, what shields decided, and under which policy.

    `readmitted` counts the stored messages that passed stage `memory` when the session was loaded.
    """
    return AuditEvent(
        kind="turn_ended",
        details={
            "turn": turn_key,
            "status": status,
            "policy_digest": policy_digest,
            "messages": [
                {
                    "id": entry.message_id,
                    "role": entry.message.value.role.value,
                    "digest": _digest(entry),
                    "decisions": list(entry.decision_ids),
                }
                for entry in entries
            ],
            "decisions": [{"id": decision.id, **decision.to_json()} for decision in decisions if decision.id],
            "readmitted": sum(not decision.id for decision in decisions),
        },
    )


def _digest(entry: Entry) -> str:
    content = json.dumps(message_to_json(entry.message.value), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()
