"""Two worker processes over two servers of our own, with the embedded model behind both, and a real PostgreSQL."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from agentkit import LocalEngine
from agentkit.inference.catalog import EMBEDDED_MODEL
from tests.inference.completions_server import MODEL, CompletionsServer
from tests.worker_example import check_example


@pytest.mark.model
async def test_sessions_move_between_workers_and_find_their_prefix_again(postgres_server):
    postgres_server.execute("CREATE DATABASE workers")
    async with AsyncExitStack() as closing:
        urls = []
        for _ in range(2):
            engine = await LocalEngine.load(EMBEDDED_MODEL)
            closing.push_async_callback(engine.close)
            server = await closing.enter_async_context(CompletionsServer(engine=engine).serving())
            urls.append(server.url)
        await check_example(postgres_server.url(database="workers"), urls, MODEL)
