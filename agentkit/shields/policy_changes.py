"""What one policy lets through that another does not: change by change, each looser, stricter, or not to be told.

Compares what policies mean, not how they are written. Runs no shield: of two settings whose effect only their shields
know it says that it cannot tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from agentkit.shields.base import Action, Stage
from agentkit.shields.policy_errors import Location, shown
from agentkit.shields.policy_model import Mode, PolicyModel, Rule, ToolRule
from agentkit.shields.registry import BUILT_IN, find_shield


class Direction(StrEnum):
    """Where a change leads: `unclear` may let more through, `neutral` does not."""

    LOOSER = "looser"
    STRICTER = "stricter"
    UNCLEAR = "unclear"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference: where in the file, in words, and where it leads."""

    direction: Direction
    location: Location
    words: str


# Options of built-in shields whose order is known: with a higher value a shield flags less.
_FLAGS_LESS_WHEN_HIGHER: Final[Mapping[str, tuple[str, ...] | None]] = {
    "threshold": None,  # a number
    "block_at": ("info", "warning", "error"),
}


def compare(old: PolicyModel, new: PolicyModel) -> tuple[Change, ...]:
    """Return what changes from one policy to the other, in the order of a policy file."""
    return (
        *_locks(old, new),
        *_shields(old, new),
        *(change for stage in Stage for change in _stage(stage, old, new)),
        *_failure(old, new),
        *_neutral("streaming", "segment_tokens", old.streaming.segment_tokens, new.streaming.segment_tokens),
        *_tools(old, new),
        *_tests(old, new),
    )


def _locks(old: PolicyModel, new: PolicyModel) -> Iterator[Change]:
    for lock in old.locks:
        if lock not in new.locks:
            yield Change(direction=Direction.LOOSER, location=("locks",), words=f"{lock} is no longer locked")
    for lock in new.locks:
        if lock not in old.locks:
            yield Change(direction=Direction.STRICTER, location=("locks",), words=f"{lock} is now locked")


def _shields(old: PolicyModel, new: PolicyModel) -> Iterator[Change]:
    """Compare the shields that decide something in both; of others only the rules matter."""
    for name in old.shields:
        if name in new.shields and _decides(name, old) and _decides(name, new):
            yield from _shield(name, old, new)


def _shield(name: str, old: PolicyModel, new: PolicyModel) -> Iterator[Change]:
    before, after = old.shields[name], new.shields[name]
    if before.use != after.use:
        words = f"shield {name} was {before.use}, is {after.use}"
        yield Change(direction=Direction.UNCLEAR, location=("shields", name, "use"), words=words)
        return
    defaults = find_shield(after.use).defaults
    for option in sorted({*before.options, *after.options}):
        was, now = (_plain(one.options.get(option, defaults.get(option))) for one in (before, after))
        if was != now:
            yield Change(
                direction=_direction_of(after.use, option, was, now),
                location=("shields", name, option),
                words=f"{option} of shield {name} was {_said(was)}, is {_said(now)}",
            )


def _direction_of(use: str, option: str, was: Any, now: Any) -> Direction:
    """Return where a changed option leads. Of a shield that is not built in, nobody but its author can tell."""
    if use not in BUILT_IN or option not in _FLAGS_LESS_WHEN_HIGHER:
        return Direction.UNCLEAR
    order = _FLAGS_LESS_WHEN_HIGHER[option]
    try:
        before, after = (was, now) if order is None else (order.index(was), order.index(now))
        return _by_order(after, before)
    except (TypeError, ValueError):
        return Direction.UNCLEAR


def _stage(stage: Stage, old: PolicyModel, new: PolicyModel) -> Iterator[Change]:
    before = {rule.shield: (index, rule) for index, rule in enumerate(old.rules(stage))}
    after = {rule.shield: (index, rule) for index, rule in enumerate(new.rules(stage))}
    for name in dict.fromkeys([*before, *after]):
        was = _effect(before[name][1], old) if name in before else None
        now = _effect(after[name][1], new) if name in after else None
        if was == now:
            continue
        yield Change(
            direction=_by_order((was or Action.ALLOW).severity, (now or Action.ALLOW).severity),
            location=_place(name, stage, before.get(name), after.get(name)),
            words=f"{stage.value}: a hit of {name} was {_told(was)}, is {_told(now)}",
        )


