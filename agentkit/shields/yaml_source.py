"""YAML text to plain values, with the line of each. Knows YAML, and nothing of what a policy means.

Stricter than YAML itself: duplicate keys, aliases, tags, several documents and deep nesting are errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from agentkit.errors import PolicyError
from agentkit.shields.policy_errors import Location

_MAX_CHARACTERS: Final = 1_000_000
_MAX_DEPTH: Final = 24
_TEXT_TAGS: Final = frozenset({"tag:yaml.org,2002:str", "tag:yaml.org,2002:timestamp"})
_SCALAR_TAGS: Final = frozenset(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))
_COLLECTION_TAGS: Final = frozenset(f"tag:yaml.org,2002:{name}" for name in ("map", "seq"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The values of a YAML file, and the line where each is written. A line is 1-based."""

    data: dict[str, Any]
    lines: Mapping[Location, int]

    def line_of(self, location: Location) -> int | None:
        """Return the line of a place, or of the nearest thing around it that was written."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.lines:
                return self.lines[location[:length]]
        return None


def parse_yaml(text: str, *, path: str | None = None) -> Document:
    """Read one YAML mapping.

    Raises:
        PolicyError: with the line, if the text is not YAML, not a mapping, or uses what is refused here.
    """
    if len(text) > _MAX_CHARACTERS:
        raise PolicyError(f"a policy is at most {_MAX_CHARACTERS} characters, got {len(text)}", path=path)
    try:
        _refuse_aliases_and_depth(text, path)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        problem = exc.problem or exc.context or "cannot be read"
        line = mark.line + 1 if mark else None
        raise PolicyError(f"not valid YAML: {problem}", path=path, line=line) from exc
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise PolicyError(f"not valid YAML: {exc.reason}", path=path, line=line) from exc
    if root is None:
        raise PolicyError("the policy is empty; it needs at least version, shields and stages", path=path)
    if not isinstance(root, yaml.MappingNode):
        raise PolicyError("a policy is a mapping of keys", path=path, line=_line(root))
    reader = _Reader(path)
    return Document(data=reader.mapping(root, ()), lines=reader.lines)


def _refuse_aliases_and_depth(text: str, path: str | None) -> None:
    """An alias can multiply a small file into a huge one, and deep nesting exhausts the stack."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else None
        if isinstance(event, yaml.AliasEvent):
            raise PolicyError("aliases (*name) are not allowed; write the value out", path=path, line=line)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise PolicyError(f"nested deeper than {_MAX_DEPTH} levels", path=path, line=line)


class _Reader:
    """Builds plain values out of YAML nodes and notes the line of each."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._scalars = yaml.constructor.SafeConstructor()
        self.lines: dict[Location, int] = {}

    def mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            place = (*location, key)
            if key in values:
                message = f"key {key!r} is written twice: lines {self.lines[place]} and {_line(key_node)}"
                raise PolicyError(message, path=self._path, line=_line(key_node))
            self.lines[place] = _line(key_node)
            values[key] = self._value(value_node, place)
        return values

    def _sequence(self, node: yaml.SequenceNode, location: Location) -> list[Any]:
        for index, item in enumerate(node.value):
            self.lines[*location, index] = _line(item)
        return [self._value(item, (*location, index)) for index, item in enumerate(node.value)]

    def _value(self, node: yaml.Node, location: Location) -> Any:
        if node.tag not in _TEXT_TAGS | _SCALAR_TAGS | _COLLECTION_TAGS:
            raise self._error(f"the tag {node.tag} is not allowed", node)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            return self._sequence(node, location)
        if node.tag in _TEXT_TAGS:
            return self._text(node)
        try:
            return self._scalars.construct_object(node)
        except (ValueError, KeyError, yaml.YAMLError) as exc:
            raise self._error(f"a value is not a {node.tag.rsplit(':', 1)[-1]}", node) from exc

    def _key(self, node: yaml.Node) -> str:
        # YAML 1.1 reads a bare `on` or `1` as a bool or a number: a key is what is written.
        if not isinstance(node, yaml.ScalarNode):
            raise self._error("a key must be a plain name", node)
        return self._text(node)

    def _text(self, node: yaml.Node) -> str:
        text = str(node.value)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise self._error("a text holds half a surrogate pair", node) from None
        return text

    def _error(self, message: str, node: yaml.Node) -> PolicyError:
        return PolicyError(message, path=self._path, line=_line(node))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
