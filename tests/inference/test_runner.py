"""A padded, bucketed decode step gives what the model's own pass gives, and touches nobody else's pages."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.errors import InferenceError
from agentkit.inference.base import SamplingParams
from agentkit.inference.checkpoint import load_checkpoint
from agentkit.inference.kv_pages import PagePool
from agentkit.inference.kv_sequence import KVSequence
from agentkit.inference.matrices import FEW_ROWS
from agentkit.inference.model import LlamaModel, Part
from agentkit.inference.runner import EagerRunner, Row, bucket_for
from agentkit.inference.sampler import Draw, Sampler
from tests.inference.calling import token_ids
from tests.inference.quantizing import stand_ins
from tests.inference.tiny import build_tiny_checkpoint

PAGE = 8
GREEDY = Draw(temperature=0.0, top_p=1.0, uniform=0.0)


def prefilled(model: LlamaModel, pool: PagePool, length: int, seed: int = 0) -> KVSequence:
    kv = KVSequence(pool)
    model.forward(torch.tensor(token_ids(length, seed)), kv)
    return kv


def sequences(model: LlamaModel, lengths: list[int]) -> tuple[EagerRunner, list[KVSequence]]:
    pool = model.new_pool(64, PAGE)
    return EagerRunner(model, pool), [
        prefilled(model, pool, length, seed) for seed, length in enumerate(lengths)
    ]


def test_buckets_are_powers_of_two():
    assert [bucket_for(rows) for rows in (1, 2, 3, 4, 5, 8, 9, 33)] == [1, 2, 4, 4, 8, 8, 16, 64]


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6), count=st.integers(1, 10))
@settings(max_examples=15, deadline=None)
def test_greedy_tokens_are_those_of_the_model_alone(tiny_model, lengths, count):
    runner, kvs = sequences(tiny_model, lengths)
    forks = [kv.fork() for kv in kvs]
    tokens = [3] * len(kvs)
    for _ in range(count):
        outputs = runner.decode(
            [Row(token_id=token, kv=kv, draw=GREEDY) for token, kv in zip(tokens, kvs, strict=True)]
        )
        alone = [
            tiny_model.forward(torch.tensor([token]), fork) for token, fork in zip(tokens, forks, strict=True)
        ]
        tokens = [int(logits[0].argmax()) for logits in alone]
        assert [output.drawn for output in outputs] == tokens
        for output, logits in zip(outputs, alone, strict=True):
            torch.testing.assert_close(output.logits, logits, rtol=0, atol=1e-4)
    assert [kv.length for kv in kvs] == [fork.length for fork in forks]


def test_rows_that_come_go_and_change_places_share_the_buffers(tiny_model):
    runner, (first, second, third) = sequences(tiny_model, [9, 20, 31])
    for members in ([first, second, third], [third, first], [second], [second, third, first], [first, third]):
        alone = [tiny_model.forward(torch.tensor([5]), kv.fork()) for kv in members]
        outputs = runner.decode([Row(token_id=5, kv=kv, draw=None) for kv in members])
        for output, logits in zip(outputs, alone, strict=True):
            torch.testing.assert_close(output.logits, logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_quantised_weights_are_decoded_as_what_they_stand_for(tmp_path, weights):
    loaded = load_checkpoint(build_tiny_checkpoint(tmp_path, head_dim=32))
    exact = LlamaModel(loaded.config, stand_ins(loaded.tensors, weights))
    small = LlamaModel(loaded.config, loaded.tensors, weights=weights)
    assert small.weight_bytes < exact.weight_bytes / 3
    lengths = [3, 9, FEW_ROWS]  # a CPU may round longer prompts to bfloat16
    runner, kvs = sequences(small, lengths)
    ids = [token_ids(length, seed) for seed, length in enumerate(lengths)]
    for token in (3, 5, 7):
        outputs = runner.decode([Row(token_id=token, kv=kv, draw=None) for kv in kvs])
        for known, output in zip(ids, outputs, strict=True):
            known.append(token)
            expected = exact.forward(torch.tensor(known), exact.new_buffer(64))
            torch.testing.assert_close(output.logits, expected, rtol=0, atol=1e-4)


def test_a_table_follows_a_sequence_whose_pages_were_exchanged(tiny_model):
    runner, (kv,) = sequences(tiny_model, [20])
    twin = prefilled(tiny_model, kv.pool, 20)
    runner.decode([Row(token_id=5, kv=kv, draw=GREEDY)])
    given_back = kv.slots(0, 2 * PAGE)
    kv.share(twin.pages[:2])
    for run in given_back:
        kv.pool.keys[:, :, run] = torch.nan

    expected = tiny_model.forward(torch.tensor([6]), kv.fork())
    (output,) = runner.decode([Row(token_id=6, kv=kv, draw=None)])
    torch.testing.assert_close(output.logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("draw", [GREEDY, Draw(temperature=1.0, top_p=0.9, uniform=0.5)])
def test_a_step_writes_one_slot_of_each_row_and_the_scratch_slot(tiny_model, draw):
    pool = tiny_model.new_pool(64, PAGE)
    pool.keys.zero_()
    pool.values.zero_()
    kvs = [prefilled(tiny_model, pool, length) for length in (7, 8, 16)]
    runner = EagerRunner(tiny_model, pool)
    before = pool.keys.clone(), pool.values.clone()
    runner.decode([Row(token_id=5, kv=kv, draw=draw) for kv in kvs])
    written = [kv.slots(kv.length - 1, kv.length)[0].start for kv in kvs]
    for was, content in zip(before, (pool.keys, pool.values), strict=True):
        changed = (was != content).any(dim=-1).any(dim=0).any(dim=0)
        assert changed.nonzero().flatten().tolist() == sorted([*written, pool.scratch_slot])


def test_warming_up_writes_the_scratch_slot_alone(tiny_model):
    pool = tiny_model.new_pool(8, PAGE)
    pool.keys.zero_()
    pool.values.zero_()
    runner = EagerRunner(tiny_model, pool)
    runner.warm_up()
    assert pool.free_pages == 8
    assert not pool.keys[:, :, : pool.scratch_slot].any()
    assert pool.keys[:, :, pool.scratch_slot].any()


@pytest.mark.parametrize(("temperature", "top_p"), [(0.7, 1.0), (1.3, 0.8), (3.0, 0.2), (1e-40, 1.0)])
def test_drawn_tokens_are_those_of_the_sampler(tiny_model, temperature, top_p):
    params = SamplingParams(temperature=temperature, top_p=top_p, seed=11)
    runner, (kv, other) = sequences(tiny_model, [12, 30])
    fork, inside, outside = kv.fork(), Sampler(params), Sampler(params)
    token = 3
    for _ in range(30):
        outputs = runner.decode(
            [Row(token_id=token, kv=kv, draw=inside.next), Row(token_id=3, kv=other, draw=GREEDY)]
        )
        inside.advance()
        token = outside.draw(tiny_model.forward(torch.tensor([token]), fork)[0])
        assert outputs[0].drawn == token


def test_a_row_without_a_draw_gets_logits_that_it_may_mask(tiny_model):
    runner, (kv, other) = sequences(tiny_model, [12, 30])
    rows = [Row(token_id=5, kv=kv, draw=None), Row(token_id=5, kv=other, draw=GREEDY)]
    free, drawn = runner.decode(rows)
    assert free.drawn is None
    kept = free.logits.clone()
    free.logits[0, 4] = float("-inf")
    assert drawn.drawn is not None
    runner.decode(rows)
    assert free.logits[0, 5] == kept[0, 5]


def test_a_row_whose_logits_are_no_numbers_draws_nothing_and_harms_no_other(tiny_model):
    runner, (kv, other) = sequences(tiny_model, [12, 30])
    kv.pool.keys[:, :, kv.slots(0, 1)[0]] = torch.nan
    for draw in (GREEDY, Draw(temperature=1.0, top_p=0.9, uniform=0.5)):
        broken, sound = runner.decode([Row(token_id=5, kv=each, draw=draw) for each in (kv, other)])
        assert broken.drawn is None
        assert not broken.logits.isfinite().any()
        assert sound.drawn is not None


def test_without_a_page_every_sequence_stays_as_it_was(tiny_model):
    pool = tiny_model.new_pool(3, PAGE)
    runner = EagerRunner(tiny_model, pool)
    kvs = [prefilled(tiny_model, pool, length) for length in (PAGE, PAGE, 1)]
    with pytest.raises(InferenceError, match="the KV cache is full"):
        runner.decode([Row(token_id=5, kv=kv, draw=GREEDY) for kv in kvs])
    assert [kv.length for kv in kvs] == [PAGE, PAGE, 1]


def test_a_pass_of_parts_goes_on_where_the_runner_stopped(tiny_model):
    runner, (kv,) = sequences(tiny_model, [12])
    runner.decode([Row(token_id=5, kv=kv, draw=GREEDY)])
    (output,) = tiny_model.forward_parts([Part(ids=[6, 7], kv=kv)])
    fresh = tiny_model.forward(torch.tensor([*token_ids(12, 0), 5, 6, 7]), tiny_model.new_buffer(64))
    torch.testing.assert_close(output.logits, fresh, rtol=0, atol=1e-4)
