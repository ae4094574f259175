"""What the dialects with Llama 3's special tokens share: roles, ends, calls and their grammar. Writes no prompt."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, ClassVar

from agentkit.errors import ConfigurationError
from agentkit.inference.base import Grammar
from agentkit.inference.formats.base import ToolChoice
from agentkit.inference.formats.call_forms import ResultStyle, ToolFormat, check_option, write_calls
from agentkit.inference.formats.call_grammar import output_grammar
from agentkit.inference.formats.call_parser import CallParser
from agentkit.inference.formats.call_rules import CallRules, call_rules
from agentkit.inference.formats.calls import CODE_TOOL
from agentkit.inference.formats.output_decoder import TaggedDecoder, stop_token
from agentkit.inference.formats.parts import Part
from agentkit.inference.tokenizer import Tokenizer
from agentkit.messages import Role, ToolCall, ToolSpec

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
CALL_SEPARATOR = "; "

_ROLE_NAMES: Mapping[Role, str] = {
    Role.SYSTEM: "system",
    Role.USER: "user",
    Role.ASSISTANT: "assistant",
    Role.TOOL: "ipython",
}
_STRING_RULE = r'STRING: /"([^"\\\x00-\x1f]|\\(["\\\/bfnrt]|u[0-9a-fA-F]{4}))*"/'
_CODE_RULE = "CODE: /(?s:.+)/"


class LlamaOutputs(ABC):
    """Reads and constrains the outputs of models that have Llama 3.1's special tokens.

    Tools named in `builtin_tools` are announced by name only and called in the built-in form; their specs have
    to be among the tools all the same, for the calls to be accepted.

    Raises:
        ConfigurationError: if the tokenizer lacks a special token, or an option has no such value.
    """

    name: str
    # What a JSON call has before its name.
    json_opening: ClassVar[str] = "{"

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        tool_format: ToolFormat,
        builtin_tools: Sequence[str],
        tool_results: ResultStyle,
    ) -> None:
        missing = [special for special in REQUIRED_SPECIALS if special not in tokenizer.special_ids]
        if missing:
            raise ConfigurationError(f"dialect {self.name} needs the special tokens {', '.join(missing)}")
        unknown = [tool for tool in builtin_tools if tool not in BUILTIN_TOOLS]
        if unknown:
            raise ConfigurationError(
                f"{unknown[0]!r} is no built-in tool; they are {', '.join(BUILTIN_TOOLS)}"
            )
        check_option("tool_format", tool_format, ToolFormat)
        check_option("tool_results", tool_results, ResultStyle)
        self._tokenizer = tokenizer
        self._tool_format: ToolFormat = tool_format
        self._builtin_tools = tuple(builtin_tools)
        self._tool_results: ResultStyle = tool_results
        self._bos, self._eos, self._header, self._header_end, self._eot, self._eom, self._tag = (
            tokenizer.special_ids[special] for special in REQUIRED_SPECIALS
        )

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ends of a turn, of a message that waits for a tool, and of the text."""
        return frozenset({self._eot, self._eom, self._eos})

    def close_turn(self, output_ids: Sequence[int]) -> list[int]:
        """Return the end of the turn where the output has none."""
        if output_ids and output_ids[-1] in (self._eot, self._eom):
            return []
        return [self._eot]

    def stop_token(self, output_ids: Sequence[int]) -> str | None:
        """Return the special token that ended an output; None where it was cut short."""
        return stop_token(self._tokenizer, self.stop_ids, output_ids)

    def output_decoder(self) -> TaggedDecoder:
        """Return a decoder for one output."""
        return TaggedDecoder(self._tokenizer, stop_ids=self.stop_ids, python_tag_id=self._tag)

    def output_text(self, output_ids: Sequence[int]) -> str:
        """Return the text of a whole output, as `output_decoder` gives it."""
        decoder = self.output_decoder()
        return "".join([*map(decoder.feed, output_ids), decoder.finish()])

    def parser(self, tools: Sequence[ToolSpec]) -> CallParser:
        """Return a parser for one output."""
        return CallParser(tools, tool_format=self._tool_format)

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
        builtin = [tool.name for tool in tools if tool.name in self._builtin_tools]
        custom = call_rules(
            self._custom(tools),
            self._tool_format,
            max_calls=max_calls,
            separator=CALL_SEPARATOR,
            before=tag if self._tool_format == "builtin" else f"{tag}?",
            after=end,
            json_opening=self.json_opening,
            answer_schema=answer_schema,
        )
        calls = CallRules(
            alternatives=(*custom.alternatives, *(f"{tag} {_builtin_body(name)} {end}" for name in builtin)),
            rules=(*custom.rules, *((_STRING_RULE, _CODE_RULE) if builtin else ())),
            names=(*custom.names, *builtin),
        )
        return output_grammar(calls, choice, answer_schema=answer_schema)

    def _custom(self, tools: Sequence[ToolSpec]) -> list[ToolSpec]:
        return [tool for tool in tools if tool.name not in self._builtin_tools]

    def _header_of(self, role: Role) -> list[Part]:
        return [self._header, _ROLE_NAMES[role], self._header_end, "\n\n"]

    def _message(self, role: Role, text: str) -> list[Part]:
        return [*self._header_of(role), text, self._eot]

    def _calls(self, calls: Sequence[ToolCall]) -> list[Part]:
        """Return the calls of one message; built-in ones stand by themselves, each after its own tag."""
        parts: list[Part] = []
        for is_builtin, group in groupby(calls, key=lambda call: call.name in self._builtin_tools):
            for call in group if is_builtin else ():
                parts += [CALL_SEPARATOR if parts else "", self._tag, self._builtin_text(call)]
            if not is_builtin:
                text = write_calls(
                    list(group), self._tool_format, separator=CALL_SEPARATOR, write_json=self._json_text
                )
                parts += [CALL_SEPARATOR if parts else "", *self._custom_tag(), text]
        return parts

    def _custom_tag(self) -> list[Part]:
        return [self._tag] if self._tool_format == "builtin" else []

    def _json_text(self, call: ToolCall) -> str:
        arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
        return f'{{"name": "{call.name}", "parameters": {arguments}}}'

    @abstractmethod
    def _builtin_text(self, call: ToolCall) -> str:
        """Return the call of a built-in tool, without the tag."""


def _builtin_body(name: str) -> str:
    return "CODE" if name == CODE_TOOL else f'"{name}.call(query=" STRING ")"'
