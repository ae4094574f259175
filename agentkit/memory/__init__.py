"""Remember: the session as token ids, and the stores that keep it."""

from agentkit.memory.in_process import MemoryStore
from agentkit.memory.sqlite import SQLiteStore
from agentkit.memory.store import SessionHeader, SessionInfo, Store, StoredEntry, StoredSession
from agentkit.memory.transcript import Entry, Mark, Transcript
from agentkit.memory.urls import open_store

__all__ = [
    "Entry",
    "Mark",
    "MemoryStore",
    "SQLiteStore",
    "SessionHeader",
    "SessionInfo",
    "Store",
    "StoredEntry",
    "StoredSession",
    "Transcript",
    "open_store",
]
