"""`agentkit prompt` and `agentkit parse`: what the model sees, and what its output means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agentkit.cli.exit_codes import EXIT_FINDING, EXIT_OK
from agentkit.cli.json_input import read_tool_specs
from agentkit.cli.messages import read_messages
from agentkit.cli.output import write_json
from agentkit.cli.standard_input import read_stdin
from agentkit.errors import ConfigurationError
from agentkit.inference.catalog import resolve
from agentkit.inference.formats import check_dialect, format_for
from agentkit.inference.formats.call_parser import CallParser, from_spelt
from agentkit.inference.formats.llama31 import BUILTIN_TOOLS, Llama31Format
from agentkit.inference.tokenizer import Tokenizer, load_tokenizer
from agentkit.shields.policy_errors import with_nearest


def run_prompt(
    messages: Path,
    *,
    model: str,
    dialect: str | None,
    tools: Path | None,
    builtin_tools: str | None,
    date: str | None,
) -> int:
    """Print `{"dialect", "text", "ids"}` of the prompt for the messages in a file."""
    if dialect is not None:
        check_dialect(dialect)
    options: dict[str, Any] = {} if date is None else {"date": date}
    if builtin_tools is not None:
        options["builtin_tools"] = _builtin_tools(builtin_tools)
    conversation = read_messages(messages)
    specs = [] if tools is None else read_tool_specs(tools)
    tokenizer = load_tokenizer(resolve(model).path)
    if builtin_tools is not None:
        _check_takes_builtin_tools(tokenizer, model, dialect)
    prompt_format = format_for(tokenizer, dialect, **options)
    ids = prompt_format.render(conversation, tools=specs)
    text = tokenizer.decode(ids, skip_special=False)
    write_json({"dialect": prompt_format.name, "text": text, "ids": ids})
    return EXIT_OK


def run_parse(*, dialect: str | None, tools: Path | None) -> int:
    """Print `{"content", "calls", "errors"}` of the output on stdin; return 1 if a call could not be read."""
    if dialect is not None:
        check_dialect(dialect)
    parser = CallParser(None if tools is None else read_tool_specs(tools))
    parser.feed(from_spelt(read_stdin()))
    _, parsed = parser.finish()
    calls = [{"name": call.name, "arguments": call.arguments, "form": call.form} for call in parsed.calls]
    errors = [
        {"kind": issue.kind.value, "message": issue.message, "hint": issue.hint} for issue in parsed.issues
    ]
    write_json({"content": parsed.content, "calls": calls, "errors": errors})
    return EXIT_FINDING if errors else EXIT_OK


def _builtin_tools(written: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in written.split(",") if name.strip())
    for name in names:
        if name not in BUILTIN_TOOLS:
            message = f"--builtin-tools: there is no built-in tool {name!r}"
            raise ConfigurationError(with_nearest(message, name, BUILTIN_TOOLS))
    return names


def _check_takes_builtin_tools(tokenizer: Tokenizer, model: str, dialect: str | None) -> None:
    name = format_for(tokenizer, dialect).name
    if name != Llama31Format.name:
        raise ConfigurationError(
            f"--builtin-tools is for dialect {Llama31Format.name}; the dialect of {model} is {name}"
        )
