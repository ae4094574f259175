"""A scheduler whose decode steps a runner takes gives every request what it gets without one."""

from __future__ import annotations

import pytest

from agentkit.inference.base import Grammar, Priority, SamplingParams
from agentkit.inference.kv_sequence import KVSequence
from agentkit.inference.request import GenerationRequest
from agentkit.inference.runner import DecodeRunner, EagerRunner
from agentkit.inference.scheduler import Scheduler
from agentkit.inference.tokenizer import load_tokenizer
from tests.inference.calling import greedy_ids, token_ids
from tests.inference.scheduling import (
    Inbox,
    RecordingRequest,
    drain,
    drawn,
    error_of,
    generation,
    new_scheduler,
)

WAYS = [
    {},
    {"temperature": 1.0, "seed": 1},
    {"temperature": 0.8, "top_p": 0.7, "seed": 2},
    {"temperature": 2.5, "top_p": 0.95, "seed": 3},
    {},
]


class CountingRunner(EagerRunner):
    """Remembers how many rows each of its steps had."""

    def __init__(self, model, pool) -> None:
        super().__init__(model, pool)
        self.steps: list[int] = []

    def decode(self, rows):
        self.steps.append(len(rows))
        return super().decode(rows)


class FailingRunner(EagerRunner):
    """Cannot run a sequence of so many positions."""

    def decode(self, rows):
        if any(row.kv.length == 15 for row in rows):
            raise ZeroDivisionError
        return super().decode(rows)


def outputs(scheduler: Scheduler) -> list[list[int]]:
    requests = [
        generation(token_ids(20 + number, number), max_tokens=12, **way) for number, way in enumerate(WAYS)
    ]
    for request in requests:
        scheduler.submit(request)
    drain(scheduler)
    return [drawn(request) for request in requests]


def test_greedy_and_drawn_tokens_are_the_same_with_and_without(tiny_model):
    with_runner = new_scheduler(tiny_model, runner=EagerRunner)
    assert outputs(with_runner) == outputs(new_scheduler(tiny_model))
    assert outputs(with_runner)[0] == greedy_ids(tiny_model, token_ids(20), 12)


def test_a_seeded_request_that_is_preempted_draws_the_same(tiny_model):
    crowded = new_scheduler(tiny_model, runner=EagerRunner, num_pages=11)
    assert outputs(crowded) == outputs(new_scheduler(tiny_model))
    assert crowded.stats().preemptions > 0


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_grammar_masks_outside_the_step(tiny_model, tiny_checkpoint, temperature):
    def sentence(scheduler: Scheduler) -> list[int]:
        request = GenerationRequest(
            token_ids(9),
            SamplingParams(max_tokens=12, temperature=temperature, seed=5, stop_ids=frozenset({1})),
            grammar=Grammar(lark="start: /[a-f]{8}/"),
            tokenizer=load_tokenizer(tiny_checkpoint),
            context_length=4096,
            priority=Priority.INTERACTIVE,
            scope="",
            mailbox=Inbox(),
        )
        other = generation(token_ids(9), max_tokens=12)
        scheduler.submit(request)
        scheduler.submit(other)
        drain(scheduler)
        assert drawn(other) == greedy_ids(tiny_model, token_ids(9), 12)
        return drawn(request)

    assert sentence(new_scheduler(tiny_model, runner=EagerRunner)) == sentence(new_scheduler(tiny_model))


def test_the_runner_decodes_all_at_once_and_the_model_prefills(tiny_model):
    counting: list[CountingRunner] = []

    def new_runner(model, pool) -> DecodeRunner:
        counting.append(CountingRunner(model, pool))
        return counting[0]

    scheduler = new_scheduler(tiny_model, runner=new_runner)
    journal: list[str] = []
    for name in ("first", "second"):
        scheduler.submit(RecordingRequest(journal, name, tokens=4))
    scheduler.step()
    scheduler.submit(RecordingRequest(journal, "long", prompt=20, tokens=1))
    drain(scheduler)
    assert counting[0].steps == [2, 2, 2]
    assert journal == ["first 4", "second 4", "long 16", "long 4"]


def test_a_step_that_fails_fails_only_the_request_that_broke_it(tiny_model):
    scheduler = new_scheduler(tiny_model, runner=FailingRunner)
    broken, other = generation(token_ids(13)), generation(token_ids(30))
    scheduler.submit(broken)
    scheduler.submit(other)
    drain(scheduler)
    *tokens, error = broken._mailbox.received  # type: ignore[attr-defined]
    assert [token.id for token in tokens] == greedy_ids(tiny_model, token_ids(13), 3)
    assert str(error) == "the engine failed in this request: ZeroDivisionError"
    assert drawn(other) == greedy_ids(tiny_model, token_ids(30), 8)


def test_logits_that_are_no_numbers_end_their_request_alone(tiny_model):
    scheduler = new_scheduler(tiny_model, runner=EagerRunner)
    broken, other = (generation(token_ids(12), scope=name, temperature=1.0, seed=1) for name in "ab")
    scheduler.submit(broken)
    scheduler.submit(other)
    scheduler.step()
    assert isinstance(broken.kv, KVSequence)
    scheduler.cache.pool.values[:, :, broken.kv.slots(0, 1)[0]] = float("nan")
    drain(scheduler)
    broken._mailbox.received = broken._mailbox.received[-1:]  # type: ignore[attr-defined]
    assert "no token can be drawn" in str(error_of(broken))
    assert len(drawn(other)) == 8
