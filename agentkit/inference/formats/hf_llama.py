"""The prompts that the chat templates of Llama 3.1, 3.2 and 3.3 Instruct write, byte for byte. Knows no Jinja.

What the templates refuse is written in their manner: several calls in one message, arguments of built-in tools that
are no strings, and tool formats other than JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.inference.formats.call_forms import (
    EXAMPLES,
    ResultStyle,
    ToolFormat,
    ToolsIn,
    check_option,
    result_content,
)
from agentkit.inference.formats.calls import CODE_TOOL
from agentkit.inference.formats.llama import LlamaOutputs
from agentkit.inference.formats.parts import Part, check_messages, encode_parts
from agentkit.inference.tokenizer import Tokenizer
from agentkit.messages import Message, Role, ToolCall, ToolSpec

DEFAULT_DATE = "26 Jul 2024"

# The missing spaces after the full stops are the template's.
_FORM = "Respond in the format {form}.Do not use variables.\n\n"
_TOOLS_IN_SYSTEM = (
    "You have access to the following functions. To call a function, please respond with {what}."
)
_TOOLS_IN_USER = (
    "Given the following functions, please respond with {what} "
    "with its proper arguments that best answers the given prompt.\n\n"
)


class Llama31Format(LlamaOutputs):
    """Llama 3.1 and 3.3. `date` is what the prompt names as today: there is no clock here.

    The template leaves out what an assistant said beside a call; `keep_text` keeps it.

    Raises:
        ConfigurationError: as `LlamaOutputs`.
    """

    name = "hf-3.1"

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        date: str = DEFAULT_DATE,
        tool_format: ToolFormat = "json",
        builtin_tools: Sequence[str] = (),
        tools_in: ToolsIn = "user",
        tool_results: ResultStyle = "json",
        keep_text: bool = False,
    ) -> None:
        super().__init__(
            tokenizer, tool_format=tool_format, builtin_tools=builtin_tools, tool_results=tool_results
        )
        check_option("tools_in", tools_in, ToolsIn)
        self._date = date
        self._tools_in: ToolsIn = tools_in
        self._keep_text = keep_text

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
        parts: list[Part] = []
        if start == 0:
            instructions = messages[0].content if has_system else ""
            parts += [self._bos, *self._message(Role.SYSTEM, self._system_text(instructions, custom))]
        for index in range(max(start, first), len(messages)):
            if index == first and custom and self._tools_in == "user":
                parts += self._first_message(messages[index], custom)
            else:
                parts += self._conversation_message(messages[index])
        if add_generation_prompt:
            parts += self._header_of(Role.ASSISTANT)
        return encode_parts(parts, self._tokenizer)

    def _system_text(self, instructions: str, custom: Sequence[ToolSpec]) -> str:
        lines: list[str] = []
        if self._builtin_tools or custom:
            lines.append("Environment: ipython\n")
        if self._builtin_tools:
            listed = ", ".join(tool for tool in self._builtin_tools if tool != CODE_TOOL)
            lines.append(f"Tools: {listed}\n\n")
        lines.append(f"Cutting Knowledge Date: December 2023\nToday Date: {self._date}\n\n")
        if custom and self._tools_in == "system":
            lines.append(self._tools_text(_TOOLS_IN_SYSTEM, "JSON for a function call", custom))
        return "".join([*lines, instructions.strip()])

    def _first_message(self, message: Message, custom: Sequence[ToolSpec]) -> list[Part]:
        if message.role is not Role.USER:
            raise ConfigurationError(
                "the tools stand in the first user message, but the conversation begins with role "
                f'{message.role}; set tools_in="system"'
            )
        described = self._tools_text(_TOOLS_IN_USER, "a JSON for a function call", custom)
        return self._message(Role.USER, described + message.content.strip())

    def _tools_text(self, opening: str, json_wording: str, custom: Sequence[ToolSpec]) -> str:
        what = json_wording if self._tool_format == "json" else "a function call"
        form = _FORM.format(form=EXAMPLES[self._tool_format])
        return opening.format(what=what) + form + "".join(f"{_tool_json(tool)}\n\n" for tool in custom)

    def _conversation_message(self, message: Message) -> list[Part]:
        if message.role is Role.TOOL:
            return self._message(Role.TOOL, result_content(message.content, self._tool_results))
        if not message.tool_calls:
            return self._message(message.role, message.content.strip())
        end = self._eom if self._builtin_tools or self._tool_format == "builtin" else self._eot
        text = f"{message.content.strip()}\n" if self._keep_text and message.content.strip() else ""
        return [*self._header_of(Role.ASSISTANT), text, *self._calls(message.tool_calls), end]

    def _builtin_text(self, call: ToolCall) -> str:
        # The template puts quotes around a string and escapes nothing in it.
        arguments = ", ".join(f"{name}={_quoted(value)}" for name, value in call.arguments.items())
        return f"{call.name}.call({arguments})"


class Llama32Format(Llama31Format):
    """The text models of Llama 3.2, whose template knows no built-in tools; without these, also Llama 3.3.

    Raises:
        ConfigurationError: as `LlamaOutputs`, and if there are built-in tools.
    """

    name = "hf-3.2"

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        date: str = DEFAULT_DATE,
        tool_format: ToolFormat = "json",
        builtin_tools: Sequence[str] = (),
        tools_in: ToolsIn = "user",
        tool_results: ResultStyle = "json",
        keep_text: bool = False,
    ) -> None:
        if builtin_tools:
            raise ConfigurationError(
                f"dialect {self.name} has no built-in tools, so not {builtin_tools[0]}; Llama 3.3 takes them in hf-3.1"
            )
        super().__init__(
            tokenizer,
            date=date,
            tool_format=tool_format,
            tools_in=tools_in,
            tool_results=tool_results,
            keep_text=keep_text,
        )


HF_DIALECTS = (Llama31Format.name, Llama32Format.name)


def _quoted(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _tool_json(tool: ToolSpec) -> str:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return json.dumps({"type": "function", "function": function}, indent=4, ensure_ascii=False)
