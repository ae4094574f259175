"""A turn that has not ended, for people: what it waits for, what became of its calls, and who may go on with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agentkit.agent.open_turn import OpenTurn
from agentkit.cli.agent_options import AgentOptions
from agentkit.cli.loading import import_modules, load_policy, load_tools
from agentkit.cli.output import one_line, printable, write_note
from agentkit.errors import ConfigurationError
from agentkit.memory.store import StoredSession
from agentkit.memory.transcript import StoredEntry
from agentkit.messages import Role
from agentkit.tools.approval import ApprovalRequest

_NOT_ENDED: Final = ("waiting", "approved", "denied", "unknown", "pending")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCall:
    """A call of the last step of an unfinished turn.

    `state` is `waiting` for a person, `approved` or `denied` by one, `unknown` where the call was begun and has no
    result, `pending` where it was not begun; else it is how the call ended, such as `ok` or `error`.
    """

    call_id: str
    tool: str
    arguments: Mapping[str, Any]
    state: str
    reason: str | None

    @property
    def ended(self) -> bool:
        """Whether the call has its answer."""
        return self.state not in _NOT_ENDED


def read_open_turn(stored: StoredSession) -> OpenTurn | None:
    """Return the unfinished turn of a session, or None.

    Raises:
        StoreError: if its journal cannot be understood.
    """
    return OpenTurn.read(stored.journal, session_id=stored.id)


def entries_of(turn: OpenTurn | None) -> list[StoredEntry]:
    """Return what an unfinished turn that was read from a store has put into the conversation so far."""
    return [entry for entry in turn.entries if isinstance(entry, StoredEntry)] if turn else []


def open_calls(turn: OpenTurn) -> list[OpenCall]:
    """Return the calls of the turn's last step, in order."""
    if not turn.steps or not isinstance(last := turn.steps[-1].entry, StoredEntry):
        return []
    reasons = {asked.call_id: asked.reason for asked in turn.waiting}
    return [
        OpenCall(
            call_id=call.id,
            tool=call.name,
            arguments=call.arguments,
            state=_state(turn, call.id, waits=call.id in reasons),
            reason=reasons.get(call.id),
        )
        for call in last.message.tool_calls
    ]


def state_of(turn: OpenTurn) -> str:
    """Say in a word why the turn has not ended: it waits for a person, or somebody has to go on with it."""
    return "awaiting_approval" if turn.waiting else "interrupted"


def described(turn: OpenTurn) -> str:
    """Say in a few words why the turn has not ended."""
    if not turn.waiting:
        return f"was interrupted in step {len(turn.steps) + turn.last_step_is_whole}"
    waiting = [f"{call.tool} ({call.call_id})" for call in open_calls(turn) if call.state == "waiting"]
    return printable(f"waits for a person to decide about {', '.join(waiting)}")


def check_same_setup(stored: StoredSession, turn: OpenTurn, options: AgentOptions) -> None:
    """Accept options that may go on with an unfinished turn: what they leave out must be as the session has it.

    What they do say is a choice, though it differs. A policy left out by mistake would ask nobody about a call.

    Raises:
        ConfigurationError: saying which option is missing.
    """
    name = f"the unfinished turn of session {stored.id!r}"
    if (
        options.policy is None
        and load_policy(None, model=stored.header.model).digest != stored.header.policy_digest
    ):
        raise ConfigurationError(f"{name} is not under the default policy; name its policy file with -p")
    entries = [*stored.entries, *entries_of(turn)]
    told = any(entry.message.role is Role.SYSTEM and entry.message.content for entry in entries)
    if options.instructions is None and told:
        raise ConfigurationError(
            f"{name} has instructions; give them with -i (`agentkit sessions show` prints them)"
        )
    import_modules(options.imports)
    offered = {tool.name for tool in load_tools(options.tools)}
    missing = sorted({call.tool for call in open_calls(turn) if not call.ended} - offered)
    if missing:
        raise ConfigurationError(f"{name} calls {', '.join(missing)}; offer it with -t module:object")


def refuse_unfinished(stored: StoredSession | None) -> None:
    """Accept a session whose last turn has ended, or that is not there yet.

    Raises:
        ConfigurationError: otherwise, with the commands that go on.
    """
    turn = read_open_turn(stored) if stored is not None else None
    if stored is not None and turn is not None:
        raise ConfigurationError(
            f"the last turn of session {stored.id!r} {described(turn)}; "
            f"`agentkit sessions resume {stored.id}` goes on with it, `abandon` ends it"
        )


def note_waiting(session_id: str, requests: Sequence[ApprovalRequest]) -> None:
    """Say on stderr which calls wait for a person, and the commands that go on."""
    for request in requests:
        words = f"{request.tool_name} {one_line(request.arguments)} waits: {request.reason}"
        write_note(printable(f"agentkit: {words}"))
        write_note(f"agentkit: agentkit sessions approve {session_id} {request.call_id}  (or deny)")
    write_note(
        f"agentkit: then agentkit sessions resume {session_id}, with the same --store, -p, -t, -i and --import"
    )


def _state(turn: OpenTurn, call_id: str, *, waits: bool) -> str:
    if call_id in turn.finished:
        return turn.finished[call_id].status
    if waits:
        return "waiting"
    answers = {answered: approved for (answered, _), approved in turn.answered.items()}
    if call_id in answers:
        return "approved" if answers[call_id] else "denied"
    return "unknown" if call_id in turn.intended else "pending"
