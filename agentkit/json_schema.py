"""JSON Schemas in two forms: as a model reads them, and as arguments are held to. Knows no function and no value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

DEFS = "#/$defs/"

# Keywords whose value is a schema, a list of schemas, or a mapping of names to schemas.
_SCHEMA = ("items", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else")
_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED_SCHEMAS = ("properties", "patternProperties", "$defs", "dependentSchemas")

# https://json-schema.org/draft/2020-12/json-schema-validation, section 7.3; the empty one stands for none.
_FORMATS = frozenset(
    {
        "",
        "date-time",
        "date",
        "time",
        "duration",
        "email",
        "idn-email",
        "hostname",
        "idn-hostname",
        "ipv4",
        "ipv6",
    }
    | {"uri", "uri-reference", "iri", "iri-reference", "uri-template", "uuid", "json-pointer", "regex"}
    | {"relative-json-pointer"}
)

_STRUCTURE = ("type", "properties", "required", "items", "anyOf", "oneOf")

_COMBINING = ("allOf", "anyOf", "oneOf", "if", "then", "else", "$ref")

_FIRST = ("type", "enum", "const", "anyOf", "oneOf", "properties", "required", "items")
_LAST = ("description", "default", "$defs")
# `title` repeats the name; `discriminator` is OpenAPI's.
_DROPPED = ("title", "discriminator")


def simplified(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema in the fewest words: no titles, references replaced by what they name.

    Only definitions that contain themselves stay in `$defs`. `anyOf` of plain types becomes a list of types,
    and `additionalProperties: false` is left to `closed`.
    """
    definitions: Mapping[str, Any] = schema.get("$defs", {})
    recursive = frozenset(name for name in definitions if _contains_itself(name, definitions))

    def simplify(node: Mapping[str, Any]) -> dict[str, Any]:
        name = _referred(node)
        if name is not None and name not in recursive:
            siblings = {key: value for key, value in node.items() if key != "$ref"}
            return simplify({**definitions[name], **siblings})
        kept = {
            key: value
            for key, value in node.items()
            if key not in _DROPPED
            and key != "$defs"
            and not (key == "additionalProperties" and value is False)
        }
        return _ordered(_joined_types(_mapped(kept, simplify)))

    result = simplify(schema)
    if recursive:
        result["$defs"] = {name: simplify(definitions[name]) for name in sorted(recursive)}
    return result


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy in which objects with named properties refuse other names, unless they say otherwise.

    Where an object is described in several places (`allOf`, or alternatives beside its own properties), no one
    place knows all its names: these stay open.
    """

    def close(node: Mapping[str, Any]) -> dict[str, Any]:
        copy = _mapped(node, close)
        shared = [key for key in _COMBINING if key in node]
        if "properties" in copy and not shared:
            copy.setdefault("additionalProperties", False)
        kept_open = shared if "properties" in node else [key for key in shared if key == "allOf"]
        return copy | {key: node[key] for key in kept_open}

    return close(schema)


def structure(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy with what a value must look like and nothing more: no description, default, enum or title."""
    return _mapped({key: value for key, value in schema.items() if key in _STRUCTURE}, structure)


def words(value: Any) -> list[str]:
    """Return every string in a schema: names, descriptions, enums, defaults and keywords alike."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [word for key, item in value.items() for word in (str(key), *words(item))]
    if isinstance(value, list | tuple):
        return [word for item in value for word in words(item)]
    return []


def places(schema: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a schema and every schema inside it, each with where it is; an outer one before its inner ones."""
    if not isinstance(schema, Mapping):
        return
    yield path, schema
    for key, value in schema.items():
        for place, child in _children(key, value):
            yield from places(child, f"{path}.{place}".lstrip("."))


