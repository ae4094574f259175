"""What RemoteEngine finds out about a server at its start, and how it does without what is missing."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from agentkit.errors import ConfigurationError, InferenceError
from agentkit.inference.base import Priority, SamplingParams, StopReason, collect
from agentkit.inference.grammar import json_schema_grammar
from agentkit.inference.remote import RemoteEngine
from agentkit.testing.doubles import byte_tokenizer
from tests.inference.calling import token_ids
from tests.inference.completions_server import EVERYTHING, MODEL, CompletionsServer
from tests.inference.tiny import TINY_CONTEXT

TEXT = "The quick brown fox jumps over"


@pytest.fixture
async def server(engine) -> AsyncIterator[CompletionsServer]:
    async with CompletionsServer(engine=engine).serving() as server:
        yield server


async def started(server: CompletionsServer, *, without: frozenset[str] = frozenset()) -> RemoteEngine:
    server.knows = EVERYTHING - without
    remote = RemoteEngine(server.url, MODEL, tokenizer=server.engine.tokenizer)
    await remote.start()
    server.asked.clear()
    return remote


async def test_a_server_that_can_do_everything_lacks_nothing(server):
    remote = await started(server)
    assert remote.capabilities.missing == ()
    assert remote.context_length == TINY_CONTEXT


@pytest.mark.parametrize(
    ("without", "named"),
    [
        ({"token_ids"}, ["token ids"]),
        ({"tokenize"}, ["/tokenize"]),
        ({"grammar"}, ["our grammars"]),
        ({"candidates"}, ["log-probabilities"]),
        ({"logprobs"}, ["log-probabilities"]),
        ({"salt"}, ["cache_salt"]),
        ({"priority"}, ["priorities"]),
        ({"cached"}, ["cached tokens"]),
    ],
    ids=lambda value: " ".join(sorted(value)) if isinstance(value, set) else "",
)
async def test_what_is_missing_is_named_and_logged(server, caplog, without, named):
    remote = await started(server, without=frozenset(without))
    missing = [sentence.partition(":")[0] for sentence in remote.capabilities.missing]
    assert [next(name for name in named if one.startswith(name)) for one in missing] == named
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * len(named)


async def test_the_server_is_asked_once_and_only_when_something_is_wanted(server):
    remote = RemoteEngine(server.url + "/v1/", MODEL, tokenizer=server.engine.tokenizer)
    with pytest.raises(InferenceError, match=r"await engine\.start\(\) first"):
        _ = remote.tokenizer
    assert server.keys == []
    await remote.score(token_ids(5), [1])
    asked = len(server.keys)
    await remote.start()
    assert len(server.keys) == asked


async def test_a_model_that_is_not_served_is_refused_with_those_that_are(server):
    remote = RemoteEngine(server.url, "teeny", tokenizer=server.engine.tokenizer)
    with pytest.raises(ConfigurationError, match="does not serve a model named 'teeny'; it serves tiny"):
        await remote.start()


async def test_another_tokenizer_than_the_servers_is_refused(server):
    remote = RemoteEngine(server.url, MODEL, tokenizer=byte_tokenizer())
    with pytest.raises(ConfigurationError, match="does not tokenize for 'tiny' as the given tokenizer does"):
        await remote.start()


async def test_a_context_longer_than_the_servers_is_refused(server):
    remote = RemoteEngine(server.url, MODEL, tokenizer=server.engine.tokenizer, context_length=5000)
    with pytest.raises(ConfigurationError, match=r"context_length is 5000, the server at .* serves 4096"):
        await remote.start()


async def test_an_address_may_have_its_v1(server):
    for url in (server.url, server.url + "/", server.url + "/v1", server.url + "/v1/"):
        await RemoteEngine(url, MODEL, tokenizer=server.engine.tokenizer).start()


async def test_the_server_is_told_the_priority_and_a_digest_of_the_scope(server):
    remote = await started(server)
    await collect(remote.generate(token_ids(5), SamplingParams(max_tokens=1), scope="alice"))
    await collect(remote.generate(token_ids(5), SamplingParams(max_tokens=1)))
    await remote.score(token_ids(5), [1], scope="alice")
    generated, unscoped, scored = server.asked
    assert (generated["priority"], scored["priority"]) == (Priority.INTERACTIVE, Priority.SHIELD)
    assert generated["cache_salt"] == scored["cache_salt"]
    assert "alice" not in str(server.asked)
    assert "cache_salt" not in unscoped


async def test_only_the_most_likely_tokens_have_a_score_where_candidates_cannot_be_named(server):
    prompt = token_ids(9)
    remote = await started(server, without=frozenset({"candidates"}))
    everything = (await server.engine.score(prompt, range(320))).logprobs
    best = sorted(range(320), key=lambda one: -everything[one])[:5]
    score = await remote.score(prompt, best)
    assert score.logprobs == pytest.approx([everything[one] for one in best], abs=1e-5)


# Without token ids


async def test_a_server_without_ids_gets_text_and_its_text_comes_back(server):
    local, remote = server.engine, await started(server, without=frozenset({"token_ids"}))
    prompt = [0, *local.tokenizer.encode(TEXT), 2]
    params = SamplingParams(max_tokens=30, stop_ids=frozenset({2}))
    expected = await collect(local.generate(prompt, params))

    completion = await collect(remote.generate(prompt, params))

    assert server.asked[0]["prompt"] == f"<|begin|>{TEXT}<|turn|>"
    assert server.asked[0]["stop"] == ["<|turn|>"]
    # The last tokens may have begun a character that the server kept to itself.
    texts = [local.tokenizer.decode(one.ids).rstrip("\ufffd") for one in (completion, expected)]
    assert texts[0] == texts[1] != ""
    assert completion.stop_reason is expected.stop_reason


async def test_an_output_in_text_ends_with_the_id_of_the_text_that_stopped_it(server):
    local, remote = server.engine, await started(server, without=frozenset({"token_ids"}))
    prompt = local.tokenizer.encode(TEXT)
    params = SamplingParams(max_tokens=4000, temperature=10.0, seed=3, stop_ids=frozenset({2}))
    completion = await collect(remote.generate(prompt, params))
    assert (completion.ids[-1], completion.stop_reason) == (2, StopReason.STOP_TOKEN)


@pytest.mark.parametrize("said", ["<|turn|>", "a <|end|> b", "x<|begin|>"])
async def test_text_that_spells_a_special_token_is_refused_where_the_server_would_see_one(server, said):
    remote = await started(server, without=frozenset({"token_ids"}))
    prompt = [0, *server.engine.tokenizer.encode(said), 2]
    with pytest.raises(InferenceError, match="spells 3 special tokens and means 2"):
        await collect(remote.generate(prompt, SamplingParams()))
    assert server.asked == []


# Without grammars


async def test_a_server_without_grammars_is_not_asked_to_hold_to_one(server):
    remote = await started(server, without=frozenset({"grammar"}))
    params = SamplingParams(max_tokens=5, stop_ids=frozenset({2}))
    grammar = json_schema_grammar({"type": "object"})
    completion = await collect(remote.generate(token_ids(5), params, grammar=grammar))
    assert completion.ids == (await collect(remote.generate(token_ids(5), params))).ids
    assert all("structured_outputs" not in asked for asked in server.asked)


def test_importing_the_engine_loads_no_torch():
    code = "import agentkit.inference.remote, sys; print(sorted({'torch', 'transformers', 'numba'} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
