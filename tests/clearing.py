"""Cleared messages for tests, as those of `agentkit.testing` are made."""

from agentkit.testing.store_samples import cleared

__all__ = ["cleared"]
