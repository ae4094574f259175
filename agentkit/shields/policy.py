"""The policy: which shield judges what, where, and what a hit, an error or a timeout means.

Reads and checks the file that DESIGN.md calls "The policy file". Runs nothing: the pipeline does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from agentkit.errors import ConfigurationError, PolicyError
from agentkit.shields.base import Action, Stage
from agentkit.shields.policy_errors import Location, Problem, problem_in, with_nearest
from agentkit.shields.registry import ShieldOptionError, find_shield
from agentkit.shields.yaml_source import Document, parse_yaml

Name = Annotated[str, Field(min_length=1)]


class Mode(StrEnum):
    """Whether a shield decides, or is only recorded."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


class _Strict(BaseModel):
    """What every part of a policy is: unknown keys are errors, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ShieldConfig(_Strict):
    """One shield under `shields:`. Every other key is an option of the shield that `use` names."""

    model_config = ConfigDict(extra="allow", frozen=True)

    use: Annotated[Name, Field(description="The registered name of the shield.")]
    mode: Annotated[Mode, Field(description="`shadow` judges and records, and decides nothing.")] = (
        Mode.ENFORCE
    )

    @property
    def options(self) -> Mapping[str, Any]:
        """The options as they were written."""
        return self.model_extra or {}


class Rule(_Strict):
    """One shield at one stage, and what its hit means.

    `redact` needs a shield that says where in the text it found something: a hit without findings blocks.
    `mode` overrides the shield's own mode at this stage.
    """

    shield: Annotated[Name, Field(description="A name defined under `shields`.")]
    on_hit: Annotated[Action, Field(description="What happens when the shield flags the content.")]
    mode: Annotated[Mode | None, Field(description="Overrides the shield's own mode at this stage.")] = None


_Rules = tuple[Rule, ...]


class Stages(_Strict):
    """The rules of every stage. All must be named; an empty list is a written choice."""

    model_config = ConfigDict(
        json_schema_extra={"x-keys": "stage", "x-missing": "write [] where nothing is to be judged"}
    )

    user_input: Annotated[_Rules, Field(description="What the user says.")]
    tool_description: Annotated[_Rules, Field(description="What a tool says about itself.")]
    tool_call: Annotated[_Rules, Field(description="A call the model made, before it runs.")]
    code: Annotated[_Rules, Field(description="Code in a call's arguments, before it runs.")]
    tool_result: Annotated[_Rules, Field(description="What a tool gave back, before the model reads it.")]
    memory: Annotated[
        _Rules, Field(description="What comes from earlier sessions, before the model reads it.")
    ]
    model_output: Annotated[_Rules, Field(description="What the model says, before anyone sees it.")]


class Failure(_Strict):
    """What happens when a shield reaches no verdict: never milder than `withhold`."""

    on_error: Literal["block", "withhold", "escalate"] = "block"
    on_timeout: Literal["block", "withhold", "escalate"] = "block"
    timeout_ms: Annotated[int, Field(ge=1, le=600_000, description="For one check of one shield.")] = 2000


class Streaming(_Strict):
    """How much of the answer is judged, and released, at a time."""

    segment_tokens: Annotated[int, Field(ge=1, le=4096)] = 48


class ToolRule(_Strict):
    """When calls of a tool need a person's approval.

    `match` is a glob over tool names. `when: tainted` limits the rule to turns that have read untrusted
    content; `effects` to tools with these effects.
    """

    match: Name
    when: Literal["tainted"] | None = None
    effects: Annotated[tuple[Literal["read", "write", "external"], ...] | None, Field(min_length=1)] = None
    approval: Literal["always", "never"]

    def applies_to(self, tool_name: str, effect: str, *, tainted: bool) -> bool:
        """Return whether the rule speaks about this call."""
        if self.when == "tainted" and not tainted:
            return False
        return fnmatchcase(tool_name, self.match) and (self.effects is None or effect in self.effects)


class PolicyTest(_Strict):
    """A text, and the action that the policy must take on it."""

    stage: Stage
    text: str
    expect: Action


class Policy(_Strict):
    """A checked policy. Read it with `load`, `parse` or `default`."""

    version: Literal[1]
    shields: dict[Name, ShieldConfig]
    stages: Stages
    failure: Failure = Failure()
    streaming: Streaming = Streaming()
    tools: tuple[ToolRule, ...] = ()
    tests: tuple[PolicyTest, ...] = ()

    _path: str | None = PrivateAttr(default=None)
    _document: Document | None = PrivateAttr(default=None)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a policy file.

        Raises:
            PolicyError: if it cannot be read, or says something that is not a policy; with path and line.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except OSError as exc:
            raise PolicyError(f"cannot be read: {exc.strerror}", path=str(path)) from exc
        except UnicodeDecodeError as exc:
            raise PolicyError(f"is not UTF-8 at byte {exc.start}", path=str(path)) from exc
        return cls.parse(text, path=str(path))

    @classmethod
    def parse(cls, text: str, path: str | None = None) -> Self:
        """Read a policy from text; `path` is what errors call it.

        Raises:
            PolicyError: as `load`.
        """
        document = parse_yaml(text, path=path)
        try:
            # Through JSON, where strict still means that a list can be a tuple and a text an enum.
            policy = cls.model_validate_json(json.dumps(document.data), strict=True)
        except ValidationError as exc:
            raise _policy_error(problem_in(exc, cls.model_json_schema()), document, path) from exc
        except PolicyProblemError as exc:
            raise _policy_error(exc.problem, document, path) from exc
        policy._path, policy._document = path, document
        return policy

    @classmethod
    def default(cls) -> Self:
        """Return the policy that ships with agentkit. It needs no model weights."""
        packaged = resources.files("agentkit.shields") / "policies" / "default.yaml"
        return cls.parse(packaged.read_text(encoding="utf-8"), path="agentkit default policy")

    @property
    def path(self) -> str | None:
        """Where the policy was read from."""
        return self._path

    @property
    def digest(self) -> str:
        """SHA-256 of what the policy says, in hex: the same for two files that mean the same."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the policy as plain JSON values, with every default written out."""
        return self.model_dump(mode="json")

    def rules(self, stage: Stage) -> tuple[Rule, ...]:
        """Return what judges at a stage, in the order of the file."""
        rules: tuple[Rule, ...] = getattr(self.stages, stage.value)
        return rules

    def mode_of(self, rule: Rule) -> Mode:
        """Return whether a rule decides or only records."""
        return self.shields[rule.shield].mode if rule.mode is None else rule.mode

    def approval_for(
        self, tool_name: str, effect: str, *, tainted: bool
    ) -> Literal["always", "never"] | None:
        """Return whether a call needs a person's approval; None where no rule speaks about it.

        The order of the rules does not matter: one matching `always` outweighs every `never`.
        """
        said = {rule.approval for rule in self.tools if rule.applies_to(tool_name, effect, tainted=tainted)}
        if not said:
            return None
        return "always" if "always" in said else "never"

    def error(self, message: str, *location: str | int) -> PolicyError:
        """Return an error about a place in this policy, with its path and line."""
        return PolicyError(message, path=self._path, line=self.line_of(*location))

    def line_of(self, *location: str | int) -> int | None:
        """Return the line where a place of the policy is written; None if it was not read from text."""
        return self._document.line_of(location) if self._document else None

    @model_validator(mode="after")
    def _check_meaning(self) -> Self:
        for name, config in self.shields.items():
            _check_shield(name, config)
        for stage in Stage:
            for index in range(len(self.rules(stage))):
                self._check_rule(stage, index)
        return self

    def _check_rule(self, stage: Stage, index: int) -> None:
        rules = self.rules(stage)
        rule, location = rules[index], ("stages", stage.value, index)
        if rule.shield not in self.shields:
            message = f"stage {stage.value} names shield {rule.shield!r}, which is not under shields"
            raise PolicyProblemError((*location, "shield"), with_nearest(message, rule.shield, self.shields))
        if rule.shield in (earlier.shield for earlier in rules[:index]):
            raise PolicyProblemError(location, f"stage {stage.value} names shield {rule.shield!r} twice")


class PolicyProblemError(PolicyError):
    """A policy that is well-formed says something that cannot be; `problem` says where."""

    def __init__(self, location: Location, message: str) -> None:
        self.problem = Problem(location=location, message=message)
        super().__init__(message)


def _check_shield(name: str, config: ShieldConfig) -> None:
    location = ("shields", name)
    try:
        find_shield(config.use).validate(config.options)
    except ShieldOptionError as exc:
        message = f"shield {name!r} ({config.use}): {exc.problem.message}"
        raise PolicyProblemError((*location, *exc.problem.location), message) from exc
    except ConfigurationError as exc:
        raise PolicyProblemError((*location, "use"), str(exc)) from exc


def _policy_error(problem: Problem, document: Document, path: str | None) -> PolicyError:
    return PolicyError(problem.message, path=path, line=document.line_of(problem.location))
