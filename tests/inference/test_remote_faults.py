"""What RemoteEngine does when its server breaks, is busy, falls silent, refuses, or does not do as it is told."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import anyio
import pytest

from agentkit.errors import (
    ConfigurationError,
    ContextLengthError,
    GrammarError,
    InferenceError,
    RemoteError,
)
from agentkit.inference.base import Completion, Grammar, SamplingParams, StopReason, collect
from agentkit.inference.config import EngineConfig
from agentkit.inference.engine import LocalEngine
from agentkit.inference.grammar import json_schema_grammar
from agentkit.inference.loading import load_model
from agentkit.inference.remote import RemoteEngine
from agentkit.inference.remote_server import RemoteTimeouts
from agentkit.testing.doubles import byte_tokenizer
from tests.inference.calling import token_ids
from tests.inference.completions_server import MODEL, Break, CompletionsServer, Refusal
from tests.inference.tiny import build_tiny_checkpoint

KEY = "sk-not-to-be-seen"
PROMPT = token_ids(12)
PATIENT = RemoteTimeouts(first_token=10.0, next_token=10.0, retrying=10.0)
GRAMMAR = json_schema_grammar(
    {
        "type": "object",
        "properties": {"unit": {"enum": ["celsius", "fahrenheit"]}},
        "required": ["unit"],
        "additionalProperties": False,
    }
)
BREAKS = ["cut", "end", "error", "noise"]


@pytest.fixture
async def server(engine) -> AsyncIterator[CompletionsServer]:
    async with CompletionsServer(engine=engine, api_key=KEY).serving() as server:
        yield server


async def started(server: CompletionsServer, timeouts: RemoteTimeouts = PATIENT) -> RemoteEngine:
    remote = RemoteEngine(
        server.url, MODEL, tokenizer=server.engine.tokenizer, api_key=KEY, timeouts=timeouts
    )
    await remote.start()
    server.asked.clear()
    return remote


async def generated(remote: RemoteEngine, grammar: Grammar | None = None, **params) -> Completion:
    params = {"max_tokens": 20, "stop_ids": frozenset() if grammar is None else frozenset({2}), **params}
    return await collect(remote.generate(PROMPT, SamplingParams(**params), grammar=grammar))


# A stream that breaks


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("after", [0, 1, 7])
async def test_an_output_whose_stream_broke_goes_on_after_what_was_received(server, how, after):
    remote = await started(server)
    whole = await generated(remote)
    server.faults.append(Break(after=after, how=how))

    completion = await generated(remote)

    assert (completion.ids, completion.stop_reason) == (whole.ids, StopReason.MAX_TOKENS)
    assert completion.usage.output_tokens == 20
    _, broken, again = server.asked
    assert broken["prompt"] == PROMPT
    assert again["prompt"] == [*PROMPT, *whole.ids[:after]]
    assert again["max_tokens"] == 20 - after


@pytest.mark.parametrize("how", BREAKS)
async def test_under_a_grammar_the_output_is_drawn_again_from_the_same_ids(server, how):
    remote = await started(server)
    whole = await generated(remote, GRAMMAR, temperature=1.0, seed=7, max_tokens=80)
    server.faults.append(Break(after=4, how=how))

    completion = await generated(remote, GRAMMAR, temperature=1.0, seed=7, max_tokens=80)

    assert completion.ids == whole.ids
    assert [asked["prompt"] for asked in server.asked] == [PROMPT] * 3
    assert server.asked[1] == server.asked[2]


async def test_a_draw_without_a_seed_can_be_drawn_again_all_the_same(server):
    remote = await started(server)
    server.faults.append(Break(after=4))
    completion = await generated(remote, GRAMMAR, temperature=2.0, max_tokens=80)
    assert completion.stop_reason is StopReason.STOP_TOKEN
    assert server.asked[0]["seed"] == server.asked[1]["seed"]


async def test_an_output_that_begins_otherwise_the_second_time_is_an_error(server, tmp_path):
    remote = await started(server)
    loaded = load_model(
        str(build_tiny_checkpoint(tmp_path / "other", seed=1, context_length=4096)), EngineConfig()
    )
    other = LocalEngine(loaded.model, loaded.tokenizer)
    text = Grammar(lark="start: /[a-z ]{40}/")
    server.faults.append(Break(after=8))
    tokens = remote.generate(PROMPT, SamplingParams(max_tokens=60, stop_ids=frozenset({2})), grammar=text)
    await anext(tokens)
    server.engine = other

    with pytest.raises(RemoteError, match="asked again and gave another output") as raised:
        await collect(tokens)

    assert not raised.value.transient
    await other.close()


async def test_a_partial_output_is_never_taken_for_the_whole(server):
    remote = await started(server, RemoteTimeouts(retrying=0.0))
    server.faults.append(Break(after=5, how="end"))
    with pytest.raises(RemoteError, match="after 5 tokens without saying why"):
        await generated(remote)


@pytest.mark.parametrize("after", [0, 3])
async def test_a_server_that_falls_silent_is_asked_again(server, after):
    remote = await started(server, RemoteTimeouts(first_token=0.3, next_token=0.3, retrying=10.0))
    whole = await generated(remote)
    server.faults.append(Break(after=after, how="hang"))
    assert (await generated(remote)).ids == whole.ids


async def test_a_server_that_stays_silent_is_an_error_with_the_time_waited(server):
    remote = await started(server, RemoteTimeouts(first_token=0.2, retrying=0.0))
    server.faults.append(Break(after=0, how="hang"))
    with pytest.raises(RemoteError, match=r"said nothing for 0\.2 seconds"):
        await generated(remote)


async def test_an_output_that_is_given_up_ends_the_request(server):
    remote = await started(server)
    tokens = remote.generate(PROMPT, SamplingParams(max_tokens=4000))
    await anext(tokens)
    assert server.streaming == 1
    await tokens.aclose()
    with anyio.fail_after(10):
        while server.streaming:  # noqa: ASYNC110  # the server tells nobody
            await anyio.sleep(0.01)


# A server that is busy, gone, or comes back


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_busy_server_is_asked_again(server, status):
    remote = await started(server)
    server.faults.extend([Refusal(status=status), Refusal(status=status, headers=(("Retry-After", "0"),))])
    assert len((await generated(remote)).ids) == 20
    server.faults.append(Refusal(status=status))
    assert len((await remote.score(PROMPT, [5, 6])).logprobs) == 2


async def test_who_is_asked_to_wait_for_longer_than_he_tries_does_not_wait(server):
    remote = await started(server)
    server.faults.append(Refusal(status=429, headers=(("Retry-After", "3600"),)))
    with anyio.fail_after(5), pytest.raises(RemoteError, match="asks to wait 3600 seconds") as raised:
        await generated(remote)
    assert (raised.value.status, raised.value.transient, raised.value.retry_after) == (429, True, 3600.0)
    assert len(server.asked) == 1


async def test_nobody_waits_past_the_callers_deadline(server):
    remote = await started(server, RemoteTimeouts(retrying=600.0))
    server.faults.append(Refusal(status=503, headers=(("Retry-After", "30"),)))
    with anyio.move_on_after(20) as deadline, pytest.raises(RemoteError, match="status 503"):
        await generated(remote)
    assert not deadline.cancelled_caught


async def test_a_server_that_was_restarted_is_found_again(engine):
    before, after = (CompletionsServer(engine=engine, api_key=KEY) for _ in range(2))
    async with before.serving():
        remote = await started(before)
        port = int(before.url.rpartition(":")[2])
        tokens = remote.generate(PROMPT, SamplingParams(max_tokens=400))
        ids = [(await anext(tokens)).id]

    async def restart() -> None:
        await anyio.sleep(0.3)
        await stack.enter_async_context(after.serving(port))

    async with AsyncExitStack() as stack:
        async with anyio.create_task_group() as group:
            group.start_soon(restart)
            ids += [token.id async for token in tokens]
        assert len(ids) == 400
        assert tuple(ids) == (await generated(remote, max_tokens=400)).ids


async def test_a_server_that_is_not_there_is_an_error(free_tcp_port):
    url, at_once = f"http://127.0.0.1:{free_tcp_port}", RemoteTimeouts(retrying=0.0)
    remote = RemoteEngine(url, MODEL, tokenizer=byte_tokenizer(), timeouts=at_once)
    with pytest.raises(RemoteError, match=r"cannot be reached \(ConnectError\)") as raised:
        await remote.start()
    assert (raised.value.status, raised.value.transient) == (None, True)


# A server that refuses


async def test_a_wrong_key_is_not_tried_again_and_not_shown(server, caplog):
    caplog.set_level(logging.DEBUG)
    remote = RemoteEngine(server.url, MODEL, tokenizer=server.engine.tokenizer, api_key="sk-wrong")
    with pytest.raises(RemoteError, match=r"refused the API key \(status 401\)") as raised:
        await remote.start()
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    assert "sk-wrong" not in caplog.text + repr(raised.value) + repr(remote)
    assert len(server.keys) == 1


@pytest.mark.parametrize(
    "body",
    [
        {
            "error": {
                "message": "This model's maximum context length is 9 tokens. However, your prompt contains 12"
            }
        },
        {
            "error": {
                "code": "context_length_exceeded",
                "message": "This model's maximum context length is 9 tokens",
            }
        },
        {"error": {"type": "exceed_context_size_error", "n_prompt_tokens": 12, "n_ctx": 9}},
    ],
    ids=["vLLM", "OpenAI", "llama.cpp"],
)
async def test_a_prompt_that_the_server_finds_too_long_is_an_error_with_both_numbers(server, body):
    remote = await started(server)
    server.faults.extend([Refusal(status=400, body=body)] * 2)
    with pytest.raises(ContextLengthError) as raised:
        await generated(remote)
    assert (raised.value.prompt_tokens, raised.value.context_length) == (len(PROMPT), 9)
    with pytest.raises(ContextLengthError):
        await remote.score(PROMPT, [1])


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (
            {"error": {"message": "you said: hunter2", "type": "BadRequestError", "param": "seed"}},
            "BadRequestError, seed",
        ),
        ({"error": {"message": "hunter2", "type": "a sentence with hunter2", "param": None}}, "status 400"),
        ({"detail": "hunter2"}, "status 400"),
        ({"error": "hunter2"}, "status 400"),
        (["hunter2"], "status 400"),
    ],
)
async def test_errors_name_what_is_wrong_and_never_what_was_said(server, body, named):
    remote = await started(server)
    server.faults.append(Refusal(status=400, body=body))
    with pytest.raises(RemoteError) as raised:
        await generated(remote)
    assert named in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert not raised.value.transient
    assert len(server.asked) == 1


# A server that does not do as it is told


async def test_a_server_that_drops_the_grammar_is_caught_by_its_first_wrong_token(server):
    remote = await started(server)
    server.knows -= {"grammar"}
    with pytest.raises(GrammarError, match="does not hold to the grammar: token"):
        await generated(remote, GRAMMAR)


async def test_a_server_that_goes_on_after_a_stop_id_is_not_listened_to(server):
    remote = await started(server)
    stop = (await generated(remote)).ids[6]
    stopped = await generated(remote, stop_ids=frozenset({stop}))
    server.knows -= {"stop"}
    assert (await generated(remote, stop_ids=frozenset({stop}))).ids == stopped.ids


async def test_a_server_with_fewer_logprobs_than_asked_for_gives_no_score(server):
    remote = await started(server)
    server.knows -= {"candidates"}
    least_likely = min(
        range(3, 300), key=dict(zip(range(3, 300), await all_logprobs(server), strict=True)).__getitem__
    )
    with pytest.raises(InferenceError, match="no log-probability for 1 of 1 candidates"):
        await remote.score(PROMPT, [least_likely])


async def all_logprobs(server: CompletionsServer) -> tuple[float, ...]:
    return (await server.engine.score(PROMPT, range(3, 300))).logprobs


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "http://host/v1?key=1"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigurationError, match="base_url must be like"):
        RemoteEngine(url, MODEL)


def test_an_address_with_a_password_is_refused_without_showing_it():
    with pytest.raises(ConfigurationError, match="pass api_key instead") as raised:
        RemoteEngine("http://user:hunter2@host", MODEL)
    assert "hunter2" not in str(raised.value)
