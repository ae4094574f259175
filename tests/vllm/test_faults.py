"""RemoteEngine and RemotePool over a real vLLM that is killed, started again and given too much to do."""

from __future__ import annotations

import os
from contextlib import aclosing

import anyio
import anyio.to_thread
import pytest

from agentkit import RemoteEngine, RemoteError, RemotePool, RemoteTimeouts, SamplingParams
from agentkit.inference.base import Completion, GeneratedToken, collect
from agentkit.inference.catalog import EMBEDDED_MODEL
from benchmarks.vllm_server import MODEL, URL_VARIABLE, VLLMServer
from tests.vllm.conftest import MOST_AT_ONCE, MOST_WAITING

pytestmark = [pytest.mark.vllm, pytest.mark.model, pytest.mark.timeout(900)]

PROMPT = "Once upon a time there was a lighthouse keeper who"
PARAMS = SamplingParams(max_tokens=24)


def engine_at(server: VLLMServer, *, seconds: float) -> RemoteEngine:
    timeouts = RemoteTimeouts(retrying=seconds)
    return RemoteEngine(server.url, MODEL, tokenizer=EMBEDDED_MODEL, timeouts=timeouts)


async def whole(engine: RemoteEngine | RemotePool, *, scope: str = "") -> Completion:
    await engine.start()
    return await collect(engine.generate(engine.tokenizer.encode(PROMPT), PARAMS, scope=scope))


async def test_too_much_at_once_is_refused_and_waits_its_turn(server: VLLMServer):
    crowd = range(2 * (MOST_AT_ONCE + MOST_WAITING))
    hasty, patient = engine_at(server, seconds=0), engine_at(server, seconds=300)
    refused: list[RemoteError] = []
    done: list[Completion] = []

    async def ask_hastily() -> None:
        try:
            await whole(hasty)
        except RemoteError as error:
            refused.append(error)

    async def ask_patiently() -> None:
        done.append(await whole(patient))

    for engine, ask in ((hasty, ask_hastily), (patient, ask_patiently)):
        await engine.start()
        async with anyio.create_task_group() as tasks:
            for _ in crowd:
                tasks.start_soon(ask)
        await engine.close()
    assert refused
    assert {(error.status, error.transient) for error in refused} == {(503, True)}
    assert len(done) == len(crowd)
    assert len({completion.ids for completion in done}) == 1


async def test_what_a_killed_server_has_given_is_never_taken_for_the_whole(server: VLLMServer):
    engine = engine_at(server, seconds=0)
    await engine.start()
    given: list[GeneratedToken] = []

    async def take_all() -> None:
        async for token in engine.generate(engine.tokenizer.encode(PROMPT), PARAMS):
            given.append(token)
            if len(given) == 3:
                await anyio.to_thread.run_sync(server.kill)

    with pytest.raises(RemoteError) as caught:
        await take_all()
    await engine.close()
    assert caught.value.transient
    assert 3 <= len(given) < PARAMS.max_tokens
    assert all(token.stop_reason is None for token in given)


async def test_an_output_goes_on_when_its_server_is_started_again(server: VLLMServer):
    engine = engine_at(server, seconds=300)
    expected = await whole(engine)
    given = []

    async def restart() -> None:
        await anyio.to_thread.run_sync(server.kill)
        await anyio.to_thread.run_sync(server.start)

    async with anyio.create_task_group() as tasks:
        async for token in engine.generate(engine.tokenizer.encode(PROMPT), PARAMS):
            given.append(token.id)
            if len(given) == 3:
                tasks.start_soon(restart)
    await engine.close()
    assert tuple(given) == expected.ids


async def test_a_pool_goes_on_at_the_other_server_when_one_is_killed(server: VLLMServer):
    other = os.environ.get(URL_VARIABLE)
    if not other:
        pytest.skip(f"needs a second vLLM server: set {URL_VARIABLE}")
    pool = RemotePool([server.url, other], MODEL, tokenizer=EMBEDDED_MODEL)
    expected = await whole(pool)
    prompt, given = pool.tokenizer.encode(PROMPT), []
    scope = await scope_at(pool, server.url)
    async for token in pool.generate(prompt, PARAMS, scope=scope):
        given.append(token.id)
        if len(given) == 3:
            await anyio.to_thread.run_sync(server.kill)
    assert tuple(given) == expected.ids
    assert [replica.faults for replica in pool.replicas] == [1, 0]
    await pool.close()


async def scope_at(pool: RemotePool, url: str) -> str:
    """Return a scope whose sessions are at home at an address."""
    prompt = pool.tokenizer.encode(PROMPT)
    for number in range(100):
        async with aclosing(pool.generate(prompt, PARAMS, scope=str(number))) as tokens:
            await anext(tokens)
            if [replica.url for replica in pool.replicas if replica.in_flight] == [url]:
                return str(number)
    raise AssertionError(f"none of 100 scopes is at home at {url}")
