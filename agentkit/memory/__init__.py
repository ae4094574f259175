"""Remember: the session as token ids, the journal of a turn, and the stores that keep both."""

from agentkit.memory.audit import AuditEvent, AuditRecord, verify_chain
from agentkit.memory.in_process import MemoryStore
from agentkit.memory.journal import JournalRecord
from agentkit.memory.sqlite import SQLiteStore
from agentkit.memory.store import SessionHeader, SessionInfo, Store, StoredSession
from agentkit.memory.transcript import Entry, Mark, Span, StoredEntry, Transcript
from agentkit.memory.urls import open_store

__all__ = [
    "AuditEvent",
    "AuditRecord",
    "Entry",
    "JournalRecord",
    "Mark",
    "MemoryStore",
    "SQLiteStore",
    "SessionHeader",
    "SessionInfo",
    "Span",
    "Store",
    "StoredEntry",
    "StoredSession",
    "Transcript",
    "open_store",
    "verify_chain",
]
