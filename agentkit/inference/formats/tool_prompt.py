"""How models without a tool format of their own are told about tools: one place to change the wording.

The form of a call is that of Llama 3.1's JSON-based tool calling.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from agentkit.messages import Message, ToolCall, ToolSpec

# The roles that a tool's result may have, best first: the first one that the chat template accepts is used.
RESULT_ROLES = ("tool", "user")

_GUIDANCE = (
    "You have access to the following functions. "
    "To call a function, please respond with JSON for a function call. "
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}. '
    "Do not use variables."
)


def system_text(instructions: str, tools: Sequence[ToolSpec]) -> str:
    """Return the content of the system message that describes the tools after the instructions."""
    described = "\n".join(_tool_text(tool) for tool in tools)
    return "\n\n".join(part for part in (instructions, _GUIDANCE, described) if part)


def call_text(call: ToolCall) -> str:
    """Return a call as the model is asked to write it."""
    return json.dumps({"name": call.name, "parameters": dict(call.arguments)}, ensure_ascii=False)


def assistant_text(message: Message) -> str:
    """Return the content of an assistant message, with its calls after what it says."""
    return "\n".join([*filter(None, [message.content]), *map(call_text, message.tool_calls)])


def result_text(message: Message, role: str) -> str:
    """Return the content of a message with a tool's result; a role that is not the tool's needs a heading."""
    if role == "tool":
        return message.content
    return f"Result of {message.tool_name or 'the function'}: {message.content}"


def _tool_text(tool: ToolSpec) -> str:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return json.dumps(function, ensure_ascii=False)
