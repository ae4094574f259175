"""Public doubles of our own seams, for the tests of applications: ScriptedEngine, StaticShield, FailingShield.

`agentkit.testing.store_conformance` is the suite for a store of your own; it needs pytest.
"""

from agentkit.testing.doubles import FailingShield, ScriptedEngine, StaticShield, byte_tokenizer

__all__ = ["FailingShield", "ScriptedEngine", "StaticShield", "byte_tokenizer"]
