"""What a policy says: the parts of the file, and what follows from them. Reads no file and checks no names.

`agentkit.shields.policy` makes one out of a file that DESIGN.md calls "The policy file".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from agentkit.shields.base import Action, Stage

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

    `match` is a glob over tool names, `effects` limits the rule to tools with these effects. `when: tainted` limits
    it to calls in turns that have read untrusted content, or that hold some word for word in their arguments;
    `when: tainted_arguments` to the latter.
    """

    match: Name
    when: Literal["tainted", "tainted_arguments"] | None = None
    effects: Annotated[tuple[Literal["read", "write", "external"], ...] | None, Field(min_length=1)] = None
    approval: Literal["always", "never"]

    def applies_to(
        self, tool_name: str, effect: str, *, tainted: bool, tainted_arguments: bool = False
    ) -> bool:
        """Return whether the rule speaks about this call."""
        if self.when == "tainted" and not (tainted or tainted_arguments):
            return False
        if self.when == "tainted_arguments" and not tainted_arguments:
            return False
        return fnmatchcase(tool_name, self.match) and (self.effects is None or effect in self.effects)


class PolicyTest(_Strict):
    """A text, and the action that the policy must take on it."""

    stage: Stage
    text: str
    expect: Action


class PolicyModel(_Strict):
    """The content of a policy file, and what it means for a stage, a rule or a call."""

    version: Literal[1]
    extends: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Another policy file, relative to this one, or `default`, or `embedded`: what is not named "
            "here is as there.",
        ),
    ] = None
    locks: Annotated[
        tuple[Name, ...],
        Field(
            description="What a policy that extends this one cannot loosen: shields, shields.NAME, stages, "
            "stages.STAGE, failure, tools."
        ),
    ] = ()
    shields: dict[Name, ShieldConfig]
    stages: Stages
    failure: Failure = Failure()
    streaming: Streaming = Streaming()
    tools: tuple[ToolRule, ...] = ()
    tests: tuple[PolicyTest, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of what the policy says, in hex: the same for two files that mean the same."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the policy as plain JSON values, with every default written out and what it extends resolved."""
        said = self.model_dump(mode="json", exclude={"extends"})
        return said if self.locks else {key: value for key, value in said.items() if key != "locks"}

    def rules(self, stage: Stage) -> tuple[Rule, ...]:
        """Return what judges at a stage, in the order of the file."""
        rules: tuple[Rule, ...] = getattr(self.stages, stage.value)
        return rules

    def mode_of(self, rule: Rule) -> Mode:
        """Return whether a rule decides or only records."""
        return self.shields[rule.shield].mode if rule.mode is None else rule.mode

    def approval_for(
        self, tool_name: str, effect: str, *, tainted: bool, tainted_arguments: bool = False
    ) -> Literal["always", "never"] | None:
        """Return whether a call needs a person's approval; None where no rule speaks about it.

        The order of the rules does not matter: one matching `always` outweighs every `never`.
        """
        said = {
            rule.approval
            for rule in self.tools
            if rule.applies_to(tool_name, effect, tainted=tainted, tainted_arguments=tainted_arguments)
        }
        if not said:
            return None
        return "always" if "always" in said else "never"
