"""Conversations written as JSON -> messages. Takes the forms that are common elsewhere too (`ipython`, `function`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agentkit.cli.json_input import json_kind, parse_json, read_json, shown, unwrapped
from agentkit.errors import ConfigurationError
from agentkit.messages import Message, Role, ToolCall
from agentkit.shields.policy_errors import with_nearest

_ROLES = (*(role.value for role in Role), "ipython")


def read_messages(path: Path) -> list[Message]:
    """Read a conversation from a JSON file, or from stdin for `-`.

    Raises:
        ConfigurationError: if it is not a list of messages.
    """
    name, items = shown(path), read_json(path)
    if not isinstance(items, list):
        raise ConfigurationError(f"{name} must hold a list of messages, got {json_kind(items)}")
    if not items:
        raise ConfigurationError(f"{name} holds no messages")
    calls: dict[str, ToolCall] = {}
    messages = []
    for number, item in enumerate(items, start=1):
        message = _message(f"{name}: message {number}", item, calls)
        calls.update({call.id: call for call in message.tool_calls})
        messages.append(message)
    return messages


def _message(where: str, item: Any, calls: dict[str, ToolCall]) -> Message:
    if not isinstance(item, dict) or not isinstance(item.get("role"), str):
        raise ConfigurationError(f'{where} must be an object with "role" and "content"')
    role = item["role"]
    if role not in _ROLES:
        raise ConfigurationError(with_nearest(f"{where} has unknown role {role!r}", role, _ROLES))
    content = _joined(item.get("content"))
    if content is None and role == Role.ASSISTANT and item.get("tool_calls"):
        content = ""
    if not isinstance(content, str):
        got = json_kind(content) if "content" in item else "none"
        raise ConfigurationError(f'{where} must have a string "content", got {got}')
    match role:
        case Role.SYSTEM:
            return Message.system(content)
        case Role.USER:
            return Message.user(content)
        case Role.ASSISTANT:
            return Message.assistant(content, _calls(where, item.get("tool_calls")))
        case _:
            return Message.tool(content, call=_answered(item, calls))


def _joined(content: Any) -> Any:
    """Return the text of `[{"type": "text", "text": …}, …]`; anything else as it is."""
    if not isinstance(content, list) or not content:
        return content
    texts: list[str] = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            return content
        texts.append(part["text"])
    return "".join(texts)


def _calls(where: str, items: Any) -> tuple[ToolCall, ...]:
    if items is None:
        return ()
    if not isinstance(items, list):
        raise ConfigurationError(f'{where}: "tool_calls" must be a list, got {json_kind(items)}')
    return tuple(_call(f"{where}: call {number}", item) for number, item in enumerate(items, start=1))


def _call(where: str, item: Any) -> ToolCall:
    call_id = item.get("id") if isinstance(item, dict) else None
    item = unwrapped(item)
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise ConfigurationError(f'{where} must be an object with "name" and "arguments"')
    arguments = item.get("arguments", item.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = parse_json(arguments, f"{where}: the text of its arguments")
    if not isinstance(arguments, dict):
        raise ConfigurationError(f"{where}: its arguments must be an object, got {json_kind(arguments)}")
    return ToolCall(id=str(call_id or where), name=item["name"], arguments=arguments)


def _answered(item: dict[str, Any], calls: dict[str, ToolCall]) -> ToolCall:
    """Return the call that a tool's message answers: by its id, or the last one before it."""
    known = calls.get(str(item.get("tool_call_id"))) or next(reversed(calls.values()), None)
    name = item.get("name")
    if isinstance(name, str) or known is None:
        return ToolCall(id=known.id if known else "call", name=str(name or "tool"), arguments={})
    return known
