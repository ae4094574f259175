"""RemotePool over small HTTP servers of our own: who is called, and what follows when they die, hang or are full."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from agentkit.errors import ConfigurationError, InferenceError, RemoteError
from agentkit.inference.base import Completion, Grammar, SamplingParams, StopReason, collect
from agentkit.inference.remote_pool import RemotePool
from agentkit.inference.remote_server import RemoteTimeouts
from agentkit.testing import byte_tokenizer
from tests.inference.replica_server import ReplicaServer, continuation, serving

TURN_END = 257
ANY_TEXT = Grammar(lark="start: /(.|\\n)*/")

MakePool = Callable[..., Coroutine[Any, Any, RemotePool]]


class Clock:
    """The real time, and what a test adds to it."""

    def __init__(self) -> None:
        self.added = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.added


@pytest.fixture
async def servers() -> AsyncIterator[list[ReplicaServer]]:
    async with serving(2) as servers:
        yield servers


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def make_pool(servers: list[ReplicaServer], clock: Clock) -> AsyncIterator[MakePool]:
    """Return a function that makes a started pool over the servers; what it asked them at the start is forgotten."""
    async with AsyncExitStack() as closing:

        async def make_pool(urls: Sequence[str] | None = None, **options) -> RemotePool:
            options.setdefault("timeouts", RemoteTimeouts(retrying=5))
            addresses = [server.url for server in servers] if urls is None else urls
            pool = RemotePool(addresses, "bytes", tokenizer=byte_tokenizer(), clock=clock, **options)
            closing.push_async_callback(pool.close)
            await pool.start()
            for server in servers:
                server.forget_probes()
            return pool

        yield make_pool


def prompt_of(text: str) -> list[int]:
    return [*text.encode(), TURN_END]


async def generate(pool: RemotePool, prompt: list[int], scope: str = "", **options) -> Completion:
    grammar = options.pop("grammar", None)
    params = SamplingParams(max_tokens=10, stop_ids=frozenset({TURN_END}), **options)
    return await collect(pool.generate(prompt, params, grammar=grammar, scope=scope))


async def home_and_other(
    pool: RemotePool, servers: Sequence[ReplicaServer], prompt: list[int], scope: str = ""
) -> tuple[ReplicaServer, ReplicaServer]:
    """Ask once; return the server that was asked, and the one that was not."""
    await generate(pool, prompt, scope)
    home, other = sorted(servers, key=lambda server: len(server.prompts), reverse=True)
    assert (home.prompts, other.prompts) == ([prompt], [])
    for server in servers:
        server.forget_probes()
    return home, other


async def test_every_turn_of_a_session_goes_to_one_replica_and_sessions_to_all(make_pool, servers):
    pool = await make_pool()
    homes = []
    for tenant in range(12):
        prompt = prompt_of("What is new?")
        for _turn in range(3):
            completion = await generate(pool, prompt, f"tenant-{tenant}")
            prompt = [*prompt, *completion.ids, *prompt_of("And then?")]
        asked = [len(server.prompts) for server in servers]
        assert sorted(asked) == [0, 3]
        homes.append(asked.index(3))
        for server in servers:
            server.forget_probes()
    assert set(homes) == {0, 1}


async def test_two_pools_route_alike_however_their_addresses_are_written(make_pool, servers):
    one = await make_pool()
    two = await make_pool([f"{server.url}/v1/" for server in reversed(servers)])
    for tenant in range(10):
        home, _ = await home_and_other(one, servers, prompt_of("Hello"), f"tenant-{tenant}")
        assert (await home_and_other(two, servers, prompt_of("Hello"), f"tenant-{tenant}"))[0] is home


async def test_an_output_goes_on_at_the_next_replica_when_its_own_dies(make_pool, servers):
    pool, prompt = await make_pool(), prompt_of("Hello")
    home, other = await home_and_other(pool, servers, prompt)
    home.dies_after = 4
    completion = await generate(pool, prompt)
    assert list(completion.ids) == continuation(prompt, 10)
    assert completion.stop_reason is StopReason.MAX_TOKENS
    given = len(other.prompts[0]) - len(prompt)
    assert given > 0
    assert other.prompts == [[*prompt, *completion.ids[:given]]]
    usage = completion.usage
    assert (usage.prompt_tokens, usage.prefilled_tokens, usage.output_tokens) == (
        len(prompt),
        len(prompt),
        10,
    )


@pytest.mark.parametrize("temperature", [0.0, 0.7])
async def test_under_a_grammar_the_step_begins_again_from_the_same_ids(make_pool, servers, temperature):
    pool, prompt = await make_pool(), prompt_of("Hello")
    home, other = await home_and_other(pool, servers, prompt)
    home.dies_after = 4
    completion = await generate(pool, prompt, grammar=ANY_TEXT, temperature=temperature)
    assert list(completion.ids) == continuation(prompt, 10)
    assert home.prompts == other.prompts == [prompt]
    assert completion.usage.output_tokens == 10


async def test_under_a_grammar_another_output_is_never_joined_to_what_was_given(make_pool, servers):
    pool, prompt = await make_pool(), prompt_of("Hello")
    home, other = await home_and_other(pool, servers, prompt)
    home.dies_after, other.twist = 4, 1
    with pytest.raises(
        InferenceError, match=r"lost after \d tokens, and the next one went on otherwise at token 0"
    ):
        await generate(pool, prompt, grammar=ANY_TEXT)


async def test_a_replica_that_died_is_left_alone_and_gets_its_sessions_back(make_pool, servers, clock):
    pool, prompt = await make_pool(), prompt_of("Hello")
    home, other = await home_and_other(pool, servers, prompt)
    home.kill()
    await generate(pool, prompt)
    await home.start()
    await generate(pool, prompt)
    assert (len(home.prompts), home.checks, len(other.prompts)) == (0, 0, 2)
    clock.added += 1.5
    await generate(pool, prompt)
    assert (len(home.prompts), home.checks, len(other.prompts)) == (1, 1, 2)
    assert [replica.faults for replica in pool.replicas] == [0, 0]


async def test_a_replica_that_stays_dead_is_asked_ever_more_rarely(make_pool, servers, clock):
    pool, prompt = await make_pool(), prompt_of("Hello")
    home, _ = await home_and_other(pool, servers, prompt)
    home.kill()
    rests = []
    for _ in range(7):
        clock.added += 31
        await generate(pool, prompt)
        rests.append(max(replica.retry_in for replica in pool.replicas))
    assert rests == pytest.approx([1, 2, 4, 8, 16, 30, 30], abs=0.5)


async def test_all_streams_that_break_at_once_are_one_fault(make_pool, servers):
    pool, prompt = await make_pool(), prompt_of("Hello")
    home, _ = await home_and_other(pool, servers, prompt)
    home.seconds_per_token = 0.02
    whole = []

    async def ask() -> None:
        whole.append(await generate(pool, prompt))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(ask)
        await anyio.sleep(0.1)
        home.kill()
    assert [list(completion.ids) for completion in whole] == [continuation(prompt, 10)] * 8
    assert sorted(replica.faults for replica in pool.replicas) == [0, 1]


async def test_a_pool_needs_but_one_replica_to_start_and_takes_the_other_when_it_is_there(
    make_pool, servers, clock
):
    servers[0].kill()
    pool = await make_pool()
    await generate(pool, prompt_of("Hello"))
    assert len(servers[1].prompts) == 1
    await servers[0].start()
    clock.added += 10
    for tenant in range(10):
        await generate(pool, prompt_of("Hello"), f"tenant-{tenant}")
    assert prompt_of("Hello") in servers[0].prompts


@pytest.mark.parametrize("state", ["healthy", "hangs"])
async def test_a_replica_that_was_silent_is_asked_for_its_health_before_it_gets_a_call(
    make_pool, servers, clock, state
):
    pool, prompt = await make_pool(), prompt_of("Hello")
    home, other = await home_and_other(pool, servers, prompt)
    setattr(home, state, state == "hangs")
    clock.added += 11
    await generate(pool, prompt)
    assert (home.prompts, other.prompts) == ([], [prompt])


async def test_a_busy_replica_is_passed_by_for_a_moment(make_pool, servers, clock):
    pool, prompt = await make_pool(), prompt_of("Hello")
    home, other = await home_and_other(pool, servers, prompt)
    home.busy = True
    await generate(pool, prompt)
    home.busy = False
    await generate(pool, prompt)
    assert (home.prompts, other.prompts) == ([], [prompt, prompt])
    clock.added += 1.5
    await generate(pool, prompt)
    assert home.prompts == [prompt]


async def test_a_full_replica_gives_to_the_next_and_takes_more_where_all_are_full(make_pool, servers):
    pool, prompt = await make_pool(max_in_flight=2), prompt_of("Hello")
    home, other = await home_and_other(pool, servers, prompt)
    home.seconds_per_token = other.seconds_per_token = 0.02
    async with anyio.create_task_group() as tasks:
        for count, asked in enumerate([(1, 0), (2, 0), (2, 1), (2, 2), (3, 2), (3, 3)], start=1):
            tasks.start_soon(generate, pool, prompt)
            while len(home.prompts) + len(other.prompts) < count:  # noqa: ASYNC110  # servers tell no event
                await anyio.sleep(0.001)
            assert (len(home.prompts), len(other.prompts)) == asked
    assert [replica.in_flight for replica in pool.replicas] == [0, 0]


async def test_a_drained_replica_ends_what_it_does_and_gets_nothing_new(make_pool, servers):
    pool, prompt = await make_pool(), prompt_of("Hello")
    home, other = await home_and_other(pool, servers, prompt)
    tokens = pool.generate(prompt, SamplingParams(max_tokens=10))
    first = await anext(tokens)
    pool.drain(home.url)
    assert [first.id, *[token.id async for token in tokens]] == continuation(prompt, 10)
    await generate(pool, prompt)
    assert (home.prompts, other.prompts) == ([prompt], [prompt])
    pool.restore(home.url)
    await generate(pool, prompt)
    assert home.prompts == [prompt, prompt]


async def test_a_caller_that_stops_early_is_no_fault_and_frees_its_place(make_pool, servers):
    pool, prompt = await make_pool(), prompt_of("Hello")
    servers[0].seconds_per_token = servers[1].seconds_per_token = 0.02
    tokens = pool.generate(prompt, SamplingParams(max_tokens=10))
    await anext(tokens)
    assert sorted(replica.in_flight for replica in pool.replicas) == [0, 1]
    await tokens.aclose()
    assert [(replica.in_flight, replica.faults) for replica in pool.replicas] == [(0, 0), (0, 0)]


async def test_a_score_comes_from_the_next_replica_when_its_own_is_dead(make_pool, servers):
    pool, prompt = await make_pool(), prompt_of("Hello")
    home, _ = await home_and_other(pool, servers, prompt)
    before = await pool.score(prompt, [1, 2])
    home.kill()
    assert (await pool.score(prompt, [1, 2])).logprobs == before.logprobs


async def test_a_call_waits_for_a_replica_that_comes_back(make_pool, servers):
    pool, prompt = await make_pool([servers[0].url]), prompt_of("Hello")
    servers[0].kill()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(generate, pool, prompt)
        await anyio.sleep(0.1)
        await servers[0].start()
    assert servers[0].prompts == [prompt]


async def test_a_call_that_finds_no_replica_says_how_each_of_them_is(make_pool, servers):
    pool = await make_pool(timeouts=RemoteTimeouts(retrying=0.3))
    servers[0].kill()
    servers[1].busy = True
    with pytest.raises(InferenceError) as caught:
        await generate(pool, prompt_of("Hello"))
    assert str(caught.value).startswith("no replica took the call within 0.3 seconds: http://127.0.0.1:")
    assert f"{servers[0].url} (1 faults in a row), {servers[1].url} (busy)" in str(caught.value)


async def test_a_pool_that_is_drained_or_closed_says_so(make_pool, servers):
    pool = await make_pool()
    for server in servers:
        pool.drain(server.url)
    with pytest.raises(InferenceError, match="all 2 replicas of the pool are drained"):
        await generate(pool, prompt_of("Hello"))
    await pool.close()
    await pool.close()
    with pytest.raises(InferenceError, match="the engine is closed"):
        await generate(pool, prompt_of("Hello"))


async def test_a_call_that_breaks_one_replica_after_the_other_is_given_up(make_pool, servers):
    pool, prompt = await make_pool(), prompt_of("Hello")
    for server in servers:
        server.breaks = True
    with pytest.raises(RemoteError) as caught:
        await generate(pool, prompt)
    assert caught.value.status == 500
    assert servers[0].prompts + servers[1].prompts == [prompt] * 3


async def test_an_error_of_the_call_itself_is_not_tried_elsewhere(make_pool, servers):
    pool = await make_pool()
    with pytest.raises(InferenceError, match="context is 4096 tokens, prompt has 5000"):
        await generate(pool, [1] * 5_000)
    assert [server.prompts for server in servers] == [[], []]
    assert [replica.faults for replica in pool.replicas] == [0, 0]


@pytest.mark.parametrize(
    ("urls", "options", "message"),
    [
        ([], {}, "at least one address"),
        (["http://a:1", "http://a:1/v1"], {}, "each once; got 2, 1 of them different"),
        (["http://a:1"], {"max_in_flight": 0}, "max_in_flight must be at least 1, got 0"),
    ],
)
def test_a_pool_that_cannot_be_says_why(urls, options, message):
    with pytest.raises(ConfigurationError, match=message):
        RemotePool(urls, "bytes", tokenizer=byte_tokenizer(), **options)


async def test_an_address_that_is_not_of_the_pool_cannot_be_drained(make_pool):
    pool = await make_pool()
    with pytest.raises(ConfigurationError, match="the pool has no replica at 'http://else:1'"):
        pool.drain("http://else:1")
