"""A vLLM server of the tests' own, which they may kill; the one of the environment lives on beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.vllm_server import VLLMServer, running, why_not

MOST_AT_ONCE = 4
MOST_WAITING = 8
"""What the server takes before it refuses. It is asked eight things at once when an engine starts."""


@pytest.fixture(scope="package")
def own_server() -> Iterator[VLLMServer]:
    """One server for all tests of this folder; see `server`."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    limits = ("--max-num-seqs", str(MOST_AT_ONCE), "--max-num-queued-reqs", str(MOST_WAITING))
    with running(1, *limits) as servers:
        yield servers[0]


@pytest.fixture
def server(own_server: VLLMServer) -> VLLMServer:
    """The server of these tests, started again where the test before has killed it."""
    own_server.ensure()
    return own_server
