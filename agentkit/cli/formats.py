"""`agentkit prompt` and `agentkit parse`: what the model sees, and what its output means."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from agentkit.cli.exit_codes import EXIT_FINDING, EXIT_OK
from agentkit.cli.json_input import read_tool_specs
from agentkit.cli.messages import read_messages
from agentkit.cli.options import EMBEDDED_MODEL
from agentkit.cli.output import write_json, write_note
from agentkit.cli.standard_input import read_stdin
from agentkit.errors import ConfigurationError, InvalidArgumentsError
from agentkit.inference.catalog import resolve
from agentkit.inference.formats import check_dialect, format_for
from agentkit.inference.formats.base import IssueKind, ParsedCall, ParsedOutput, ParseIssue
from agentkit.inference.formats.call_forms import ResultStyle, ToolFormat, ToolsIn, check_option
from agentkit.inference.formats.call_parser import CallParser, from_spelt
from agentkit.inference.formats.dialects import LLAMA_DIALECTS
from agentkit.inference.formats.llama import BUILTIN_TOOLS
from agentkit.inference.tokenizer import Tokenizer, load_tokenizer
from agentkit.messages import ToolSpec
from agentkit.shields.policy_errors import with_nearest
from agentkit.tools.validation import check_arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptOptions:
    """The options of a format as the command line has them; None where they are not given."""

    dialect: str | None
    tool_format: str | None
    builtin_tools: str | None
    date: str | None = None
    tools_in: str | None = None
    tool_results: str | None = None

    def __post_init__(self) -> None:
        if self.dialect is not None:
            check_dialect(self.dialect)
        choices = (
            ("--tool-format", self.tool_format, ToolFormat),
            ("--tools-in", self.tools_in, ToolsIn),
            ("--tool-results", self.tool_results, ResultStyle),
        )
        for option, value, kind in choices:
            if value is not None:
                check_option(option, value, kind)

    def builtin_names(self) -> tuple[str, ...]:
        """Return the built-in tools that are named.

        Raises:
            ConfigurationError: if there is none of a name.
        """
        names = tuple(name.strip() for name in (self.builtin_tools or "").split(",") if name.strip())
        for name in names:
            if name not in BUILTIN_TOOLS:
                message = f"--builtin-tools: there is no built-in tool {name!r}"
                raise ConfigurationError(with_nearest(message, name, BUILTIN_TOOLS))
        return names

    def given(self) -> dict[str, Any]:
        """Return the options that a format is built with."""
        options = {
            "date": self.date,
            "tool_format": self.tool_format,
            "tools_in": self.tools_in,
            "tool_results": self.tool_results,
            "builtin_tools": self.builtin_names() or None,
        }
        return {name: value for name, value in options.items() if value is not None}


def run_prompt(messages: Path, *, model: str | None, tools: Path | None, options: PromptOptions) -> int:
    """Print `{"dialect", "text", "ids"}` of the prompt for the messages in a file."""
    given = options.given()
    conversation = read_messages(messages)
    specs = [] if tools is None else read_tool_specs(tools)
    tokenizer = _tokenizer(model, options.dialect)
    if "builtin_tools" in given:
        _check_takes_builtin_tools(tokenizer, model or EMBEDDED_MODEL, options.dialect)
    prompt_format = format_for(tokenizer, options.dialect, **given)
    ids = prompt_format.render(conversation, tools=specs)
    text = tokenizer.decode(ids, skip_special=False)
    write_json({"dialect": prompt_format.name, "text": text, "ids": ids})
    return EXIT_OK


def run_parse(*, tools: Path | None, options: PromptOptions) -> int:
    """Print `{"content", "calls", "errors"}` of the output on stdin; return 1 if a call could not be read."""
    builtin = [ToolSpec(name=name, description="", parameters={}) for name in options.builtin_names()]
    specs = builtin if tools is None else [*read_tool_specs(tools), *builtin]
    known = None if tools is None and not builtin else specs
    parser = CallParser(known, tool_format=cast("ToolFormat", options.tool_format or "json"))
    parser.feed(from_spelt(read_stdin()))
    parsed = _with_checked_arguments(parser.finish()[1], specs)
    calls = [{"name": call.name, "arguments": call.arguments, "form": call.form} for call in parsed.calls]
    errors = [
        {"kind": issue.kind.value, "message": issue.message, "hint": issue.hint} for issue in parsed.issues
    ]
    write_json({"content": parsed.content, "calls": calls, "errors": errors})
    return EXIT_FINDING if errors else EXIT_OK


def _tokenizer(model: str | None, dialect: str | None) -> Tokenizer:
    """Return the tokenizer of a model; without one, of the model that the dialect is for."""
    if model is not None or dialect not in LLAMA_DIALECTS:
        return load_tokenizer(resolve(model or EMBEDDED_MODEL).path)
    package = importlib.util.find_spec("llama_models")
    if package is None or package.origin is None:
        raise ConfigurationError(
            f"dialect {dialect} needs Llama's tokenizer: name a checkpoint with -m, or install llama-models"
        )
    return load_tokenizer(Path(package.origin).parent / "llama3")


def _check_takes_builtin_tools(tokenizer: Tokenizer, model: str, dialect: str | None) -> None:
    name = format_for(tokenizer, dialect).name
    if name not in LLAMA_DIALECTS:
        raise ConfigurationError(
            f"--builtin-tools is for the dialects hf-3.1 and meta; the dialect of {model} is {name}"
        )


def _with_checked_arguments(parsed: ParsedOutput, specs: list[ToolSpec]) -> ParsedOutput:
    """Return the output with calls whose arguments do not fit their tool's schema among the issues."""
    validators = {spec.name: _validator(spec) for spec in specs}
    calls: list[ParsedCall] = []
    issues = list(parsed.issues)
    for call in parsed.calls:
        validator = validators.get(call.name)
        try:
            if validator is not None:
                check_arguments(call.name, call.arguments, validator=validator, types={})
            calls.append(call)
        except InvalidArgumentsError as error:
            hint = "Correct the arguments and make the call again."
            issues.append(ParseIssue(kind=IssueKind.INVALID_ARGUMENTS, message=str(error), hint=hint))
    return replace(parsed, calls=tuple(calls), issues=tuple(issues))


def _validator(spec: ToolSpec) -> Draft202012Validator | None:
    schema = dict(spec.parameters)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError:
        write_note(
            f"agentkit: the parameters of tool {spec.name} are no JSON Schema; arguments stay unchecked"
        )
        return None
    return Draft202012Validator(schema)
