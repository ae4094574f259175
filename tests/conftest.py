"""Fixtures that every room's tests share."""

from __future__ import annotations

import os

import pytest

from tests.postgres_server import postgres_schema as postgres_schema
from tests.postgres_server import postgres_server as postgres_server
from tests.tracing import spans as spans
from tests.tracing import tracer_provider as tracer_provider

# Triton reads this when it is first imported, by whatever test that is. With 0, a GPU runs the kernels.
os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
