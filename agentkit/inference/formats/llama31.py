"""The prompts of Llama 3.1, 3.2 and 3.3 Instruct, as Llama 3.1's chat template writes them. Knows no Jinja.

Three things differ from that template: quotes inside the argument of a built-in call are escaped, code for the
code interpreter stands as it is, the way the model writes it, and several calls are separated by "; ".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from agentkit.errors import ConfigurationError
from agentkit.inference.base import Grammar
from agentkit.inference.formats.base import ToolChoice
from agentkit.inference.formats.call_grammar import CallRules, json_call_rules, output_grammar
from agentkit.inference.formats.call_parser import CallParser
from agentkit.inference.formats.calls import CODE_TOOL
from agentkit.inference.formats.output_decoder import TaggedDecoder
from agentkit.inference.formats.parts import Part, check_messages, encode_parts
from agentkit.inference.tokenizer import Tokenizer
from agentkit.messages import Message, Role, ToolCall, ToolSpec

REQUIRED_SPECIALS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|python_tag|>",
)
BUILTIN_TOOLS = ("brave_search", "wolfram_alpha", CODE_TOOL)

_ROLE_NAMES: Mapping[Role, str] = {
    Role.SYSTEM: "system",
    Role.USER: "user",
    Role.ASSISTANT: "assistant",
    Role.TOOL: "ipython",
}
# The missing spaces after the full stops are the template's.
_FORM = (
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
    "Do not use variables.\n\n"
)
_TOOLS_IN_SYSTEM = (
    "You have access to the following functions. "
    "To call a function, please respond with JSON for a function call."
)
_TOOLS_IN_USER = (
    "Given the following functions, please respond with a JSON for a function call "
    "with its proper arguments that best answers the given prompt.\n\n"
)
_CALL_SEPARATOR = "; "
_STRING_RULE = r'STRING: /"([^"\\\x00-\x1f]|\\(["\\\/bfnrt]|u[0-9a-fA-F]{4}))*"/'
_CODE_RULE = "CODE: /(?s:.+)/"


class Llama31Format:
    """Renders for tokenizers that have Llama 3.1's special tokens.

    Tools named in `builtin_tools` are announced by name only and called in the built-in form; their specs have
    to be among the tools all the same, for the calls to be accepted.

    Raises:
        ConfigurationError: if the tokenizer lacks a special token, or a built-in tool is not known.
    """

    name = "hf-3.1"

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        date: str = "26 Jul 2024",
        builtin_tools: Sequence[str] = (),
        tools_in: Literal["system", "user"] = "user",
    ) -> None:
        missing = [special for special in REQUIRED_SPECIALS if special not in tokenizer.special_ids]
        if missing:
            raise ConfigurationError(f"dialect {self.name} needs the special tokens {', '.join(missing)}")
        unknown = [tool for tool in builtin_tools if tool not in BUILTIN_TOOLS]
        if unknown:
            raise ConfigurationError(
                f"{unknown[0]!r} is no built-in tool; they are {', '.join(BUILTIN_TOOLS)}"
            )
        if tools_in not in ("system", "user"):
            raise ConfigurationError(f'tools_in must be "system" or "user", got {tools_in!r}')
        self._tokenizer = tokenizer
        self._date = date
        self._builtin_tools = tuple(builtin_tools)
        self._tools_in = tools_in
        self._bos, self._eos, self._header, self._header_end, self._eot, self._eom, self._tag = (
            tokenizer.special_ids[special] for special in REQUIRED_SPECIALS
        )

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ends of a turn, of a message that waits for a tool, and of the text."""
        return frozenset({self._eot, self._eom, self._eos})

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
        custom = [tool for tool in tools if tool.name not in self._builtin_tools]
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

    def close_turn(self, output_ids: Sequence[int]) -> list[int]:
        """Return the end of the turn where the output has none."""
        if output_ids and output_ids[-1] in (self._eot, self._eom):
            return []
        return [self._eot]

    def output_decoder(self) -> TaggedDecoder:
        """Return a decoder for one output."""
        return TaggedDecoder(self._tokenizer, stop_ids=self.stop_ids, python_tag_id=self._tag)

    def output_text(self, output_ids: Sequence[int]) -> str:
        """Return the text of a whole output, as `output_decoder` gives it."""
        decoder = self.output_decoder()
        return "".join([*map(decoder.feed, output_ids), decoder.finish()])

    def parser(self, tools: Sequence[ToolSpec]) -> CallParser:
        """Return a parser for one output."""
        return CallParser(tools)

    def call_grammar(
        self,
        tools: Sequence[ToolSpec],
        choice: ToolChoice,
        *,
        max_calls: int = 1,
        answer_schema: Mapping[str, Any] | None = None,
    ) -> Grammar | None:
        """Return the grammar of one output; see `Format.call_grammar`."""
        tag, end = f"<[{self._tag}]>", f"<[{self._eom}]>?"
        custom = [tool for tool in tools if tool.name not in self._builtin_tools]
        builtin = [tool.name for tool in tools if tool.name in self._builtin_tools]
        in_json = json_call_rules(
            custom, max_calls=max_calls, separator=_CALL_SEPARATOR, before=f"{tag}?", after=end
        )
        calls = CallRules(
            alternatives=(*in_json.alternatives, *(f"{tag} {_builtin_body(name)} {end}" for name in builtin)),
            rules=(*in_json.rules, *((_STRING_RULE, _CODE_RULE) if builtin else ())),
        )
        return output_grammar(calls, choice, answer_schema=answer_schema)

    def _header_of(self, role: Role) -> list[Part]:
        return [self._header, _ROLE_NAMES[role], self._header_end, "\n\n"]

    def _message(self, role: Role, text: str) -> list[Part]:
        return [*self._header_of(role), text, self._eot]

    def _system_text(self, instructions: str, custom: Sequence[ToolSpec]) -> str:
        lines: list[str] = []
        if self._builtin_tools or custom:
            lines.append("Environment: ipython\n")
        if self._builtin_tools:
            listed = ", ".join(tool for tool in self._builtin_tools if tool != CODE_TOOL)
            lines.append(f"Tools: {listed}\n\n")
        lines.append(f"Cutting Knowledge Date: December 2023\nToday Date: {self._date}\n\n")
        if custom and self._tools_in == "system":
            lines.append(_TOOLS_IN_SYSTEM + _FORM + _tools_text(custom))
        return "".join([*lines, instructions.strip()])

    def _first_message(self, message: Message, custom: Sequence[ToolSpec]) -> list[Part]:
        if message.role is not Role.USER:
            raise ConfigurationError(
                "the tools stand in the first user message, but the conversation begins with role "
                f'{message.role}; set tools_in="system"'
            )
        text = _TOOLS_IN_USER + _FORM + _tools_text(custom) + message.content.strip()
        return self._message(Role.USER, text)

    def _conversation_message(self, message: Message) -> list[Part]:
        if message.role is Role.TOOL:
            return self._message(Role.TOOL, json.dumps(message.content, ensure_ascii=False))
        if not message.tool_calls:
            return self._message(message.role, message.content.strip())
        # As in the template, what was said beside a call is left out.
        parts = self._header_of(Role.ASSISTANT)
        for index, call in enumerate(message.tool_calls):
            parts += [_CALL_SEPARATOR if index else "", *self._call(call)]
        return [*parts, self._eom if self._builtin_tools else self._eot]

    def _call(self, call: ToolCall) -> list[Part]:
        if call.name not in self._builtin_tools:
            arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
            return [f'{{"name": "{call.name}", "parameters": {arguments}}}']
        if call.name == CODE_TOOL:
            return [self._tag, str(call.arguments.get("code", ""))]
        arguments = ", ".join(
            f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.arguments.items()
        )
        return [self._tag, f"{call.name}.call({arguments})"]


def _builtin_body(name: str) -> str:
    return "CODE" if name == CODE_TOOL else f'"{name}.call(query=" STRING ")"'


def _tools_text(tools: Sequence[ToolSpec]) -> str:
    return "".join(f"{_tool_json(tool)}\n\n" for tool in tools)


def _tool_json(tool: ToolSpec) -> str:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return json.dumps({"type": "function", "function": function}, indent=4, ensure_ascii=False)
