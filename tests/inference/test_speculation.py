"""Drafts change how many passes an output takes, and nothing else."""

from __future__ import annotations

import pytest

from agentkit.inference.base import Grammar, Priority, StopReason
from agentkit.inference.generation import GenerationRequest
from agentkit.inference.runner import EagerRunner
from agentkit.inference.scheduler import Scheduler
from agentkit.inference.tokenizer import load_tokenizer
from tests.inference.calling import generate_all, greedy_ids, token_ids
from tests.inference.drafts import Oracle, eager_speculation, foretold
from tests.inference.scheduling import RecordingRequest, drain, drawn, generation, new_scheduler

PROMPT = token_ids(30)
REPEATED = [*token_ids(12)] * 3


def passes(scheduler: Scheduler) -> int:
    """Run to the end; return in how many steps."""
    count = 0
    while scheduler.busy:
        scheduler.step()
        count += 1
    return count


def usage_of(request: GenerationRequest):
    return request._mailbox.received[-1].usage  # type: ignore[attr-defined]


def speculating(tiny_model, **options) -> Scheduler:
    return new_scheduler(tiny_model, speculation=eager_speculation(), **options)


# The same output


@pytest.mark.parametrize("errs", [0.0, 0.2, 1.0])
def test_greedy_output_is_the_same_in_fewer_passes(tiny_model, errs):
    expected = greedy_ids(tiny_model, PROMPT, 40)
    scheduler = speculating(tiny_model)
    request = foretold(generation(PROMPT, max_tokens=40), expected, errs=errs)
    scheduler.submit(request)
    taken = passes(scheduler)
    assert drawn(request) == expected
    usage, stats = usage_of(request), scheduler.stats()
    assert usage.output_tokens == 40
    assert taken == 2 + 39 - usage.accepted_tokens  # two of the prompt, and the second gave a token
    assert (usage.drafted_tokens > usage.accepted_tokens) == (errs > 0)
    assert (stats.drafted_tokens, stats.accepted_tokens) == (usage.drafted_tokens, usage.accepted_tokens)
    assert stats.active_bytes == 0


@pytest.mark.parametrize("params", [{"temperature": 1.0}, {"temperature": 0.7, "top_p": 0.8}])
def test_a_seed_draws_the_same(tiny_model, params):
    def sampled(scheduler: Scheduler, foretell: list[int]) -> list[int]:
        request = generation(PROMPT, max_tokens=40, seed=3, **params)
        if foretell:
            foretold(request, foretell, errs=0.2)
        scheduler.submit(request)
        drain(scheduler)
        return drawn(request)

    expected = sampled(new_scheduler(tiny_model), [])
    scheduler = speculating(tiny_model)
    assert sampled(scheduler, expected) == expected
    assert scheduler.stats().accepted_tokens > 10


def test_what_repeats_itself_is_foretold_by_its_own_past(tiny_model):
    expected = greedy_ids(tiny_model, REPEATED, 60)
    scheduler = speculating(tiny_model)
    requests = [generation(REPEATED, max_tokens=60, scope=scope) for scope in "abc"]
    for request in requests:
        scheduler.submit(request)
    drain(scheduler)
    for request in requests:
        assert drawn(request) == expected
        assert usage_of(request).drafted_tokens > 0


def test_a_stop_id_within_a_draft_ends_the_output(tiny_model):
    expected = greedy_ids(tiny_model, PROMPT, 20)
    stop = expected[9]
    end = expected.index(stop) + 1
    scheduler = speculating(tiny_model)
    request = foretold(generation(PROMPT, max_tokens=20, stop_ids=frozenset({stop})), expected)
    scheduler.submit(request)
    drain(scheduler)
    assert drawn(request) == expected[:end]
    last = request._mailbox.received[-1]  # type: ignore[attr-defined]
    assert last.stop_reason is StopReason.STOP_TOKEN
    assert last.usage.accepted_tokens <= last.usage.drafted_tokens < end


