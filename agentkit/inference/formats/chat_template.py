"""A checkpoint's Jinja chat template, run in a sandbox on placeholders. Knows no tokens.

The template never sees content: it sees a mark in its place. So whatever stands around the marks was written
by the template's author, and nothing that a user writes can act on the template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from agentkit.errors import ConfigurationError

# Noncharacters delimit a mark. The em space around it shows whether the template strips content: `strip()`
# takes it like any other whitespace, and no template writes it itself.
_SPACE = "\N{EM SPACE}"
_OPEN, _CLOSE = "\ufdd1", "\ufdd2"
_MARK = re.compile(f"({_SPACE}?){_OPEN}(\\d+){_CLOSE}({_SPACE}?)")
# What running somebody else's template can raise, besides Jinja's own errors.
_FAILURES = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message as a template sees it."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of a rendered prompt: written by the template, or the content of the turn at `turn`."""

    text: str
    turn: int | None = None


class ChatTemplate:
    """A compiled template. `variables` are what it may name besides the messages, for instance `bos_token`.

    There is no clock in it: `strftime_now` is not defined, and templates fall back on their own date.

    Raises:
        ConfigurationError: if the template is not valid Jinja.
    """

    def __init__(self, source: str, *, variables: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationBlock]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        self._variables = dict(variables)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as exc:
            raise ConfigurationError(f"the chat template is not valid Jinja: {exc}") from exc

    def render(self, turns: Sequence[Turn], *, add_generation_prompt: bool) -> list[Piece]:
        """Return the prompt in pieces, with content stripped where the template strips it.

        Raises:
            ConfigurationError: if the template refuses the messages, or leaves one out.
        """
        messages = [
            {"role": turn.role, "content": _mark(index) if turn.content else ""}
            for index, turn in enumerate(turns)
        ]
        try:
            text = self._template.render(
                **self._variables, messages=messages, tools=None, add_generation_prompt=add_generation_prompt
            )
        except jinja2.TemplateError as exc:
            raise ConfigurationError(f"the chat template refuses the messages: {exc}") from exc
        except _FAILURES as exc:
            raise ConfigurationError(
                f"the chat template fails on the messages with {type(exc).__name__}: {exc}"
            ) from exc
        return _split(text, turns)


def _mark(index: int) -> str:
    return f"{_SPACE}{_OPEN}{index}{_CLOSE}{_SPACE}"


def _split(text: str, turns: Sequence[Turn]) -> list[Piece]:
    pieces: list[Piece] = []
    done = 0
    for mark in _MARK.finditer(text):
        before, index, after = mark.groups()
        content = turns[int(index)].content
        content = content if before else content.lstrip()
        content = content if after else content.rstrip()
        pieces += [Piece(text=text[done : mark.start()]), Piece(text=content, turn=int(index))]
        done = mark.end()
    pieces.append(Piece(text=text[done:]))
    written = {piece.turn for piece in pieces}
    for index, turn in enumerate(turns):
        if turn.content and index not in written:
            raise ConfigurationError(f"the chat template leaves out message {index} of role {turn.role}")
    return pieces


def _to_json(value: Any, indent: int | None = None, **options: Any) -> str:
    """Return plain JSON: Jinja's own filter escapes for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent, **options)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


class _GenerationBlock(Extension):
    """Reads transformers' `{% generation %}` blocks, which mark text for training, as what they hold."""

    tags = {"generation"}  # noqa: RUF012  # as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
