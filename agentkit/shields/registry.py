"""Names to shield classes, and options to constructor arguments. Knows no policy file and no pipeline.

A shield class takes its options as annotated keyword-only constructor arguments; what a policy writes is
validated against them. Built-in shields are imported when they are first used.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    NotRequired,
    Protocol,
    Required,
    TypeAlias,
    TypeVar,
    get_type_hints,
)

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import to_json
from typing_extensions import TypedDict

from agentkit.errors import ConfigurationError
from agentkit.shields.policy_errors import Problem, problem_in, with_nearest

if TYPE_CHECKING:
    from agentkit.inference.base import Engine
    from agentkit.shields.base import Shield
    from agentkit.shields.engine_address import EngineAddress

EngineProvider: TypeAlias = "Callable[[str | EngineAddress], Awaitable[Engine]]"
"""Gives the engine behind a model reference or an address; the same one gives the same engine."""

BUILT_IN: Final[Mapping[str, str]] = {
    "instruction_override": "agentkit.shields.instruction_override",
    "secrets": "agentkit.shields.secrets",
    "pii": "agentkit.shields.pii",
    "code_shield": "agentkit.shields.code_shield",
    "semgrep": "agentkit.shields.semgrep",
    "llama_guard": "agentkit.shields.llama_guard",
    "prompt_guard": "agentkit.shields.prompt_guard",
    "probe": "agentkit.shields.probe",
}

_INJECTED: Final = "engines"
_KEPT_FOR_POLICIES: Final = frozenset({"use", "mode"})
_registered: dict[str, type[Any]] = {}

ShieldClass = TypeVar("ShieldClass", bound=type)


class ShieldOptionError(ConfigurationError):
    """An option of a shield is wrong; `problem` says where in the options, and what."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.message)


def register_shield(name: str) -> Callable[[ShieldClass], ShieldClass]:
    """Make a shield class available to policies as `use: name`.

    The constructor takes annotated keyword-only options, with bounds as `Annotated[float, Field(ge=0)]`.
    A parameter named `engines` is given an `EngineProvider` and cannot be set from a policy.

    Raises:
        ConfigurationError: if the name is taken, or the constructor is not of that form.
    """

    def register(shield_class: ShieldClass) -> ShieldClass:
        if name in _registered or not _may_take(name, shield_class):
            raise ConfigurationError(f"a shield named {name!r} is already registered; choose another name")
        _check_constructor(name, shield_class)
        _registered[name] = shield_class
        return shield_class

    return register


def shield_names() -> tuple[str, ...]:
    """Return every name that `use:` may say, sorted."""
    return tuple(sorted({*BUILT_IN, *_registered}))


def find_shield(name: str) -> RegisteredShield:
    """Return the shield class behind a name, importing it if it is a built-in one.

    Raises:
        ConfigurationError: if there is none, naming the nearest; or if a built-in one cannot be imported.
    """
    if name not in _registered and name in BUILT_IN:
        _import_built_in(name)
    if name not in _registered:
        raise ConfigurationError(with_nearest(f"unknown shield {name!r}", name, shield_names()))
    return RegisteredShield(name=name, shield_class=_registered[name])


