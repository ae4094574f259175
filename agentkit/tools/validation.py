"""From the arguments that a model wrote to those that a function takes, or to errors that it can act on.

Three steps: read values that are in another notation, check against the JSON Schema, convert to Python types.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError as SchemaViolation
from pydantic import TypeAdapter, ValidationError

from agentkit.errors import InvalidArgumentsError
from agentkit.json_schema import as_object, branches_of, resolved, types_of
from agentkit.nearest import nearest
from agentkit.tools.coercion import coerced, unfit
from agentkit.tools.wording import kind, listed, path, shown

MAX_PROBLEMS = 8
_MAX_MESSAGE_CHARS = 200

_BOUNDS: Mapping[str, str] = {
    "const": "exactly {}",
    "exclusiveMaximum": "less than {}",
    "exclusiveMinimum": "more than {}",
    "maxItems": "at most {} items",
    "maxLength": "at most {} characters",
    "maxProperties": "at most {} names",
    "maximum": "at most {}",
    "minItems": "at least {} items",
    "minLength": "at least {} characters",
    "minProperties": "at least {} names",
    "minimum": "at least {}",
    "multipleOf": "a multiple of {}",
    "pattern": "text matching {}",
    "uniqueItems": "no item twice",
}


def check_arguments(
    tool_name: str,
    arguments: Mapping[str, Any],
    *,
    validator: Draft202012Validator,
    types: Mapping[str, TypeAdapter[Any]],
) -> dict[str, Any]:
    """Return the arguments as Python values; the given ones are left unchanged.

    Raises:
        InvalidArgumentsError: naming every problem, up to `MAX_PROBLEMS`.
    """
    if not isinstance(arguments, Mapping):
        raise _invalid(tool_name, [f"expected a JSON object of arguments, got {shown(arguments)}"])
    given = dict(arguments)
    _refuse(tool_name, unfit(given))
    values = coerced(given, validator)
    _refuse(tool_name, _violations(values, validator))
    converted: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in values.items():
        try:
            converted[name] = types[name].validate_python(value) if name in types else value
        except ValidationError as error:
            problems += _conversion_problems(name, error)
        except Exception as error:  # noqa: BLE001  # a validator of the author's own may raise anything
            problems.append(f"{name}: was refused ({type(error).__name__})")
    _refuse(tool_name, iter(problems))
    return converted


def _refuse(tool_name: str, problems: Iterator[str]) -> None:
    found = list(dict.fromkeys(islice(problems, MAX_PROBLEMS + 1)))
    if found:
        raise _invalid(tool_name, found)


def _invalid(tool_name: str, problems: list[str]) -> InvalidArgumentsError:
    text = "; ".join(problems[:MAX_PROBLEMS])
    more = "; and more" if len(problems) > MAX_PROBLEMS else ""
    return InvalidArgumentsError(f"Invalid arguments for {tool_name}: {text}{more}.")


def _conversion_problems(name: str, error: ValidationError) -> list[str]:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return [f"{path((name, *detail['loc']))}: {detail['msg'][:_MAX_MESSAGE_CHARS]}" for detail in details]


def _violations(values: dict[str, Any], validator: Draft202012Validator) -> Iterator[str]:
    root = as_object(validator.schema)
    for violation in validator.iter_errors(values):
        yield from _described(violation, root)


def _described(violation: SchemaViolation, root: Mapping[str, Any]) -> Iterator[str]:
    keyword = str(violation.validator)
    place = path(violation.absolute_path)
    where = f"{place}: " if place else ""
    schema = as_object(violation.schema)
    if keyword == "required":
        yield from _missing(violation.instance, schema, where, root)
    elif keyword == "additionalProperties" and isinstance(violation.instance, dict):
        yield from _unknown(violation.instance, schema, where)
    elif keyword in ("anyOf", "oneOf"):
        yield from _no_branch(violation, where, root)
    elif keyword in ("type", "enum"):
        yield f"{where}expected {_expected(schema, root)}, got {_got(violation.instance)}"
    elif keyword in _BOUNDS:
        bound = _BOUNDS[keyword].format(shown(violation.validator_value))
        yield f"{where}expected {bound}, got {_got(violation.instance)}"
    else:
        yield f"{where}does not satisfy {keyword!r}"


def _missing(instance: Any, schema: Mapping[str, Any], where: str, root: Mapping[str, Any]) -> Iterator[str]:
    # One violation comes for each missing name without saying which; equal problems are merged later.
    properties = schema.get("properties", {})
    for name in schema["required"]:
        if name not in instance:
            yield f"{where}missing argument {name} ({_expected(properties.get(name, {}), root)})"


def _unknown(instance: dict[str, Any], schema: Mapping[str, Any], where: str) -> Iterator[str]:
    known = schema.get("properties", {})
    for name in instance:
        if name in known:
            continue
        guess = nearest(name, known)
        hint = f"did you mean {guess}?" if guess else f"the arguments are: {listed(known) or 'none'}"
        yield f"{where}unknown argument {shown(name)}; {hint}"


def _no_branch(violation: SchemaViolation, where: str, root: Mapping[str, Any]) -> Iterator[str]:
    """Say what is wrong inside the alternative that was probably meant: the only one of the value's type."""
    schema = as_object(violation.schema)
    branches = branches_of(schema)
    found = kind(violation.instance)
    meant = [number for number, branch in enumerate(branches) if found in types_of(resolved(branch, root))]
    if len(meant) != 1 or not violation.context:
        yield f"{where}expected {_expected(schema, root)}, got {_got(violation.instance)}"
        return
    for inner in violation.context:
        if inner.schema_path[0] == meant[0]:
            yield from _described(inner, root)


def _expected(node: Any, root: Mapping[str, Any]) -> str:
    schema = resolved(node, root)
    if "enum" in schema:
        values = [shown(value) for value in schema["enum"]]
        return values[0] if len(values) == 1 else f"one of {listed(values)}"
    if "const" in schema:
        return shown(schema["const"])
    if types_of(schema):
        return " or ".join(types_of(schema))
    branches = branches_of(schema)
    return listed(dict.fromkeys(_expected(branch, root) for branch in branches), between=" or ") or "a value"


def _got(value: Any) -> str:
    return f"{kind(value)} {shown(value)}" if isinstance(value, str | int | float) else shown(value)
