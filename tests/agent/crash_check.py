"""What must hold of a conversation whose processes were killed, once its last one has ended. Kills nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from agentkit.agent.approvals import MAYBE_MADE
from agentkit.memory import StoredEntry, StoredSession, open_store, verify_chain
from agentkit.messages import Role
from tests.agent.crash_turn import ERRANDS, Life, World

UNKNOWN = "It may have taken effect; its result is not known."
NOT_MADE = "The turn ended before this call was made."


async def left_by(life: Life) -> tuple[StoredSession | None, list[str]]:
    """Return what the store holds of the conversation and how its turns ended; its tenant's audit log is whole."""
    store = open_store(life.store)
    stored = await store.load(life.session)
    tenant = life.session.rpartition("/")[0]
    log = await store.audit(tenant)
    await store.close()
    verify_chain(log, tenant=tenant)
    assert stored is None or stored.journal == ()
    return stored, [record.details["status"] for record in log if record.kind == "turn_ended"]


def check_told(entries: Sequence[StoredEntry], world: World) -> list[str]:
    """Accept a conversation that tells of every effect, and holds all that somebody has seen.

    Returns the ids of the calls that the model was told it may have made.

    Raises:
        AssertionError: otherwise.
    """
    times = Counter(effect["text"] for effect in world.read("effects"))
    allowed = [asked for asked in world.read("asked") if asked["approved"]]
    repeats = Counter(asked["call_id"] for asked in allowed if asked["reason"] == MAYBE_MADE)
    answers = {entry.message.call_id: entry.message.content for entry in entries if entry.message.call_id}
    unknown: list[str] = []
    for call in (call for entry in entries for call in entry.message.tool_calls):
        made = times.pop(call.arguments["text"], 0)
        if UNKNOWN in answers[call.id]:
            assert call.name in ("send", "pay")
            assert made <= 1 + repeats[call.id]
            unknown.append(call.id)
        elif NOT_MADE in answers[call.id]:
            assert made == 0
        elif call.name != "look":
            assert 1 <= made <= 1 + repeats[call.id]
        if call.name == "pay" and made:
            assert call.id in {asked["call_id"] for asked in allowed}
    assert not times  # every effect is in the conversation
    assert len({attempt["key"] for attempt in world.read("attempts")}) <= 1
    for seen in world.read("finished"):
        assert answers[seen["call_id"]] == seen["content"]
        assert (seen["status"] == "unknown") == (seen["call_id"] in unknown)
    return unknown


def check_same(
    stored: StoredSession, world: World, unknown: Collection[str], *, unkilled: StoredSession
) -> None:
    """Accept a conversation that is, but for calls of unknown outcome, that of a process that nobody killed.

    Raises:
        AssertionError: otherwise.
    """
    last_words = [entry.message.content for entry in stored.entries if entry.message.role is Role.ASSISTANT]
    assert all(result["output"] in last_words for result in world.read("results"))
    assert len({draw["seed"] - draw["step"] for draw in world.read("draws") if draw["text"] == ERRANDS}) == 1
    told = [index for index, entry in enumerate(stored.entries) if entry.message.call_id not in unknown]
    assert [_as_said(stored)[index] for index in told] == [_as_said(unkilled)[index] for index in told]


def _as_said(stored: StoredSession) -> list[tuple[Any, ...]]:
    """Return the conversation without the ids that every turn draws anew."""
    numbers: dict[str, int] = {}
    return [_without_ids(entry, numbers) for entry in stored.entries]


def _without_ids(entry: StoredEntry, numbers: dict[str, int]) -> tuple[Any, ...]:
    message = entry.message
    for call in message.tool_calls:
        numbers[call.id] = len(numbers)
    return (
        message.role,
        message.content,
        message.provenance,
        [(call.name, call.arguments) for call in message.tool_calls],
        numbers.get(message.call_id or ""),
        entry.ids,
        entry.turn,
        entry.generated,
        entry.message_id.rpartition(".")[2],
    )
