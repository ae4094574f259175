"""Whose turn it is, who waits for memory, and what a request that fails does to the others."""

from __future__ import annotations

import random

import pytest
import torch

from agentkit.errors import InferenceError
from agentkit.inference.base import Priority
from agentkit.inference.request import GenerationRequest, ScoreRequest
from agentkit.inference.runner import EagerRunner
from tests.inference.calling import greedy_ids, token_ids
from tests.inference.scheduling import (
    Inbox,
    RecordingRequest,
    drain,
    drawn,
    error_of,
    generation,
    new_scheduler,
    steps,
)

# Turns


def test_a_step_is_one_token_for_all_that_decode_and_one_chunk_beside_them(tiny_model):
    scheduler = new_scheduler(tiny_model)
    journal: list[str] = []
    for name in ("first", "second"):
        scheduler.submit(RecordingRequest(journal, name, tokens=5))
    scheduler.step()
    scheduler.submit(RecordingRequest(journal, "long", prompt=40, tokens=2))
    assert steps(scheduler, journal) == [
        ["first 1", "second 1", "long 16"],
        ["first 1", "second 1", "long 16"],
        ["first 1", "second 1", "long 8"],
        ["first 1", "second 1", "long 1"],
    ]


def test_shields_go_first_and_between_two_of_their_chunks_decoding_goes_on(tiny_model):
    scheduler = new_scheduler(tiny_model)
    journal: list[str] = []
    scheduler.submit(RecordingRequest(journal, "decoding", tokens=4))
    scheduler.step()
    scheduler.submit(RecordingRequest(journal, "background", priority=Priority.BACKGROUND, tokens=1))
    scheduler.submit(RecordingRequest(journal, "prompt", tokens=1))
    scheduler.submit(RecordingRequest(journal, "verdict", prompt=30, priority=Priority.SHIELD, tokens=1))
    assert steps(scheduler, journal) == [
        ["verdict 16"],
        ["decoding 1"],
        ["verdict 14"],
        ["decoding 1"],
        ["decoding 1", "prompt 4"],
        ["background 4"],
    ]


def test_prompts_of_one_priority_share_a_chunk_the_shortest_first(tiny_model):
    scheduler = new_scheduler(tiny_model)
    journal: list[str] = []
    for name, prompt in (("long", 30), ("short", 5), ("middle", 7)):
        scheduler.submit(RecordingRequest(journal, name, prompt=prompt, priority=Priority.SHIELD, tokens=1))
    assert steps(scheduler, journal) == [["short 5", "middle 7", "long 4"], ["long 16"], ["long 10"]]


def test_a_long_prompt_is_not_overtaken_for_ever(tiny_model):
    scheduler = new_scheduler(tiny_model)
    journal: list[str] = []
    scheduler.submit(RecordingRequest(journal, "long", prompt=60, tokens=1))
    taken = []
    for number in range(8):
        scheduler.submit(RecordingRequest(journal, f"short {number}", prompt=16, tokens=1))
        journal.clear()
        scheduler.step()
        taken += journal
    assert taken.count("long 16") == 2


@pytest.mark.parametrize("prefill_chunk", [16, 1000])
def test_requests_that_come_together_compute_their_common_prompt_once(tiny_model, prefill_chunk):
    scheduler = new_scheduler(tiny_model, prefill_chunk=prefill_chunk)
    requests = [generation([*token_ids(100), 200 + number], max_tokens=2) for number in range(4)]
    for request in requests:
        scheduler.submit(request)
    drain(scheduler)
    usages = [request._mailbox.received[-1].usage for request in requests]  # type: ignore[attr-defined]
    assert usages[0].cached_tokens == 0
    assert all(usage.cached_tokens >= 96 for usage in usages[1:])


# Failures


def divide_by_zero() -> None:
    raise ZeroDivisionError("a bug")


def allocate_too_much() -> None:
    torch.empty(1 << 60)


def python_runs_out() -> None:
    raise MemoryError


class Panic(BaseException):
    """What a Rust library raises when it panics: no `Exception`."""


def panic() -> None:
    raise Panic


@pytest.mark.parametrize(
    ("failure", "message", "cause"),
    [
        (divide_by_zero, "the engine failed in this request: ZeroDivisionError", ZeroDivisionError),
        (panic, "the engine failed in this request: Panic", Panic),
        (allocate_too_much, "out of memory with 4 tokens in the request and 2 requests", RuntimeError),
        (python_runs_out, "out of memory", MemoryError),
    ],
)
def test_a_request_that_fails_fails_alone(tiny_model, failure, message, cause):
    scheduler = new_scheduler(tiny_model)
    failing, other = RecordingRequest([], "failing", failure=failure), generation(token_ids(9))
    scheduler.submit(failing)
    scheduler.submit(other)
    drain(scheduler)
    error = error_of(failing)
    assert isinstance(error, InferenceError)
    assert message in str(error)
    assert type(error.__cause__) is cause
    assert drawn(other) == greedy_ids(tiny_model, token_ids(9), 8)
    assert scheduler.stats().active_bytes == 0


def test_a_pass_that_fails_fails_only_the_request_that_broke_it(tiny_model):
    scheduler = new_scheduler(tiny_model)
    broken, other = generation([5, 6, 100_000]), generation(token_ids(9))
    scheduler.submit(broken)
    scheduler.submit(other)
    drain(scheduler)
    assert str(error_of(broken)) == "the engine failed in this request: IndexError"
    assert drawn(other) == greedy_ids(tiny_model, token_ids(9), 8)