@pytest.mark.parametrize("max_tokens", range(1, 17))
def test_a_draft_never_reaches_beyond_the_last_token(tiny_model, max_tokens):
    expected = greedy_ids(tiny_model, PROMPT, max_tokens)
    scheduler = speculating(tiny_model)
    request = foretold(generation(PROMPT, max_tokens=max_tokens), greedy_ids(tiny_model, PROMPT, 25))
    scheduler.submit(request)
    drain(scheduler)
    assert drawn(request) == expected
    assert usage_of(request).drafted_tokens == max(0, max_tokens - 2)


def test_a_full_context_ends_within_a_draft(tiny_model):
    request = generation(PROMPT, max_tokens=100, context_length=40)
    expected = greedy_ids(tiny_model, PROMPT, 10)
    scheduler = speculating(tiny_model)
    scheduler.submit(foretold(request, expected))
    drain(scheduler)
    assert drawn(request) == expected
    assert request._mailbox.received[-1].stop_reason is StopReason.CONTEXT_FULL  # type: ignore[attr-defined]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("errs", [0.0, 0.3])
def test_under_a_grammar_the_output_is_the_same(tiny_model, tiny_checkpoint, temperature, errs):
    def sentence(scheduler: Scheduler, foretell: list[int]) -> GenerationRequest:
        request = generation(
            PROMPT,
            max_tokens=30,
            temperature=temperature,
            seed=5,
            stop_ids=frozenset({1}),
            grammar=Grammar(lark="start: /[a-f]{20}/"),
            tokenizer=load_tokenizer(tiny_checkpoint),
        )
        if foretell:
            foretold(request, foretell, errs=errs)
        scheduler.submit(request)
        drain(scheduler)
        return request

    plain = drawn(sentence(new_scheduler(tiny_model), []))
    request = sentence(speculating(tiny_model), plain)
    assert drawn(request) == plain
    assert usage_of(request).accepted_tokens > 0
    assert request.draft == []


# Turns and memory


@pytest.mark.parametrize("priority", list(Priority))
def test_while_a_prompt_has_chunks_to_go_nobody_drafts(tiny_model, priority):
    scheduler = speculating(tiny_model)
    request = foretold(generation(PROMPT, max_tokens=30), greedy_ids(tiny_model, PROMPT, 30))
    scheduler.submit(request)
    while not drawn(request):
        scheduler.step()
    scheduler.submit(RecordingRequest([], "long", prompt=40, tokens=1, priority=priority))
    counts = []
    while scheduler.busy:
        before = len(drawn(request))
        scheduler.step()
        counts.append(len(drawn(request)) - before)
    between = [0, 1, 0, 1, 0] if priority is Priority.SHIELD else [1, 1, 1]
    assert counts[: len(between)] == between
    assert max(counts) > 1


def test_a_draft_is_no_longer_than_a_chunk(tiny_model):
    scheduler = speculating(tiny_model, prefill_chunk=3)
    request = foretold(generation(PROMPT, max_tokens=30), greedy_ids(tiny_model, PROMPT, 30))
    scheduler.submit(request)
    counts = []
    while scheduler.busy:
        before = len(drawn(request))
        scheduler.step()
        counts.append(len(drawn(request)) - before)
    assert max(counts) == 1 + 3


def test_a_draft_ends_where_no_page_is_free_and_takes_nobodys(tiny_model):
    prompts = [token_ids(13, start=start) for start in range(2)]
    expected = [greedy_ids(tiny_model, prompt, 24) for prompt in prompts]
    # Two pages each, for 16 tokens, and one that is free: the first drafts 7 tokens into it, the second up to 16.
    scheduler = speculating(tiny_model, num_pages=5, prefill_chunk=26)
    requests = [
        foretold(generation(prompt, max_tokens=24), output)
        for prompt, output in zip(prompts, expected, strict=True)
    ]
    for request in requests:
        scheduler.submit(request)
    scheduler.step()
    scheduler.step()
    assert [drawn(request) for request in requests] == [expected[0][:9], expected[1][:4]]
    assert scheduler.stats().preemptions == 0
    drain(scheduler)
    assert [drawn(request) for request in requests] == [output[:24] for output in expected]


