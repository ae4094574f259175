"""How models without a tool format of their own are told about tools: one place to change the wording.

The usual form of a call is that of Llama 3.1's JSON-based tool calling.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from agentkit.inference.formats.call_forms import EXAMPLES as FORMS
from agentkit.inference.formats.call_forms import ToolFormat, write_calls
from agentkit.messages import DEVELOPER, Message, Role, ToolCall, ToolSpec

# The roles that a tool's result may have, best first: the first one that the chat template accepts is used.
RESULT_ROLES = ("tool", "user")

CALL_SEPARATOR = "\n"
"""What stands between two calls of one message."""

_GUIDANCE = (
    "You have access to the following functions. To call a function, respond with {what}, "
    "in the format {form}. "
    "Call a function only when it helps to answer; otherwise respond in plain words."
)


def _example_call(name: str, arguments: dict[str, str], *, result: str, answer: str) -> tuple[Message, ...]:
    call = ToolCall(id="example", name=name, arguments=arguments)
    shown = Message(role=Role.TOOL, content=result, provenance=DEVELOPER, call_id=call.id, tool_name=name)
    return (Message.assistant("", (call,)), shown, Message.assistant(answer))


EXAMPLES: tuple[Message, ...] = (
    Message.user("Good morning!"),
    Message.assistant("Good morning! How can I help you?"),
    Message.user("Open notes.txt for me."),
    *_example_call("open_file", {"path": "notes.txt"}, result="Buy milk.", answer="The file says: Buy milk."),
    Message.user("What time is it in Rome?"),
    *_example_call("get_time", {"location": "Rome, Italy"}, result="14:05", answer="It is 14:05 in Rome."),
)
"""A conversation shown before the real one. A small model that was never trained on calls decides by it
whether to call or to answer: without it SmolLM2-135M guesses the weather more often than it asks."""


def system_text(instructions: str, tools: Sequence[ToolSpec], tool_format: ToolFormat) -> str:
    """Return the content of the system message that describes the tools after the instructions."""
    what = "JSON for a function call" if tool_format == "json" else "a function call"
    guidance = _GUIDANCE.format(what=what, form=FORMS[tool_format])
    described = "\n".join(_tool_text(tool) for tool in tools)
    return "\n\n".join(part for part in (instructions, guidance, described) if part)


def call_text(call: ToolCall) -> str:
    """Return a call as the model is asked to write it."""
    return json.dumps({"name": call.name, "parameters": dict(call.arguments)}, ensure_ascii=False)


def assistant_text(message: Message, tool_format: ToolFormat) -> str:
    """Return the content of an assistant message, with its calls after what it says."""
    if not message.tool_calls:
        return message.content
    calls = write_calls(message.tool_calls, tool_format, separator=CALL_SEPARATOR, write_json=call_text)
    return CALL_SEPARATOR.join([*filter(None, [message.content]), calls])


def result_heading(message: Message, role: str) -> str:
    """Return what stands before a tool's result: a role that is not the tool's needs a heading."""
    return "" if role == "tool" else f"Result of {message.tool_name or 'the function'}: "


def _tool_text(tool: ToolSpec) -> str:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return json.dumps(function, ensure_ascii=False)
