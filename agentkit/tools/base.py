"""What a tool is: a function that a model may call, and what its author promised about it.

Knows no model, no shield and no way of running the function.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from pydantic import TypeAdapter

from agentkit.errors import ToolDefinitionError
from agentkit.json_schema import closed, endless_references, unknown_references
from agentkit.messages import DEVELOPER, Origin, Provenance, ToolSpec
from agentkit.tools.state import ToolState
from agentkit.tools.validation import check_arguments

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
_LANGUAGE = re.compile(r"[a-z][a-z0-9+#.-]{0,31}")
MAX_RETRIES = 10


class Effect(StrEnum):
    """What a call changes. What an author did not declare is taken for `external`, the most cautious.

    `READ` changes nothing: it may run beside other reads and be retried. `WRITE` changes what belongs to the
    agent's owner. `EXTERNAL` reaches somebody else.
    """

    READ = "read"
    WRITE = "write"
    EXTERNAL = "external"


class Approval(StrEnum):
    """Whether the author wants a person to agree to every call. A policy may ask for more, never for less."""

    ALWAYS = "always"
    NEVER = "never"


class Trust(StrEnum):
    """Whether the author vouches that results carry nobody else's words."""

    UNTRUSTED = "untrusted"
    TRUSTED = "trusted"


@dataclass(frozen=True, slots=True)
class Code:
    """Marks a text argument as source code, so that the shields of stage `code` judge it.

    `async def run(script: Annotated[str, Code("python")])`. A text argument that is simply named `code`
    counts as Python without the mark.
    """

    language: str

    def __post_init__(self) -> None:
        if not _LANGUAGE.fullmatch(self.language):
            raise ToolDefinitionError(
                f"Code({self.language!r}): write the language in lower case, for instance Code('python')"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tool:
    """A function that a model may call. Calling the tool calls the function, with no check at all.

    `parameters` is the JSON Schema that the model is shown. Arguments are checked against a closed copy of it
    (no unknown names), then converted by `types`, one pydantic adapter an argument; an argument without an
    adapter keeps its JSON value.

    `idempotent` promises that making a call twice with one `current_call().idempotency_key` has its effect
    once: a call whose outcome a crash has hidden is then made again without asking.

    `origin` is `Origin.MEMORY` for a tool over long-term memory, whose results are judged at stage `memory`.

    `state` is what the function keeps between the calls of a session; the agent ends it with the session.

    `described_by` says whose words the description and the schema are: stage `tool_description` judges a stranger's
    as untrusted.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    function: Callable[..., Any]
    effect: Effect = Effect.EXTERNAL
    approval: Approval | None = None
    timeout: float = 10.0
    retries: int = 0
    trust: Trust = Trust.UNTRUSTED
    idempotent: bool = False
    origin: Origin = Origin.TOOL
    described_by: Provenance = DEVELOPER
    code_arguments: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, TypeAdapter[Any]] = field(default_factory=dict, repr=False)
    state: ToolState | None = None
    _validator: Draft202012Validator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        problem = self._problem()
        if problem is not None:
            raise ToolDefinitionError(f"tool {self.name}: {problem}")
        object.__setattr__(self, "_validator", Draft202012Validator(closed(self.parameters)))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself; of an async function this is the awaitable."""
        return self.function(*args, **kwargs)

    @property
    def spec(self) -> ToolSpec:
        """What a model is told about the tool."""
        return ToolSpec(name=self.name, description=self.description, parameters=self.parameters)

    @property
    def trusted(self) -> bool:
        """Whether results may be believed: the author vouched for them."""
        return self.trust is Trust.TRUSTED

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments to call the function with; those that were left out keep their defaults.

        A value in another notation is read where nothing is lost: "3" for an integer, "true" for a boolean,
        3.0 for an integer, the text of a JSON object for an object. The given arguments are left unchanged.

        Raises:
            InvalidArgumentsError: naming all that is wrong, up to a bound. The message is meant for the
                model: it quotes names and short scalars that the model itself wrote, so do not log it.
        """
        return check_arguments(self.name, arguments, validator=self._validator, types=self.types)

    def _problem(self) -> str | None:
        if not self.description.strip():
            return "has no description; write a docstring, or pass description="
        if not (_is_number(self.timeout) and 0 < self.timeout < math.inf):
            return f"timeout must be a number of seconds above 0, got {self.timeout!r}"
        if type(self.retries) is not int or not 0 <= self.retries <= MAX_RETRIES:
            return f"retries must be an integer in [0, {MAX_RETRIES}], got {self.retries!r}"
        if self.retries and self.effect is not Effect.READ:
            return f'retries={self.retries} could repeat its effect; only effect="read" tools are retried'
        if self.origin not in (Origin.TOOL, Origin.MEMORY):
            return f'origin must be "tool" or "memory", got "{self.origin}"'
        if self.origin is Origin.MEMORY and self.trusted:
            return 'origin="memory" cannot be trusted: what was remembered may be anybody\'s words'
        return self._schema_problem()

    def _schema_problem(self) -> str | None:
        if self.parameters.get("type") != "object" or not isinstance(
            self.parameters.get("properties"), Mapping
        ):
            return 'parameters must be a JSON Schema of type "object" with "properties"'
        try:
            Draft202012Validator.check_schema(
                self.parameters, format_checker=Draft202012Validator.FORMAT_CHECKER
            )
        except SchemaError as error:
            return f"parameters are not a valid JSON Schema at {error.json_path}"
        unknown = unknown_references(self.parameters)
        if unknown:
            return f"parameters refer to {unknown[0]!r}; only '#/$defs/NAME' inside the schema can be used"
        endless = endless_references(self.parameters)
        if endless:
            return f"parameters define {endless[0]!r} as itself; say what it holds"
        foreign = sorted(set(self.code_arguments) - set(self.parameters["properties"]))
        return f"code_arguments names {foreign[0]!r}, which is not an argument" if foreign else None


def check_name(name: str) -> None:
    """Accept a tool's name.

    Raises:
        ToolDefinitionError: if a model could not write it in every format.
    """
    if not _NAME.fullmatch(name):
        raise ToolDefinitionError(
            f"tool name {name!r} must be 1 to 64 letters, digits, '_' or '-', and begin with a letter "
            "or '_'; pass name="
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