def test_preempted_and_resumed_requests_draft_and_say_the_same(tiny_model):
    prompts = [token_ids(30, start=start) for start in range(4)]
    expected = [greedy_ids(tiny_model, prompt, 30) for prompt in prompts]
    scheduler = speculating(tiny_model, num_pages=12)
    requests = [
        foretold(generation(prompt, max_tokens=30), output, errs=0.2, seed=number)
        for number, (prompt, output) in enumerate(zip(prompts, expected, strict=True))
    ]
    for request in requests:
        scheduler.submit(request)
    drain(scheduler)
    assert [drawn(request) for request in requests] == expected
    assert scheduler.stats().preemptions > 0
    assert scheduler.stats().accepted_tokens > 0


@pytest.mark.parametrize("steps", range(2, 6))
def test_what_a_cancelled_request_leaves_is_what_it_said(tiny_model, steps):
    expected = greedy_ids(tiny_model, PROMPT, 60)
    scheduler = speculating(tiny_model)
    request = foretold(generation(PROMPT, max_tokens=60), expected, errs=0.3, seed=steps)
    scheduler.submit(request)
    for _ in range(steps):
        scheduler.step()
    scheduler.cancel(request)
    said = drawn(request)
    assert said == expected[: len(said)]
    cached = scheduler.cache.matched_tokens([*PROMPT, *expected], scope="")
    assert cached == len(PROMPT) + len(said) - 1
    again = generation([*PROMPT, *said], max_tokens=5)
    scheduler.submit(again)
    drain(scheduler)
    assert usage_of(again).cached_tokens == cached
    assert drawn(again) == expected[len(said) : len(said) + 5]


def test_with_a_runner_nothing_is_drafted(tiny_model):
    expected = greedy_ids(tiny_model, PROMPT, 10)
    scheduler = speculating(tiny_model, runner=EagerRunner)
    request = foretold(generation(PROMPT, max_tokens=10), expected)
    scheduler.submit(request)
    drain(scheduler)
    assert drawn(request) == expected
    assert usage_of(request).drafted_tokens == 0


@pytest.mark.parametrize("speculation", [None, eager_speculation()])
def test_memory_that_ends_within_a_draft_ends_the_output_where_it_would(tiny_model, speculation):
    scheduler = new_scheduler(tiny_model, num_pages=4, speculation=speculation)
    request = foretold(generation(PROMPT, max_tokens=20), greedy_ids(tiny_model, PROMPT, 20))
    scheduler.submit(request)
    drain(scheduler)
    *tokens, error = request._mailbox.received  # type: ignore[attr-defined]
    assert [token.id for token in tokens] == greedy_ids(tiny_model, PROMPT, 3)
    assert "the KV cache holds 32 tokens, the request has 33" in str(error)


class Panic(BaseException):
    """What a Rust library raises when it panics: no `Exception`."""


class PanickingOracle(Oracle):
    """Fails when it is asked for a draft."""

    def draft(self, count):
        raise Panic


def test_a_draft_that_fails_fails_only_its_request(tiny_model):
    scheduler = speculating(tiny_model)
    expected = greedy_ids(tiny_model, PROMPT, 20)
    broken = generation(PROMPT, max_tokens=20, scope="broken")
    broken._lookup = PanickingOracle([])
    other = foretold(generation(PROMPT, max_tokens=20), expected)
    for request in (broken, other):
        scheduler.submit(request)
    drain(scheduler)
    assert isinstance(broken._mailbox.received[-1].__cause__, Panic)  # type: ignore[attr-defined]
    assert drawn(other) == expected
    assert scheduler.stats().active_bytes == 0


# The engine


async def test_an_engine_drafts_unless_it_is_told_not_to(open_engine):
    on, off = open_engine(), open_engine(speculation="off")
    with_drafts = await generate_all(on, REPEATED, max_tokens=60)
    without = await generate_all(off, REPEATED, max_tokens=60)
    assert with_drafts.ids == without.ids
    assert with_drafts.usage.drafted_tokens > 0
    assert (await on.stats()).drafted_tokens == with_drafts.usage.drafted_tokens
    assert without.usage.drafted_tokens == (await off.stats()).drafted_tokens == 0
