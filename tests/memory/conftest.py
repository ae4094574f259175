"""The conformance suite is imported, not collected: its asserts should explain themselves all the same."""

import pytest

pytest.register_assert_rewrite("agentkit.testing.store_conformance")