def expressible(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema that accepts the same values, with fewer keywords that a grammar has no rule for.

    Left out is what asserts nothing: `uniqueItems: false`, and formats that JSON Schema does not define, such
    as `path` and `int32`, which are notes for people. Names of properties from a list become properties.
    """
    node = _mapped(schema, expressible)
    if node.get("uniqueItems") is False:
        del node["uniqueItems"]
    if node.get("format", "") not in _FORMATS:
        del node["format"]
    names = as_object(node.get("propertyNames")).get("enum")
    if names is not None and set(node["propertyNames"]) == {"enum"} and "properties" not in node:
        del node["propertyNames"]
        values = node.get("additionalProperties", True)
        node |= {"properties": dict.fromkeys(filter(_is_text, names), values), "additionalProperties": False}
    return node


def unknown_references(schema: Mapping[str, Any]) -> list[str]:
    """Return the references that do not name a definition of the schema itself, as an object."""
    definitions = as_object(schema.get("$defs"))
    return [
        str(node["$ref"])
        for node in _nodes(schema)
        if "$ref" in node and not isinstance(definitions.get(_referred(node) or ""), Mapping)
    ]


def endless_references(schema: Mapping[str, Any]) -> list[str]:
    """Return the definitions that say of a value what they say of that value: checking one would never end."""
    definitions = as_object(schema.get("$defs"))
    return [name for name in definitions if _contains_itself(name, definitions, nodes=_nodes_in_place)]


def resolved(node: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema that a node stands for: itself, or the definition that it refers to."""
    schema = as_object(node)
    name = _referred(schema)
    return resolved(root["$defs"][name], root) if name is not None else schema


def as_object(schema: Any) -> Mapping[str, Any]:
    """Return a schema as a mapping; the schemas `true` and `false` name nothing."""
    return schema if isinstance(schema, Mapping) else {}


def types_of(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the JSON types that the schema names; none named means any."""
    named = schema.get("type", ())
    return (named,) if isinstance(named, str) else tuple(named)


def branches_of(schema: Mapping[str, Any]) -> list[Any]:
    """Return the alternatives of a schema, none if it has none."""
    return list(schema.get("anyOf") or schema.get("oneOf") or ())


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _referred(node: Mapping[str, Any]) -> str | None:
    reference = node.get("$ref")
    if not isinstance(reference, str) or not reference.startswith(DEFS):
        return None
    return reference.removeprefix(DEFS)


def _nodes(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yield a schema and every schema inside it; data such as defaults and enums is not entered."""
    return (found for _, found in places(node))


def _nodes_in_place(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yield a schema and every schema inside it that is about the same value, not about a part of it."""
    if not isinstance(node, Mapping):
        return
    yield node
    for key, value in node.items():
        if key in _COMBINING or key in ("not", "dependentSchemas"):
            for _, child in _children(key, value):
                yield from _nodes_in_place(child)


def _contains_itself(
    name: str,
    definitions: Mapping[str, Any],
    *,
    nodes: Callable[[Any], Iterator[Mapping[str, Any]]] = _nodes,
) -> bool:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        for node in nodes(definitions.get(waiting.pop())):
            target = _referred(node)
            if target == name:
                return True
            if target is not None and target not in seen:
                seen.add(target)
                waiting.append(target)
    return False


def _children(key: str, value: Any) -> list[tuple[str, Any]]:
    """Return the schemas in the value of a keyword, each with where it is."""
    if key in _SCHEMA:
        return [(key, value)]
    if key in _SCHEMAS and isinstance(value, list):
        return [(f"{key}[{index}]", child) for index, child in enumerate(value)]
    if key in _NAMED_SCHEMAS and isinstance(value, Mapping):
        return [(f"{key}.{name}", child) for name, child in value.items()]
    return []


def _mapped(node: Mapping[str, Any], change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Return a copy of a schema in which every schema directly inside it is changed."""

    def changed(child: Any) -> Any:
        return change(child) if isinstance(child, Mapping) else child

    result: dict[str, Any] = {}
    for key, value in node.items():
        if key in _SCHEMA:
            result[key] = changed(value)
        elif key in _SCHEMAS and isinstance(value, list):
            result[key] = [changed(child) for child in value]
        elif key in _NAMED_SCHEMAS and isinstance(value, Mapping):
            result[key] = {name: changed(child) for name, child in value.items()}
        else:
            result[key] = value
    return result


def _joined_types(node: dict[str, Any]) -> dict[str, Any]:
    branches = node.get("anyOf")
    if (
        "type" in node
        or not branches
        or not all(isinstance(branch, Mapping) and set(branch) == {"type"} for branch in branches)
    ):
        return node
    names = dict.fromkeys(name for branch in branches for name in types_of(branch))
    return {"type": list(names), **{key: value for key, value in node.items() if key != "anyOf"}}


def _ordered(node: dict[str, Any]) -> dict[str, Any]:
    """Put what a reader looks for first in front, as transformers' `get_json_schema` does."""
    middle = [key for key in node if key not in _FIRST and key not in _LAST]
    return {key: node[key] for key in (*_FIRST, *middle, *_LAST) if key in node}
