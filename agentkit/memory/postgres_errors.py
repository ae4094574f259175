"""What went wrong in PostgreSQL, in one sentence, and whether trying again can help. Connects to nothing."""

from __future__ import annotations

from typing import Final

import psycopg

_TRANSIENT: Final = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P05",  # idle_session_timeout
        "25P03",  # idle_in_transaction_session_timeout
    }
)

# libpq reports why it could not connect in words only. What is not among these may be a server that starts.
_FINAL_REFUSALS: Final = (
    "password authentication failed",
    "no password supplied",
    "authentication failed",
    "no pg_hba.conf entry",
    "does not exist",
    "is not permitted to log in",
    "permission denied",
    "does not support SSL",
    "certificate",
)

_ADVICE: Final = {
    "25006": "is read-only; name the primary server, for instance with target_session_attrs=read-write",
    "42501": "refuses access; grant this user CREATE on the database, or USAGE and all rights on the schema",
    "42P01": "has lost a table that agentkit made; restore a backup",
    "42703": "has a table that is not as agentkit made it; restore a backup",
    "3F000": "has lost its schema; restore a backup",
    "53100": "cannot grow: the disk is full; free some space",
    "53200": "is out of memory; give the server more, or run fewer sessions at once",
    "58030": "cannot be read or written; check its disk",
    "XX001": "is corrupt; restore a backup",
    "XX002": "is corrupt; restore a backup",
}


def may_pass(error: BaseException) -> bool:
    """Tell whether the same may work in a moment: the server restarts, or a connection broke."""
    if isinstance(error, TimeoutError):
        return True
    if not isinstance(error, psycopg.OperationalError):
        return False
    if error.sqlstate is None:
        return not any(refusal in str(error) for refusal in _FINAL_REFUSALS)
    return error.sqlstate in _TRANSIENT or error.sqlstate.startswith("08")


def reason(error: psycopg.Error | TimeoutError, *, statement_timeout: float) -> str:
    """Say what is wrong with a database, and what to do: a sentence that goes on after its name.

    Of the server's own words only those about a connection are repeated: others may quote a row.
    """
    if isinstance(error, TimeoutError):
        return "does not answer; check the server and the network"
    state = error.sqlstate
    if state == "57014":
        return (
            f"did not finish a statement within {statement_timeout:g} s, or an administrator cancelled it; "
            "look at the server's load, or raise statement_timeout"
        )
    if state in _ADVICE:
        return _ADVICE[state]
    if isinstance(error, psycopg.OperationalError) and (state is None or state.startswith(("08", "57P"))):
        return _unreachable(error)
    return f"failed: {type(error).__name__}" + (f" ({state})" if state else "")


def _unreachable(error: psycopg.OperationalError) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[0].removeprefix("connection failed: ")
    advice = "check that it runs, its address and the user's rights"
    if "too many" in line or "connection slots" in line:
        advice = "raise max_connections, or lower pool_size or the number of workers"
    return f"cannot be reached: {line.strip()}; {advice}"
