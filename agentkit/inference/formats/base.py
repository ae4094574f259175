"""The Format protocol: messages and tools -> prompt ids, and output text -> text or tool calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from agentkit.inference.base import Grammar
from agentkit.messages import Message, ToolSpec


class ToolChoice(StrEnum):
    """Whether the model may call a tool in this step."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


class IssueKind(StrEnum):
    """What is wrong with an attempted call."""

    UNKNOWN_TOOL = "unknown_tool"
    TRUNCATED = "truncated"
    MALFORMED_JSON = "malformed_json"
    MALFORMED_CALL = "malformed_call"
    INVALID_ARGUMENTS = "invalid_arguments"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedCall:
    """A call as the model wrote it; `form` names the syntax it used (for instance `json` or `builtin`)."""

    name: str
    arguments: dict[str, Any]
    form: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseIssue:
    """An attempted call that cannot be executed. `message` and `hint` are safe for the model to read."""

    kind: IssueKind
    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedOutput:
    """What a whole output means: text for the user, calls to make, attempts that failed."""

    content: str
    calls: tuple[ParsedCall, ...] = ()
    issues: tuple[ParseIssue, ...] = ()


class OutputParser(Protocol):
    """Reads one output while it is generated. Feeding it in any chunks gives the same text and result."""

    def feed(self, text: str) -> str:
        """Take more output; return the text that is certainly for the user."""

    def finish(self, *, truncated: bool = False) -> tuple[str, ParsedOutput]:
        """End the output; return the text that was still held back, and what the whole means."""


class OutputDecoder(Protocol):
    """Decodes one output id by id; all pieces together are what `Format.output_text` gives."""

    def feed(self, token_id: int) -> str:
        """Return the text that is certain now; never half a character."""

    def finish(self) -> str:
        """End the output; return U+FFFD if a character was left incomplete."""


class Format(Protocol):
    """One dialect of prompts for one tokenizer. Pure: no clock, no state between calls.

    Content is always encoded with special tokens disallowed: text cannot forge a role or an end of turn.
    """

    name: str

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end an output."""

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        start: int = 0,
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """Return the ids of `messages[start:]`, given that `messages[:start]` are in the context already.

        With `start=0` that is the whole prompt, beginning-of-text included. A system message may only be the
        first. Rendering in parts gives the ids of rendering whole, except that what the model generated
        keeps the ids that it generated.

        Raises:
            ConfigurationError: if the dialect cannot express the messages.
        """

    def close_turn(self, output_ids: Sequence[int]) -> list[int]:
        """Return the ids to append after a generated output so that its message is complete."""

    def stop_token(self, output_ids: Sequence[int]) -> str | None:
        """Return the special token that ended an output, such as `<|eom_id|>`; None where it was cut short."""

    def output_decoder(self) -> OutputDecoder:
        """Return a decoder for one output. What it gives is for the parser, not for the user.

        Special ids have no text, except that the python tag becomes `call_parser.PYTHON_TAG`, which ordinary
        tokens cannot spell.
        """

    def output_text(self, output_ids: Sequence[int]) -> str:
        """Return the text of a whole output, as `output_decoder` gives it."""

    def parser(self, tools: Sequence[ToolSpec]) -> OutputParser:
        """Return a parser for one output, given the tools that were offered."""

    def call_grammar(
        self,
        tools: Sequence[ToolSpec],
        choice: ToolChoice,
        *,
        max_calls: int = 1,
        answer_schema: Mapping[str, Any] | None = None,
    ) -> Grammar | None:
        """Return the grammar of one output; None where nothing is to be constrained.

        `AUTO` is an answer or calls that fit their tools' schemas, `REQUIRED` only calls, `NONE` only the answer.
        There are at most `max_calls` in one output; a call in a form of its own, such as code, stands alone.
        With an `answer_schema` the answer is JSON that fits it, without one it is text that does not begin
        like a call.

        Raises:
            ConfigurationError: if a call is required and no tool is offered.
            GrammarError: if a schema says something that a grammar cannot hold, naming the keyword.
        """