# Memory


def test_a_request_that_can_never_fit_ends_with_both_numbers(tiny_model):
    scheduler = new_scheduler(tiny_model, num_pages=4)
    too_long, other = generation(token_ids(33)), generation(token_ids(9))
    for request in (too_long, other):
        scheduler.submit(request)
    drain(scheduler)
    assert "the KV cache holds 32 tokens, the request has 33; raise kv_cache_bytes" in str(error_of(too_long))
    assert drawn(other) == greedy_ids(tiny_model, token_ids(9), 8)


def test_a_generation_that_outgrows_the_cache_ends_with_an_error_after_its_tokens(tiny_model):
    scheduler = new_scheduler(tiny_model, num_pages=4)
    request = generation(token_ids(30), max_tokens=20)
    scheduler.submit(request)
    drain(scheduler)
    *tokens, error = request._mailbox.received  # type: ignore[attr-defined]
    assert [token.id for token in tokens] == greedy_ids(tiny_model, token_ids(30), 3)
    assert "the KV cache holds 32 tokens, the request has 33" in str(error)


def test_alone_a_request_takes_even_what_is_pinned(tiny_model):
    scheduler = new_scheduler(tiny_model, num_pages=8)
    first = generation(token_ids(40), max_tokens=2)
    scheduler.submit(first)
    drain(scheduler)
    scheduler.cache.pin(token_ids(40), scope="")
    second = generation(token_ids(50, start=9), max_tokens=2)
    scheduler.submit(second)
    drain(scheduler)
    assert drawn(second) == greedy_ids(tiny_model, token_ids(50, start=9), 2)


def test_where_memory_is_short_the_youngest_of_the_lowest_priority_gives_way_and_ends_the_same(tiny_model):
    scheduler = new_scheduler(tiny_model, num_pages=12)
    prompts = [token_ids(30, start=start) for start in range(4)]
    requests = [generation(prompt, max_tokens=30) for prompt in prompts]
    ended = []
    for request in requests:
        scheduler.submit(request)
    while scheduler.busy:
        scheduler.step()
        ended += [request for request in requests if request.finished and request not in ended]
    for prompt, request in zip(prompts, requests, strict=True):
        assert drawn(request) == greedy_ids(tiny_model, prompt, 30)
    assert scheduler.stats().preemptions > 0
    assert ended == requests


def test_a_verdict_takes_the_memory_of_others(tiny_model):
    scheduler = new_scheduler(tiny_model, num_pages=8)
    generating = generation(token_ids(40), max_tokens=20)
    scheduler.submit(generating)
    for _ in range(6):
        scheduler.step()
    assert len(drawn(generating)) > 0
    verdict = ScoreRequest(token_ids(50, start=9), [1], priority=Priority.SHIELD, scope="", mailbox=Inbox())
    scheduler.submit(verdict)
    while not verdict.finished:
        scheduler.step()
    assert len(drawn(generating)) < 20
    drain(scheduler)
    assert drawn(generating) == greedy_ids(tiny_model, token_ids(40), 20)


def test_nobody_younger_is_admitted_before_one_that_found_no_room(tiny_model):
    scheduler = new_scheduler(tiny_model, num_pages=12)
    first = generation(token_ids(40), max_tokens=30)
    scheduler.submit(first)
    scheduler.step()
    large = generation(token_ids(80, start=3), max_tokens=1)
    scheduler.submit(large)
    for _ in range(5):
        scheduler.step()
    small = [generation(token_ids(10, start=20 + number), max_tokens=40) for number in range(3)]
    for request in small:
        scheduler.submit(request)
    while not large.finished:
        scheduler.step()
        admitted = [bool(drawn(request)) for request in small]
    assert first.finished
    assert admitted == [False, False, False]


@pytest.mark.parametrize("runner", [None, EagerRunner], ids=["one pass", "a runner"])
@pytest.mark.parametrize("seed", range(12))
def test_under_random_arrivals_cancels_and_shortage_everybody_gets_what_he_gets_alone(
    tiny_model, seed, runner
):
    chance = random.Random(seed)
    scheduler = new_scheduler(
        tiny_model,
        num_pages=chance.choice([10, 14, 30]),
        prefill_chunk=chance.choice([3, 16]),
        runner=runner,
    )
    trunks = [token_ids(40, start=start) for start in range(2)]
    requests: list[tuple[GenerationRequest, list[int]]] = []
    cancelled: set[GenerationRequest] = set()
    to_come = 14
    while scheduler.busy or to_come:
        if to_come and chance.random() < 0.3:
            to_come -= 1
            trunk = chance.choice(trunks)[: chance.randrange(1, 41)]
            prompt = [*trunk, *(chance.randrange(3, 300) for _ in range(chance.randrange(8)))]
            request = generation(
                prompt,
                max_tokens=chance.randrange(1, 25),
                priority=chance.choice(list(Priority)),
                scope=chance.choice("ab"),
            )
            requests.append((request, prompt))
            scheduler.submit(request)
        if requests and chance.random() < 0.05:
            request = chance.choice(requests)[0]
            if not request.finished:
                cancelled.add(request)
            scheduler.cancel(request)
        if scheduler.busy:
            scheduler.step()
    for request, prompt in requests:
        ids = drawn(request)
        assert ids == greedy_ids(tiny_model, prompt, len(ids))
        assert request in cancelled or request.finished
    cache = scheduler.cache
    assert cache.active_bytes == 0
    cache.clear()
    assert cache.pool.free_pages == cache.pool.num_pages
