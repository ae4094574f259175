"""Stored content, judged again before it may be used: the policy may have changed, and a store is not ours alone."""

from __future__ import annotations

from dataclasses import replace

from agentkit.agent.runtime import Runtime
from agentkit.cleared import Cleared
from agentkit.errors import BlockedError
from agentkit.memory.transcript import StoredEntry
from agentkit.messages import Message, Role, ToolCall
from agentkit.shields.base import ShieldInput, Stage
from agentkit.shields.decision import Decision


class Readmission:
    """Judges the messages of one stored session at stage `memory`; `decisions` keeps what shields said."""

    def __init__(self, runtime: Runtime, session_id: str) -> None:
        self._runtime = runtime
        self._session_id = session_id
        self.decisions: list[Decision] = []

    async def clear(self, entry: StoredEntry) -> Cleared[Message]:
        """Return the entry's message as shields let it through. A system message is the agent's own of today.

        Raises:
            BlockedError: if shields block it.
        """
        message = entry.message
        if message.role is Role.SYSTEM:
            return self._runtime.instructions.map(Message.system)
        named = [message.tool_name] if message.tool_name is not None else []
        text = "\n".join([message.content, *(call.canonical() for call in message.tool_calls), *named])
        decision = await self._runtime.pipeline.judge(
            ShieldInput(text=text, stage=Stage.MEMORY, provenance=message.provenance)
        )
        self.decisions.append(replace(decision, cleared=None))
        if decision.cleared is None:
            raise self._blocked(message, decision)
        if decision.cleared.value == text:
            return decision.cleared.map(lambda _: message)
        emptied = tuple(ToolCall(id=call.id, name=call.name, arguments={}) for call in message.tool_calls)
        return decision.cleared.map(
            lambda kept: replace(message, content=kept, tool_calls=emptied, tool_name=None)
        )

    def _blocked(self, message: Message, decision: Decision) -> BlockedError:
        return BlockedError(
            f"session {self._session_id} holds a message of role {message.role.value} that stage memory blocks "
            f"(shield {decision.shield}); delete the session, or run it under a policy that lets it through",
            stage=Stage.MEMORY.value,
            shield=decision.shield,
            category=decision.category,
        )
