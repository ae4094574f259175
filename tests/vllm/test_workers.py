"""The example of two workers over two real vLLM servers and a real PostgreSQL."""

from __future__ import annotations

import os

import pytest

from benchmarks.vllm_server import MODEL, URL_VARIABLE, VLLMServer
from tests.worker_example import check_example

pytestmark = [pytest.mark.vllm, pytest.mark.model, pytest.mark.timeout(900)]


async def test_sessions_move_between_workers_and_find_their_prefix_again(server: VLLMServer, postgres_server):
    other = os.environ.get(URL_VARIABLE)
    if not other:
        pytest.skip(f"needs a second vLLM server: set {URL_VARIABLE}")
    postgres_server.execute("CREATE DATABASE vllm_workers")
    await check_example(postgres_server.url(database="vllm_workers"), [server.url, other], MODEL)
