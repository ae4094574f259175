"""Prompts by the checkpoint's own chat template, with tools described in the system message. No Jinja here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.inference.base import Grammar
from agentkit.inference.formats import tool_prompt
from agentkit.inference.formats.base import ToolChoice
from agentkit.inference.formats.call_forms import ResultStyle, ToolFormat, check_option, result_content
from agentkit.inference.formats.call_grammar import output_grammar
from agentkit.inference.formats.call_parser import CallParser
from agentkit.inference.formats.call_rules import call_rules
from agentkit.inference.formats.chat_template import ChatTemplate, Piece, Turn
from agentkit.inference.formats.output_decoder import TaggedDecoder, stop_token
from agentkit.inference.formats.parts import Part, check_messages, encode_parts, merge_runs
from agentkit.inference.tokenizer import Tokenizer
from agentkit.messages import Message, Role, ToolSpec


class TemplateFormat:
    """Renders with a Jinja template; special tokens are recognised in the template's own text only.

    `date` is what the template may print as today's date, where it asks for one.

    Raises:
        ConfigurationError: if the template is not valid, or cannot express a question and an answer.
    """

    name = "template"

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: str,
        *,
        date: str | None = None,
        tool_format: ToolFormat = "json",
        tool_results: ResultStyle = "verbatim",
    ) -> None:
        check_option("tool_format", tool_format, ToolFormat)
        check_option("tool_results", tool_results, ResultStyle)
        self._tokenizer = tokenizer
        self._tool_format: ToolFormat = tool_format
        self._tool_results: ResultStyle = tool_results
        self._template = ChatTemplate(template, variables=_variables(tokenizer, date))
        # Longest first: a special token may begin with the spelling of another.
        specials = sorted(tokenizer.special_ids, key=len, reverse=True)
        self._specials = re.compile("|".join(map(re.escape, specials)) or r"(?!)")
        self._turn_end = self._probe_turn_end()
        self._result_role = self._probe_result_role()

    @property
    def stop_ids(self) -> frozenset[int]:
        """The tokenizer's ends, and the special token that ends an assistant's message in the template."""
        return self._tokenizer.eos_ids | set(self._turn_end_ids[:1])

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
        turns = self._turns(messages, tools)
        whole = self._parts(self._template.render(turns, add_generation_prompt=add_generation_prompt))
        if start == 0:
            return encode_parts(whole, self._tokenizer)
        rendered = start + len(turns) - len(messages)
        begun = self._parts(self._template.render(turns[:rendered], add_generation_prompt=False))
        return self._ids_after(begun, whole, start=start)

    def close_turn(self, output_ids: Sequence[int]) -> list[int]:
        """Return what the template writes after an assistant's content, less what the output has of it."""
        end = self._turn_end
        if output_ids and output_ids[-1] in self._turn_end_ids[:1]:
            end = end[end.index(output_ids[-1]) + 1 :]
        return encode_parts(end, self._tokenizer)

    def stop_token(self, output_ids: Sequence[int]) -> str | None:
        """Return the special token that ended an output; None where it was cut short."""
        return stop_token(self._tokenizer, self.stop_ids, output_ids)

    def output_decoder(self) -> TaggedDecoder:
        """Return a decoder for one output."""
        tag = self._tokenizer.special_ids.get("<|python_tag|>")
        return TaggedDecoder(self._tokenizer, stop_ids=self.stop_ids, python_tag_id=tag)

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
        calls = call_rules(
            tools,
            self._tool_format,
            max_calls=max_calls,
            separator=tool_prompt.CALL_SEPARATOR,
            answer_schema=answer_schema,
        )
        return output_grammar(calls, choice, answer_schema=answer_schema)

    @property
    def _turn_end_ids(self) -> list[int]:
        return [part for part in self._turn_end if isinstance(part, int)]

    def _turns(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[Turn]:
        turns = [self._turn(message) for message in messages]
        if not tools:
            return turns
        has_system = bool(messages) and messages[0].role is Role.SYSTEM
        instructions = messages[0].content if has_system else ""
        described = Turn(
            role="system", content=tool_prompt.system_text(instructions, tools, self._tool_format)
        )
        examples = [self._turn(message) for message in tool_prompt.EXAMPLES]
        return [described, *examples, *turns[1 if has_system else 0 :]]

    def _turn(self, message: Message) -> Turn:
        if message.role is Role.ASSISTANT:
            return Turn(role="assistant", content=tool_prompt.assistant_text(message, self._tool_format))
        if message.role is not Role.TOOL:
            return Turn(role=message.role.value, content=message.content)
        if self._result_role is None:
            roles = " or ".join(tool_prompt.RESULT_ROLES)
            raise ConfigurationError(
                f"the chat template has no place for a tool's result: it refuses role {roles}"
            )
        result = result_content(message.content, self._tool_results)
        heading = tool_prompt.result_heading(message, self._result_role)
        return Turn(role=self._result_role, content=heading + result)

    def _parts(self, pieces: Sequence[Piece]) -> list[Part]:
        parts: list[Part] = []
        for piece in pieces:
            if piece.turn is not None:
                parts.append(piece.text)
                continue
            done = 0
            for special in self._specials.finditer(piece.text):
                parts += [piece.text[done : special.start()], self._tokenizer.special_ids[special[0]]]
                done = special.end()
            parts.append(piece.text[done:])
        return merge_runs(parts)

    def _ids_after(self, begun: list[Part], whole: list[Part], *, start: int) -> list[int]:
        """Return the ids of what `whole` has after `begun`.

        Raises:
            ConfigurationError: if `whole` does not begin with `begun`, in text or in ids.
        """
        same = len(begun) <= len(whole) and begun[:-1] == whole[: len(begun) - 1]
        if same and (not begun or begun[-1] == whole[len(begun) - 1]):
            return encode_parts(whole[len(begun) :], self._tokenizer)
        if same:
            # The last run of text goes on: the cut has to fall between two of its ids.
            run, rest = encode_parts([begun[-1]], self._tokenizer), whole[len(begun) - 1 :]
            longer = encode_parts(rest[:1], self._tokenizer)
            if isinstance(begun[-1], str) and longer[: len(run)] == run:
                return longer[len(run) :] + encode_parts(rest[1:], self._tokenizer)
        raise ConfigurationError(
            f"the chat template writes the first {start} messages differently when more follow, "
            "so a conversation cannot be continued; use another template"
        )

    def _probe_turn_end(self) -> list[Part]:
        """Return what the template writes after an assistant's content."""
        turns = [Turn(role="user", content="question"), Turn(role="assistant", content="answer")]
        pieces = self._template.render(turns, add_generation_prompt=False)
        last = max(index for index, piece in enumerate(pieces) if piece.turn == 1)
        return self._parts(pieces[last + 1 :])

    def _probe_result_role(self) -> str | None:
        turns = [Turn(role="user", content="question"), Turn(role="assistant", content="call")]
        for role in tool_prompt.RESULT_ROLES:
            try:
                self._template.render([*turns, Turn(role=role, content="result")], add_generation_prompt=True)
            except ConfigurationError:
                continue
            return role
        return None


def _variables(tokenizer: Tokenizer, date: str | None) -> dict[str, str]:
    names = {token_id: name for name, token_id in tokenizer.special_ids.items()}
    # Of several ends, the end of a message was added to the vocabulary after the end of a text.
    eos_id = max(tokenizer.eos_ids, default=None)
    variables = {
        "bos_token": names.get(tokenizer.bos_id, "") if tokenizer.bos_id is not None else "",
        "eos_token": names.get(eos_id, "") if eos_id is not None else "",
    }
    return variables if date is None else {**variables, "date_string": date}
