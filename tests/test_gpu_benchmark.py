"""The GPU benchmark runs from end to end without a GPU; only its figures mean nothing then."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from agentkit.inference.model import LlamaModel
from benchmarks import gpu
from benchmarks.gpu_checks import CheckError, relative_error, require_small
from benchmarks.gpu_machine import Machine
from benchmarks.gpu_model import LLAMA_31_8B, TINY, cost_of, random_tensors
from benchmarks.gpu_peer import Peer


def test_all_of_it_runs_on_a_cpu_and_writes_what_it_prints(tmp_path, capsys):
    output = tmp_path / "gpu.json"
    assert gpu.main(["--tiny", "--device", "cpu", "--output", str(output)]) == 0
    figures = json.loads(output.read_text())
    printed = capsys.readouterr().out
    assert json.loads(printed[printed.index("{\n") :]) == figures
    assert [(one["what"], one["batch"], one["context"]) for one in figures["rows"]] == [
        (what, batch, context)
        for context in (40, 100)
        for what, batch in (
            ("decode", 1),
            ("decode", 3),
            ("prefill, first token cold", 1),
            ("10 more, first token warm", 1),
        )
    ] + [
        (f"decode, {weights}", batch, context)
        for weights in ("int8", "int4")
        for context in (40, 100)
        for batch in (1, 3)
    ]
    for one in figures["rows"]:
        assert {"ours", "floor"} <= one["tokens_per_second"].keys()
        compared = one["what"] in ("decode", "prefill, first token cold")
        assert ("transformers" in one["tokens_per_second"]) == compared
    assert {"prefill in two chunks", "30 decode steps"} <= figures["relative_errors"].keys()
    assert {"int8, 30 decode steps", "int4, 30 decode steps"} <= figures["relative_errors"].keys()


def test_what_does_not_fit_is_skipped_and_says_what_it_needs():
    plan = replace(gpu.SMALL, spare_bytes=1 << 60, contexts=(40,))
    rows = list(gpu.Bench(plan, torch.device("cpu")).rows())
    for one in rows:
        assert "ours" not in one["seconds"]
        assert "needs 1073741824.0 GiB" in one["skipped"]["ours"]
        assert "ours skipped: needs 1073741824.0 GiB" in gpu.line(one)
    assert not gpu.meets_target(rows)


@pytest.mark.parametrize(("seconds", "met"), [(1.17, True), (1.18, False)])
def test_the_target_is_a_share_of_the_floor(seconds, met):
    fast, slow = (
        gpu.row("decode", batch=1, context=context, tokens=1, ours=ours, floor=1.0, theirs="none")
        for context, ours in ((1, 1.0), (2, seconds))
    )
    assert gpu.meets_target([fast, slow]) == met


def test_the_peer_computes_what_we_compute():
    tensors = random_tensors(TINY, device=torch.device("cpu"), dtype=torch.float32)
    ids = torch.arange(90) % TINY.vocab_size
    model = LlamaModel(TINY, tensors)
    logits = model.forward(ids, model.new_buffer(96), last_only=False)
    peer = Peer(TINY, tensors)
    assert relative_error(peer.logits(ids), logits) < 1e-5


def test_llama_31_8b_costs_what_is_known_of_it():
    cost = cost_of(LLAMA_31_8B, torch.bfloat16)
    # 8.03 billion weights less the embedding, which a step reads one row of; 128 KiB of keys and values a token.
    assert cost.weight_bytes == 2 * (8_030_261_248 - 128_256 * 4096 - 65 * 4096)
    assert cost.kv_bytes_per_token == 128 * 1024
    assert cost.decode_bytes(batch=8, context=1024) == cost.weight_bytes + (1 << 30)
    whole = cost.prefill_operations(start=0, end=300)
    parts = [cost.prefill_operations(start=start, end=start + 100) for start in (0, 100, 200)]
    assert sum(parts) - whole == pytest.approx(2 * 2 * cost.head_multiply_adds)


@pytest.mark.parametrize(("weights", "bytes_per_weight"), [("int8", 1 + 2 / 32), ("int4", 0.5 + 4 / 32)])
def test_quantised_weights_cost_what_is_kept_of_them(weights, bytes_per_weight):
    cost = cost_of(LLAMA_31_8B, torch.bfloat16, weights)
    head, layers = cost.head_multiply_adds, cost.multiply_adds_per_token
    assert cost.weight_bytes == layers * bytes_per_weight + head * (1 + 2 / 32)


def test_an_int4_step_reads_what_the_model_keeps_less_its_embedding():
    cost = cost_of(TINY, torch.bfloat16, "int4")
    tensors = random_tensors(TINY, device=torch.device("cpu"), dtype=torch.bfloat16)
    embedding = TINY.vocab_size * TINY.hidden_size * (1 + 2 / 32)
    assert LlamaModel(TINY, tensors, weights="int4").weight_bytes == cost.weight_bytes + embedding


@pytest.mark.parametrize("error", [0.5, float("nan")])
def test_a_wrong_result_stops_the_benchmark(error):
    with pytest.raises(CheckError, match="a kernel: the relative error is"):
        require_small({"sound": 0.0, "a kernel": error})


def test_without_a_gpu_it_says_what_to_do(capsys):
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU")
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "--tiny --device cpu" in capsys.readouterr().err


def test_a_median_is_of_as_many_runs_as_warmed_up():
    runs: list[int] = []
    assert Machine(torch.device("cpu")).median_seconds(lambda: runs.append(1), repetitions=3) >= 0
    assert len(runs) == 6