@dataclass(frozen=True, kw_only=True)
class RegisteredShield:
    """A shield class under its name."""

    name: str
    shield_class: type[Any]

    @property
    def needs_engines(self) -> bool:
        """Whether the constructor asks for the engine provider."""
        return _INJECTED in _parameters(self.shield_class)

    @property
    def exactly_one(self) -> tuple[str, ...]:
        """Options of which a policy has to write one: the class names them as `EXACTLY_ONE`."""
        names: tuple[str, ...] = getattr(self.shield_class, "EXACTLY_ONE", ())
        return names

    @cached_property
    def options(self) -> TypeAdapter[dict[str, Any]]:
        """What the constructor takes from a policy, as a pydantic type."""
        return _options_of(self.name, self.shield_class)

    @property
    def defaults(self) -> dict[str, Any]:
        """What the constructor takes for an option that a policy leaves out, where it has such a value."""
        parameters = _parameters(self.shield_class).values()
        return {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}

    def validate(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the constructor arguments that these plain JSON options mean; nothing is filled in.

        Raises:
            ShieldOptionError: naming the option, the value and the bound, or the nearest valid name.
        """
        try:
            valid = self.options.validate_json(to_json(dict(options), inf_nan_mode="constants"), strict=True)
        except ValidationError as exc:
            schema = self.options.json_schema(by_alias=True)
            raise ShieldOptionError(problem_in(exc, schema, noun="option")) from exc
        said = [name for name in self.exactly_one if valid.get(name) is not None]
        if self.exactly_one and len(said) != 1:
            options_needed, got = " and ".join(self.exactly_one), " and ".join(said) or "none"
            message = f"one of the options {options_needed} is needed, got {got}"
            raise ShieldOptionError(Problem(location=(said[1],) if said else (), message=message))
        return valid

    def build(self, options: Mapping[str, Any], *, engines: EngineProvider | None = None) -> Shield:
        """Return a new shield, not started.

        Raises:
            ConfigurationError: if the options are wrong, or it needs engines and there are none.
        """
        arguments = self.validate(options)
        if self.needs_engines:
            if engines is None:
                raise ConfigurationError(f"shield {self.name!r} runs a model; pass engines= to the pipeline")
            arguments[_INJECTED] = engines
        shield: Shield = self.shield_class(**arguments)
        return shield


def _may_take(name: str, shield_class: type[Any]) -> bool:
    """Return False if the name is kept for a built-in shield, and this class is not it."""
    home = BUILT_IN.get(name)
    return home is None or f"{shield_class.__module__}.".startswith(f"{home}.")


def _import_built_in(name: str) -> None:
    try:
        importlib.import_module(BUILT_IN[name])
    except ImportError as exc:
        raise ConfigurationError(f"shield {name!r} cannot be loaded: {exc}") from exc
    if name not in _registered:
        raise ConfigurationError(f"shield {name!r} cannot be loaded: {BUILT_IN[name]} does not register it")


def _parameters(shield_class: type[Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of the constructor; a class without one of its own has none."""
    owner = next(base for base in shield_class.__mro__ if "__init__" in vars(base))
    if owner is object or Protocol in owner.__bases__:
        return {}
    return inspect.signature(shield_class).parameters


def _check_constructor(name: str, shield_class: type[Any]) -> None:
    for parameter in _parameters(shield_class).values():
        where = f"shield {name!r}: constructor argument {parameter.name!r}"
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise ConfigurationError(f"{where} must be keyword-only (put it after a bare *)")
        if parameter.annotation is inspect.Parameter.empty:
            raise ConfigurationError(f"{where} needs a type annotation")
        if parameter.name in _KEPT_FOR_POLICIES:
            raise ConfigurationError(f"{where} has a name that policies use themselves; choose another")


def _options_of(name: str, shield_class: type[Any]) -> TypeAdapter[dict[str, Any]]:
    parameters = {key: value for key, value in _parameters(shield_class).items() if key != _INJECTED}
    written = SimpleNamespace(__annotations__={key: value.annotation for key, value in parameters.items()})
    namespace = getattr(inspect.unwrap(shield_class.__init__), "__globals__", {})
    try:
        hints = get_type_hints(written, globalns=namespace, include_extras=True)
    except NameError as exc:
        raise ConfigurationError(f"shield {name!r}: an option's type cannot be read: {exc}") from exc
    fields = {
        key: Required[hints[key]] if value.default is inspect.Parameter.empty else NotRequired[hints[key]]
        for key, value in parameters.items()
    }
    make_typed_dict: Any = TypedDict  # its fields are known at run time only
    options = make_typed_dict("Options", fields)
    options.__pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)
    try:
        return TypeAdapter(options)
    except PydanticUserError as exc:
        raise ConfigurationError(f"shield {name!r}: an option's type cannot be read: {exc.message}") from exc
