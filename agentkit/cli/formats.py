"""`agentkit prompt` and `agentkit parse`: what the model sees, and what its output means."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer

from agentkit.cli.loading import read_json, read_tool_specs
from agentkit.errors import ConfigurationError
from agentkit.inference.catalog import resolve
from agentkit.inference.formats import check_dialect, format_for
from agentkit.inference.formats.call_parser import CallParser, from_spelt
from agentkit.inference.tokenizer import load_tokenizer
from agentkit.messages import Message, Role, ToolCall


def run_prompt(path: Path, *, model: str, dialect: str | None, tools: Path | None, date: str | None) -> int:
    """Print `{"text", "ids"}` of the prompt for the messages in a file."""
    messages = _messages(path, read_json(path))
    tokenizer = load_tokenizer(resolve(model).path)
    options = {"date": date} if date is not None else {}
    prompt_format = format_for(tokenizer, dialect, **options)
    ids = prompt_format.render(messages, tools=read_tool_specs(tools))
    text = tokenizer.decode(ids, skip_special=False)
    typer.echo(json.dumps({"dialect": prompt_format.name, "text": text, "ids": ids}, ensure_ascii=False))
    return 0


def run_parse(*, dialect: str | None, tools: Path | None) -> int:
    """Print `{"content", "calls", "errors"}` of the output on stdin; return 1 if a call could not be read."""
    if dialect is not None:
        check_dialect(dialect)
    text = sys.stdin.read()
    parser = CallParser(read_tool_specs(tools) if tools is not None else None)
    parser.feed(from_spelt(text))
    _, parsed = parser.finish()
    report = {
        "content": parsed.content,
        "calls": [
            {"name": call.name, "arguments": call.arguments, "form": call.form} for call in parsed.calls
        ],
        "errors": [
            {"kind": issue.kind.value, "message": issue.message, "hint": issue.hint}
            for issue in parsed.issues
        ],
    }
    typer.echo(json.dumps(report, ensure_ascii=False))
    return 1 if parsed.issues else 0


def _messages(path: Path, items: Any) -> list[Message]:
    if not isinstance(items, list) or not items:
        raise ConfigurationError(f"{path} must hold a list of messages")
    return [_message(path, number, item) for number, item in enumerate(items, start=1)]


def _message(path: Path, number: int, item: Any) -> Message:
    if not isinstance(item, dict) or not isinstance(item.get("content", ""), str):
        raise ConfigurationError(
            f'{path}: message {number} must be an object with "role" and a string "content"'
        )
    content = item.get("content", "")
    match item.get("role"):
        case "system":
            return Message.system(content)
        case "user":
            return Message.user(content)
        case "assistant":
            return Message.assistant(
                content, tuple(_call(path, number, call) for call in item.get("tool_calls", ()))
            )
        case "tool" | "ipython":
            name = str(item.get("name", "tool"))
            return Message.tool(content, call=ToolCall(id=f"call_{number}", name=name, arguments={}))
        case role:
            roles = ", ".join([*(role.value for role in Role), "ipython"])
            raise ConfigurationError(f"{path}: message {number} has role {role!r}; the roles are {roles}")


def _call(path: Path, number: int, item: Any) -> ToolCall:
    if isinstance(item, dict) and isinstance(item.get("function"), dict):
        item = item["function"]
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise ConfigurationError(
            f'{path}: a tool call of message {number} must be an object with a string "name"'
        )
    arguments = item.get("arguments", item.get("parameters", {}))
    if not isinstance(arguments, dict):
        raise ConfigurationError(
            f"{path}: the arguments of a tool call of message {number} must be an object"
        )
    return ToolCall(id=f"call_{number}", name=item["name"], arguments=arguments)
