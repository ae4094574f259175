"""The prompts that llama-models documents for Llama 3.1 and 3.2, with the ids of its own encoder.

Content stands as it is, and every piece is encoded by itself. Two things are as documented rather than as that
encoder has them: calls of built-in tools and JSON calls begin with the python tag, and quotes in a built-in call are
escaped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from agentkit.errors import ConfigurationError
from agentkit.inference.formats.call_forms import (
    ResultStyle,
    ToolFormat,
    ToolsIn,
    check_option,
    python_arguments,
    result_content,
)
from agentkit.inference.formats.calls import CODE_TOOL
from agentkit.inference.formats.llama import LlamaOutputs
from agentkit.inference.formats.meta_prompt import question_text, tools_text
from agentkit.inference.formats.parts import Part, check_messages, encode_apart
from agentkit.inference.tokenizer import Tokenizer
from agentkit.messages import Message, Role, ToolCall, ToolSpec


class MetaFormat(LlamaOutputs):
    """Llama 3.1 to 3.3 as llama-models prompts them. Without a `date` the prompt names none.

    Tools stand in a message of the user's before the conversation, and as a Python list in the system message,
    unless `tools_in` says otherwise.

    Raises:
        ConfigurationError: as `LlamaOutputs`.
    """

    name = "meta"
    json_opening = '{"type": "function", '

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        date: str | None = None,
        tool_format: ToolFormat = "json",
        builtin_tools: Sequence[str] = (),
        tools_in: ToolsIn | None = None,
        tool_results: ResultStyle = "verbatim",
    ) -> None:
        super().__init__(
            tokenizer, tool_format=tool_format, builtin_tools=builtin_tools, tool_results=tool_results
        )
        usual: ToolsIn = "system" if tool_format == "python_list" else "user"
        check_option("tools_in", tools_in or usual, ToolsIn)
        self._date = date
        self._tools_in: ToolsIn = tools_in or usual

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        start: int = 0,
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """Return the ids of `messages[start:]`; see `Format.render`."""
        check_messages(messages, start)
        custom = self._custom(tools)
        has_system = bool(messages) and messages[0].role is Role.SYSTEM
        first = 1 if has_system else 0
        asks_with_tools = bool(custom) and self._tools_in == "user" and self._tool_format == "python_list"
        parts: list[Part] = []
        if start == 0:
            parts += self._beginning(messages[0].content if has_system else None, custom)
        for index in range(max(start, first), len(messages)):
            if index == first and asks_with_tools:
                parts += self._question(messages[index], custom)
            else:
                parts += self._conversation_message(messages[index])
        if add_generation_prompt:
            parts += self._header_of(Role.ASSISTANT)
        return encode_apart(parts, self._tokenizer)

    def _beginning(self, instructions: str | None, custom: Sequence[ToolSpec]) -> list[Part]:
        parts: list[Part] = [self._bos]
        system = self._system_text(instructions or "", custom)
        if system or instructions is not None:
            parts += self._message(Role.SYSTEM, system)
        if custom and self._tools_in == "user" and self._tool_format != "python_list":
            parts += self._message(Role.USER, tools_text(custom, self._tool_format))
        return parts

    def _system_text(self, instructions: str, custom: Sequence[ToolSpec]) -> str:
        dates = f"Cutting Knowledge Date: December 2023\nToday Date: {self._date}\n" if self._date else ""
        described = tools_text(custom, self._tool_format) if custom and self._tools_in == "system" else ""
        rest = "\n".join(filter(None, (dates, described)))
        rest += ("\n\n" if described else "\n" if dates else "") + instructions if instructions else ""
        if not self._builtin_tools and (not custom or self._tool_format == "python_list"):
            return rest
        named = ", ".join(tool for tool in self._builtin_tools if tool != CODE_TOOL)
        if named:
            return f"Environment: ipython\nTools: {named}\n{rest}"
        return f"Environment: ipython\n\n{rest}" if rest else "Environment: ipython"

    def _question(self, message: Message, custom: Sequence[ToolSpec]) -> list[Part]:
        if message.role is not Role.USER:
            raise ConfigurationError(
                "the tools stand in the first user message, but the conversation begins with role "
                f'{message.role}; set tools_in="system"'
            )
        return self._message(Role.USER, question_text(message.content, custom))

    def _conversation_message(self, message: Message) -> list[Part]:
        if message.role is Role.TOOL:
            return self._message(Role.TOOL, result_content(message.content, self._tool_results))
        if not message.tool_calls:
            return self._message(message.role, message.content)
        is_custom = any(call.name not in self._builtin_tools for call in message.tool_calls)
        ends_turn = is_custom and self._tool_format in ("function_tag", "python_list")
        end = self._eot if ends_turn else self._eom
        return [
            *self._header_of(Role.ASSISTANT),
            message.content,
            *self._calls(message.tool_calls),
            end,
        ]

    def _custom_tag(self) -> list[Part]:
        return [self._tag] if self._tool_format in ("json", "builtin") else []

    def _json_text(self, call: ToolCall) -> str:
        # Characters beyond ASCII are escaped, as llama-models does it.
        return json.dumps({"type": "function", "name": call.name, "parameters": dict(call.arguments)})

    def _builtin_text(self, call: ToolCall) -> str:
        if call.name == CODE_TOOL:
            return str(call.arguments.get("code", ""))
        return f"{call.name}.call({python_arguments(call)})"
