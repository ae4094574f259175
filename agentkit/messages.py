"""The shared vocabulary: roles, messages, tool calls, provenance. Knows no room and no format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """Who speaks. `TOOL` is written `ipython` by Llama 3.1's format."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Origin(StrEnum):
    """Where a piece of content came from."""

    DEVELOPER = "developer"
    USER = "user"
    MODEL = "model"
    TOOL = "tool"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where content came from, which source by name, and whether its author is trusted to instruct the agent."""

    origin: Origin
    source: str | None = None
    trusted: bool = False


DEVELOPER = Provenance(origin=Origin.DEVELOPER, trusted=True)
USER = Provenance(origin=Origin.USER, trusted=True)
MODEL = Provenance(origin=Origin.MODEL, trusted=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that the model made: parsed, not yet validated, not yet judged."""

    id: str
    name: str
    arguments: Mapping[str, Any]

    def canonical(self) -> str:
        """Return the call as one line of JSON with sorted keys: what shields judge and digests are taken of."""
        return json.dumps(
            {"name": self.name, "arguments": self.arguments}, sort_keys=True, ensure_ascii=False, default=str
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """What a model is told about a tool: its name, its description and the JSON Schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation.

    `call_id` and `tool_name` are set on a message of role `TOOL`: which call it answers.
    """

    role: Role
    content: str
    provenance: Provenance
    tool_calls: tuple[ToolCall, ...] = field(default=())
    call_id: str | None = None
    tool_name: str | None = None

    @staticmethod
    def system(content: str) -> Message:
        """Return the developer's instructions as a message."""
        return Message(role=Role.SYSTEM, content=content, provenance=DEVELOPER)

    @staticmethod
    def user(content: str) -> Message:
        """Return what the user said as a message."""
        return Message(role=Role.USER, content=content, provenance=USER)

    @staticmethod
    def assistant(content: str, tool_calls: tuple[ToolCall, ...] = ()) -> Message:
        """Return what the model said, or called, as a message."""
        return Message(role=Role.ASSISTANT, content=content, provenance=MODEL, tool_calls=tool_calls)

    @staticmethod
    def tool(content: str, *, call: ToolCall, trusted: bool = False) -> Message:
        """Return the result of a tool call as a message; untrusted unless the tool's author vouches for it."""
        provenance = Provenance(origin=Origin.TOOL, source=call.name, trusted=trusted)
        return Message(
            role=Role.TOOL, content=content, provenance=provenance, call_id=call.id, tool_name=call.name
        )


def message_to_json(message: Message) -> dict[str, Any]:
    """Return the message as plain JSON values; `message_from_json` reads it back."""
    return {
        "role": message.role.value,
        "content": message.content,
        "provenance": {
            "origin": message.provenance.origin.value,
            "source": message.provenance.source,
            "trusted": message.provenance.trusted,
        },
        "tool_calls": [
            {"id": call.id, "name": call.name, "arguments": dict(call.arguments)}
            for call in message.tool_calls
        ],
        "call_id": message.call_id,
        "tool_name": message.tool_name,
    }


def message_from_json(data: Mapping[str, Any]) -> Message:
    """Read a message written by `message_to_json`.

    Raises:
        KeyError, ValueError, TypeError: if the data is not such a message.
    """
    provenance = data["provenance"]
    return Message(
        role=Role(data["role"]),
        content=str(data["content"]),
        provenance=Provenance(
            origin=Origin(provenance["origin"]),
            source=provenance["source"],
            trusted=bool(provenance["trusted"]),
        ),
        tool_calls=tuple(
            ToolCall(id=call["id"], name=call["name"], arguments=call["arguments"])
            for call in data["tool_calls"]
        ),
        call_id=data["call_id"],
        tool_name=data["tool_name"],
    )
