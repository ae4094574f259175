"""What a function's signature and docstring say about its arguments, as JSON Schema and as converters."""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import docstring_parser
import pydantic_core
from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from agentkit.errors import ToolDefinitionError
from agentkit.json_schema import DEFS, simplified, types_of
from agentkit.tools.base import Code

# How transformers' `get_json_schema` reads the values that a text may have: (choices: ["celsius", "fahrenheit"])
_CHOICES = re.compile(r"\s*\(choices:\s*(.*?)\)\s*$", re.IGNORECASE)

_REFUSED_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "is positional-only; remove the '/' so that it can be passed by name",
    inspect.Parameter.VAR_POSITIONAL: "takes any number of values; use one argument of type list[str]",
    inspect.Parameter.VAR_KEYWORD: "takes any names; name the arguments, or use one of type dict[str, str]",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What can be read off a function: what it does, its arguments' schema, how to convert their values."""

    description: str | None
    parameters: Mapping[str, Any]
    types: Mapping[str, TypeAdapter[Any]]
    code_arguments: Mapping[str, str]


def read_signature(function: Callable[..., Any], *, name: str) -> Signature:
    """Read a function. The schema equals that of transformers' `get_json_schema` where both can express it.

    Raises:
        ToolDefinitionError: naming the tool, the argument and what to change.
    """
    arguments = inspect.signature(function).parameters.values()
    hints = {argument.name: _hint(function, argument, tool=name) for argument in arguments}
    adapters = {argument: _adapter(hint, argument, tool=name) for argument, hint in hints.items()}
    docstring = docstring_parser.parse(inspect.getdoc(function) or "")
    documented = {doc.arg_name: doc.description for doc in docstring.params if doc.description}

    properties, definitions = _schemas(adapters)
    code_arguments: dict[str, str] = {}
    for argument in arguments:
        schema = properties[argument.name]
        _describe(schema, argument, documented.get(argument.name), tool=name)
        language = _code_language(hints[argument.name], argument.name, schema, tool=name)
        if language is not None:
            schema["contentMediaType"] = f"text/x-{language}"
            code_arguments[argument.name] = language

    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    required = [argument.name for argument in arguments if argument.default is inspect.Parameter.empty]
    if required:
        parameters["required"] = required
    return Signature(
        description=(docstring.description or "").strip() or None,
        parameters=simplified({**parameters, **definitions}),
        types=adapters,
        code_arguments=code_arguments,
    )


def _hint(function: Callable[..., Any], argument: inspect.Parameter, *, tool: str) -> Any:
    if argument.kind in _REFUSED_KINDS:
        raise _refused(tool, argument.name, _REFUSED_KINDS[argument.kind])
    if argument.annotation is inspect.Parameter.empty:
        if argument.name in ("self", "cls"):
            raise _refused(
                tool, argument.name, "a method needs its object; wrap the bound method: tool(object.method)"
            )
        raise _refused(tool, argument.name, f"has no type; annotate it, for instance {argument.name}: str")
    holder = types.SimpleNamespace(__annotations__={argument.name: argument.annotation})
    module = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return get_type_hints(holder, globalns=module, include_extras=True)[argument.name]
    except (NameError, SyntaxError, TypeError, AttributeError) as error:
        raise _refused(
            tool,
            argument.name,
            f"its type cannot be resolved ({error}); define the type at the top of the module",
        ) from error


def _adapter(hint: Any, argument: str, *, tool: str) -> TypeAdapter[Any]:
    try:
        adapter = TypeAdapter(hint)
        adapter.json_schema()
    except (PydanticUserError, NameError, TypeError) as error:
        shown = getattr(hint, "__name__", None) or str(hint)
        raise _refused(
            tool,
            argument,
            f"type {shown} has no JSON form; use str, int, float, bool, list, dict, Literal, Enum, "
            "a dataclass or a pydantic model",
        ) from error
    return adapter


def _schemas(adapters: Mapping[str, TypeAdapter[Any]]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return the schema of each argument, and their shared definitions under `$defs`."""
    schemas, rest = TypeAdapter.json_schemas(
        [(name, "validation", adapter) for name, adapter in adapters.items()], ref_template=DEFS + "{model}"
    )
    definitions = {"$defs": rest["$defs"]} if "$defs" in rest else {}
    return {name: dict(schema) for (name, _), schema in schemas.items()}, definitions


def _describe(
    schema: dict[str, Any], argument: inspect.Parameter, description: str | None, *, tool: str
) -> None:
    """Add the docstring's words and choices, and the default, unless it is None or has no JSON form."""
    if description is not None:
        text = re.sub(r"\s*\n\s*", " ", description.strip())
        choices = _CHOICES.search(text) if schema.get("type") == "string" and "enum" not in schema else None
        if choices is not None:
            schema["enum"] = _read_choices(choices.group(1), argument.name, tool=tool)
            text = text[: choices.start()]
        schema["description"] = text
    schema.pop("default", None)
    if argument.default is inspect.Parameter.empty or argument.default is None:
        return
    try:
        schema["default"] = pydantic_core.to_jsonable_python(argument.default)
    except ValueError:  # PydanticSerializationError is one
        return


def _read_choices(written: str, argument: str, *, tool: str) -> list[str]:
    try:
        choices = json.loads(written)
    except ValueError:
        choices = None
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, str) for choice in choices):
        raise _refused(
            tool,
            argument,
            'its choices are no list of texts; write (choices: ["a", "b"]), or use Literal["a", "b"]',
        )
    return choices


def _code_language(hint: Any, argument: str, schema: Mapping[str, Any], *, tool: str) -> str | None:
    marks = _marks(hint)
    is_text = "string" in _text_types(schema)
    if not marks:
        return "python" if argument == "code" and is_text else None
    if len(set(marks)) > 1 or not is_text or _is_marked_inside(hint):
        raise _refused(tool, argument, "Code marks one whole text argument: Annotated[str, Code('python')]")
    return marks[0].language


def _text_types(schema: Mapping[str, Any]) -> tuple[str, ...]:
    branches = schema.get("anyOf", ())
    return (*types_of(schema), *(name for branch in branches for name in types_of(branch)))


def _marks(hint: Any) -> list[Code]:
    hint = getattr(hint, "__value__", hint)  # `type Script = ...` of Python 3.12
    if isinstance(hint, Code):
        return [hint]
    metadata = getattr(hint, "__metadata__", ())
    return [mark for part in (*get_args(hint), *metadata) for mark in _marks(part)]


def _is_marked_inside(hint: Any) -> bool:
    """Tell whether a mark sits in a container, where no argument as a whole is code."""
    hint = getattr(hint, "__value__", hint)
    if get_origin(hint) is Annotated:
        return _is_marked_inside(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return any(_is_marked_inside(part) for part in get_args(hint))
    return bool(_marks(hint))


def _refused(tool: str, argument: str, problem: str) -> ToolDefinitionError:
    return ToolDefinitionError(f"tool {tool}, argument {argument}: {problem}")
