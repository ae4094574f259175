"""The policy: which shield judges what, where, and what a hit, an error or a timeout means.

Reads and checks the file that DESIGN.md calls "The policy file". Runs nothing: the pipeline does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Self

from pydantic import PrivateAttr, ValidationError, model_validator

from agentkit.errors import ConfigurationError, PolicyError
from agentkit.inference.catalog import EMBEDDED_MODEL
from agentkit.shields.base import Stage
from agentkit.shields.policy_changes import compare
from agentkit.shields.policy_errors import Location, Problem, problem_in, shown, with_nearest
from agentkit.shields.policy_locks import lock_names, lock_on
from agentkit.shields.policy_model import PolicyModel, ShieldConfig
from agentkit.shields.policy_source import (
    DEFAULT_NAME,
    EMBEDDED_NAME,
    SHIPPED,
    PublicKey,
    put_together,
    read_policy_file,
    read_shipped_policy,
)
from agentkit.shields.registry import ShieldOptionError, find_shield
from agentkit.shields.yaml_source import Document, parse_yaml


class Policy(PolicyModel):
    """A checked policy. Read it with `load`, `parse` or `default`."""

    _path: str | None = PrivateAttr(default=None)
    _document: Document | None = PrivateAttr(default=None)

    @classmethod
    def load(cls, path: str | Path, *, public_key: PublicKey | None = None) -> Self:
        """Read a policy file, and what it extends.

        With a key, every one of these files must be signed by its owner (`agentkit policy sign`) and unchanged since.

        Raises:
            PolicyError: if it cannot be read, says something that is not a policy, loosens what the policy it
                extends locks, or is not signed; with path and line.
            ConfigurationError: if the key cannot be read.
        """
        return cls._load(Path(path), str(path), public_key, ())

    @classmethod
    def parse(cls, text: str, path: str | None = None) -> Self:
        """Read a policy from text; `path` is what errors call it, and what it extends is looked for beside that.

        Raises:
            PolicyError: as `load`.
        """
        return cls._parse(text, path, None, ())

    @classmethod
    def default(cls) -> Self:
        """Return the policy that ships with agentkit. It needs no model weights."""
        return cls._shipped(DEFAULT_NAME)

    @classmethod
    def for_model(cls, model: object) -> Self:
        """Return what an agent on a model is judged by that is given no policy.

        On the embedded model, by its name, that is the default policy and that model's probes; else the default policy.
        """
        return cls._shipped(EMBEDDED_NAME if model == EMBEDDED_MODEL else DEFAULT_NAME)

    @classmethod
    def _shipped(cls, name: str) -> Self:
        return cls.parse(read_shipped_policy(name), f"agentkit {name} policy")

    @classmethod
    def _load(cls, path: Path, name: str, key: PublicKey | None, opened: tuple[Path, ...]) -> Self:
        """Read a file that a chain of files, the `opened` ones, extends."""
        return cls._parse(read_policy_file(path, key), name, key, (*opened, path.resolve()))

    @classmethod
    def _parse(cls, text: str, path: str | None, key: PublicKey | None, opened: tuple[Path, ...]) -> Self:
        document = parse_yaml(text, path=path)
        base = cls._base(document, path, key, opened)
        data = put_together(base.to_json(), document.data) if base else document.data
        try:
            # Through JSON, where strict still means that a list can be a tuple and a text an enum.
            policy = cls.model_validate_json(json.dumps(data), strict=True)
        except ValidationError as exc:
            raise _policy_error(problem_in(exc, cls.model_json_schema()), document, path) from exc
        except PolicyProblemError as exc:
            raise _policy_error(exc.problem, document, path) from exc
        policy._path, policy._document = path, document
        if base is not None:
            policy._keep_locks(base)
        return policy

    @classmethod
    def _base(
        cls, document: Document, path: str | None, key: PublicKey | None, opened: tuple[Path, ...]
    ) -> Self | None:
        """Return the policy that a document extends; None if it stands alone."""
        name, line = document.data.get("extends"), document.line_of(("extends",))
        if name is None:
            return None
        if not isinstance(name, str) or not name:
            raise PolicyError(f"extends must name a policy file, got {shown(name)}", path=path, line=line)
        if name in SHIPPED:
            return cls._shipped(name)
        file = Path(path).parent / name if path is not None else Path(name)
        if file.resolve() in opened:
            raise PolicyError(f"{name} extends itself", path=path, line=line)
        try:
            return cls._load(file, str(file), key, opened)
        except PolicyError as exc:
            raise PolicyError(f"cannot extend {name}: {exc}", path=path, line=line) from exc

    def _keep_locks(self, base: PolicyModel) -> None:
        """Accept what this policy changes of its base.

        Raises:
            PolicyError: if it loosens what the base locks, or changes it in a way that cannot be told to be as strict.
        """
        for change in compare(base, self):
            lock = lock_on(change, base)
            if lock is not None:
                raise self.error(f"{change.words}; {self.extends} locks {lock}", *change.location)

    @property
    def path(self) -> str | None:
        """Where the policy was read from."""
        return self._path

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
        valid = lock_names(self)
        for index, lock in enumerate(self.locks):
            if lock not in valid:
                message = with_nearest(f"there is nothing named {lock!r} to lock", lock, valid)
                raise PolicyProblemError(("locks", index), message)
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
