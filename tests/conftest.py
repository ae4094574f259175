"""Fixtures that every room's tests share."""

from __future__ import annotations

import pytest

from tests.postgres_server import postgres_schema as postgres_schema
from tests.postgres_server import postgres_server as postgres_server


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