def _place(
    name: str, stage: Stage, before: tuple[int, Rule] | None, after: tuple[int, Rule] | None
) -> Location:
    if after is None:
        return ("stages", stage.value)
    # Where the rule is the same, the shield went into shadow, or came out of it.
    if before is not None and before[1] == after[1]:
        return ("shields", name, "mode")
    return ("stages", stage.value, after[0])


def _effect(rule: Rule, policy: PolicyModel) -> Action:
    """Return what follows from a hit: of a shadow shield nothing, as of `allow`."""
    return Action.ALLOW if policy.mode_of(rule) is Mode.SHADOW else rule.on_hit


def _failure(old: PolicyModel, new: PolicyModel) -> Iterator[Change]:
    for key in ("on_error", "on_timeout"):
        was, now = Action(getattr(old.failure, key)), Action(getattr(new.failure, key))
        if was is not now:
            yield Change(
                direction=_by_order(was.severity, now.severity),
                location=("failure", key),
                words=f"failure.{key} was {was.value}, is {now.value}",
            )
    was_ms, now_ms = old.failure.timeout_ms, new.failure.timeout_ms
    if was_ms != now_ms:
        # Less time means more timeouts: harmless only where a timeout blocks.
        blocks = new.failure.on_timeout == "block" or now_ms > was_ms
        yield Change(
            direction=Direction.NEUTRAL if blocks else Direction.UNCLEAR,
            location=("failure", "timeout_ms"),
            words=f"failure.timeout_ms was {was_ms}, is {now_ms}",
        )


def _tools(old: PolicyModel, new: PolicyModel) -> Iterator[Change]:
    """Compare when a person is asked. A rule that says `never` asks nobody and keeps nobody from being asked."""
    before, after = _asking(old), _asking(new)
    for rule in before.values():
        if not any(_covers(other, rule) for other in after.values()):
            words = f"a person is no longer asked about {_calls(rule)}"
            yield Change(direction=Direction.LOOSER, location=("tools",), words=words)
    for index, rule in after.items():
        if not any(_covers(other, rule) for other in before.values()):
            words = f"a person is now asked about {_calls(rule)}"
            yield Change(direction=Direction.STRICTER, location=("tools", index), words=words)


def _asking(policy: PolicyModel) -> dict[int, ToolRule]:
    return {index: rule for index, rule in enumerate(policy.tools) if rule.approval == "always"}


def _covers(wide: ToolRule, narrow: ToolRule) -> bool:
    """Return whether one rule surely speaks about every call that the other speaks about."""
    return (
        wide.match in ("*", narrow.match)
        and (wide.when in (None, narrow.when) or narrow.when == "tainted_arguments")
        and (
            wide.effects is None or set(narrow.effects or ("read", "write", "external")) <= set(wide.effects)
        )
    )


def _calls(rule: ToolRule) -> str:
    effects = f" with effect {' or '.join(rule.effects)}" if rule.effects else ""
    return f"calls of {rule.match}{effects}{f' when {rule.when}' if rule.when else ''}"


def _tests(old: PolicyModel, new: PolicyModel) -> Iterator[Change]:
    gone = sum(test not in new.tests for test in old.tests)
    if gone:
        words = f"{gone} of {len(old.tests)} tests are gone"
        yield Change(direction=Direction.NEUTRAL, location=("tests",), words=words)


def _neutral(section: str, key: str, was: int, now: int) -> Iterator[Change]:
    if was != now:
        words = f"{section}.{key} was {was}, is {now}"
        yield Change(direction=Direction.NEUTRAL, location=(section, key), words=words)


def _decides(name: str, policy: PolicyModel) -> bool:
    return any(
        rule.shield == name and _effect(rule, policy) is not Action.ALLOW
        for stage in Stage
        for rule in policy.rules(stage)
    )


def _by_order(was: float, now: float) -> Direction:
    """Return where a step in an order of strictness leads."""
    if was == now:
        return Direction.NEUTRAL
    return Direction.STRICTER if now > was else Direction.LOOSER


def _told(action: Action | None) -> str:
    if action is None:
        return "not looked for"
    return "only recorded" if action is Action.ALLOW else action.value


def _plain(value: object) -> object:
    """Return an option as a policy file would hold it."""
    return list(value) if isinstance(value, tuple) else value


def _said(value: object) -> str:
    return "unset" if value is None else shown(value)
