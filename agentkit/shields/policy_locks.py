"""What a policy locks for those that extend it: it may get stricter there, never looser. Compares nothing itself."""

from __future__ import annotations

from agentkit.shields.base import Stage
from agentkit.shields.policy_changes import Change, Direction
from agentkit.shields.policy_model import PolicyModel


def lock_names(policy: PolicyModel) -> tuple[str, ...]:
    """Return everything that a policy can lock."""
    shields = [f"shields.{name}" for name in policy.shields]
    stages = [f"stages.{stage.value}" for stage in Stage]
    return ("shields", *shields, "stages", *stages, "failure", "tools")


def lock_on(change: Change, base: PolicyModel) -> str | None:
    """Return the lock of the base that a change breaks, or None.

    A change is against a lock unless it is stricter, or of no consequence. A locked stage also locks the shields
    that judge there: a rule is worth what its shield finds.
    """
    if change.direction not in (Direction.LOOSER, Direction.UNCLEAR):
        return None
    return next((lock for lock in base.locks if _covers(lock, change, base)), None)


def _covers(lock: str, change: Change, base: PolicyModel) -> bool:
    section, _, name = lock.partition(".")
    if change.location[0] == section:
        return not name or change.location[1:2] == (name,)
    if section == "stages" and change.location[0] == "shields":
        stages = [Stage(name)] if name else list(Stage)
        return any(rule.shield == change.location[1] for stage in stages for rule in base.rules(stage))
    return False
