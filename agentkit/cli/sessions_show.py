"""`agentkit sessions list` and `show`: what a store holds, read without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from agentkit.agent.open_turn import OpenTurn
from agentkit.cli.exit_codes import EXIT_OK
from agentkit.cli.output import counted, one_line, printable, write_json, write_line, write_text
from agentkit.cli.session_store import existing, in_store
from agentkit.cli.unfinished import described, entries_of, open_calls, read_open_turn, state_of
from agentkit.memory.store import SessionInfo, StoredSession
from agentkit.memory.transcript import StoredEntry
from agentkit.messages import message_to_json

_COLUMNS: Final = "{:<{width}}  {:>5}  {:>7}  {:<20}  {}"


def run_list(store: str, *, prefix: str, as_json: bool) -> int:
    """List the sessions of a store, sorted by id."""
    sessions = in_store(store, lambda kept: kept.list(prefix))
    if as_json:
        for info in sessions:
            write_json(_info_to_json(info))
        return EXIT_OK
    width = max(len(info.id) for info in sessions) if sessions else 2
    write_line(_COLUMNS.format("ID", "TURNS", "ENTRIES", "UPDATED", "STATE", width=width))
    for info in sessions:
        state = "unfinished" if info.unfinished else "-"
        write_line(
            _COLUMNS.format(info.id, info.turns, info.entries, _shown(info.updated), state, width=width)
        )
    return EXIT_OK


def run_show(session_id: str, store: str, *, as_json: bool) -> int:
    """Show a session: its messages, and what an unfinished turn waits for."""
    stored = in_store(store, lambda kept: existing(kept, session_id))
    turn = read_open_turn(stored)
    entries = [*stored.entries, *entries_of(turn)]
    if as_json:
        write_json(_session_to_json(stored, entries, turn))
        return EXIT_OK
    write_line(
        f"{stored.id}: {counted(_num_turns(stored), 'turn')}, {counted(len(entries), 'message')}, "
        f"{counted(_num_tokens(entries), 'token')} of {printable(stored.header.model)}"
    )
    for entry in entries:
        _write_entry(entry)
    if turn is not None:
        _write_open_turn(stored.id, turn)
    return EXIT_OK


def _write_entry(entry: StoredEntry) -> None:
    message = entry.message
    head = f"[{entry.turn}] {message.role.value}"
    if message.tool_name is not None:
        head += f" {message.tool_name}"
    write_text(f"{head} ({len(entry.ids)} tokens){': ' if message.content else ''}{message.content}")
    for call in message.tool_calls:
        write_text(f"    call {call.name} {one_line(call.arguments)} ({call.id})")


def _write_open_turn(session_id: str, turn: OpenTurn) -> None:
    write_line(f"unfinished: turn {turn.accepted.turn} {described(turn)}")
    for call in open_calls(turn):
        reason = f", {call.reason}" if call.reason else ""
        write_text(f"    {call.state} {call.tool} {one_line(call.arguments)} ({call.call_id}{reason})")
    if turn.waiting:
        write_line(f"Decide: agentkit sessions approve {session_id} {turn.waiting[0].call_id}  (or deny)")
    write_line(f"Go on:  agentkit sessions resume {session_id}  (or abandon)")


def _info_to_json(info: SessionInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "turns": info.turns,
        "entries": info.entries,
        "created": info.created.isoformat(),
        "updated": info.updated.isoformat(),
        "unfinished": info.unfinished,
    }


def _session_to_json(
    stored: StoredSession, entries: Sequence[StoredEntry], turn: OpenTurn | None
) -> dict[str, Any]:
    return {
        "id": stored.id,
        "turns": _num_turns(stored),
        "tokens": _num_tokens(entries),
        "header": asdict(stored.header),
        "messages": [_entry_to_json(entry) for entry in entries],
        "unfinished": _open_turn_to_json(turn) if turn else None,
    }


def _entry_to_json(entry: StoredEntry) -> dict[str, Any]:
    return {
        "id": entry.message_id,
        "turn": entry.turn,
        "tokens": len(entry.ids),
        "generated": entry.generated,
        "pinned": entry.pinned,
        **message_to_json(entry.message),
    }


def _open_turn_to_json(turn: OpenTurn) -> dict[str, Any]:
    return {
        "turn": turn.accepted.turn,
        "state": state_of(turn),
        "steps": len(turn.steps),
        "calls": [
            {
                "call_id": call.call_id,
                "tool": call.tool,
                "arguments": dict(call.arguments),
                "state": call.state,
                "reason": call.reason,
            }
            for call in open_calls(turn)
        ],
    }


def _shown(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"


def _num_turns(stored: StoredSession) -> int:
    """Return how many turns have ended; those that left the context count."""
    return stored.entries[-1].turn if stored.entries else 0


def _num_tokens(entries: Sequence[StoredEntry]) -> int:
    return sum(len(entry.ids) for entry in entries)
