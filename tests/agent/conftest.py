"""The checks after a crash are imported, not collected: their asserts should explain themselves all the same."""

import pytest

pytest.register_assert_rewrite("tests.agent.crash_check")
