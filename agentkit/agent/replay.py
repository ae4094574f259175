"""A stored session judged again: what another policy would have made of it. Runs no model of the agent and no tool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agentkit.memory.store import StoredSession
from agentkit.messages import Message, Origin, Role
from agentkit.shields.base import Action, ShieldInput, Stage
from agentkit.shields.decision import Decision
from agentkit.shields.pipeline import Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One text of a session, and what becomes of it. `before` is None where no other policy was asked.

    Without another policy it is what stands in the session: it passed then.
    """

    message_id: str
    turn: int
    before: Action | None
    decision: Decision

    @property
    def changed(self) -> bool:
        """Whether the policy makes something else of the text."""
        if self.before is None:
            return self.decision.action not in (Action.ALLOW, Action.ANNOTATE)
        return self.decision.action is not self.before

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, without the text."""
        return {
            "message_id": self.message_id,
            "turn": self.turn,
            "before": self.before.value if self.before else None,
            "changed": self.changed,
            **self.decision.to_json(),
        }


async def replay(
    stored: StoredSession, under: Pipeline, *, before: Pipeline | None = None
) -> tuple[Replayed, ...]:
    """Judge every text of a session with running pipelines, each as at its time: with what had been said until then."""
    replayed: list[Replayed] = []
    said: list[Message] = []
    for entry in stored.entries:
        for stage, text in _texts(entry.message):
            content = ShieldInput(
                text=text,
                stage=stage,
                provenance=entry.message.provenance,
                history=tuple(said),
                language="python" if stage is Stage.CODE else None,
            )
            replayed.append(
                Replayed(
                    message_id=entry.message_id,
                    turn=entry.turn,
                    before=(await before.judge(content)).action if before else None,
                    decision=await under.judge(content),
                )
            )
        said.append(entry.message)
    return tuple(replayed)


def _texts(message: Message) -> Iterator[tuple[Stage, str]]:
    """Give what shields judge of a message; instructions are the developer's, and are not judged."""
    match message.role:
        case Role.SYSTEM:
            return
        case Role.USER:
            yield Stage.USER_INPUT, message.content
        case Role.TOOL:
            stage = Stage.MEMORY if message.provenance.origin is Origin.MEMORY else Stage.TOOL_RESULT
            yield stage, message.content
        case Role.ASSISTANT:
            if message.content:
                yield Stage.MODEL_OUTPUT, message.content
            for call in message.tool_calls:
                yield Stage.TOOL_CALL, call.canonical()
                # The tools are not here; a text argument of this name counts as Python everywhere.
                if isinstance(code := call.arguments.get("code"), str):
                    yield Stage.CODE, code
