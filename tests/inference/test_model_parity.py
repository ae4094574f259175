"""Our forward pass gives the logits of transformers, however the ids are split and the file is written."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from agentkit.errors import InferenceError
from agentkit.inference.catalog import EMBEDDED_MODEL, resolve
from agentkit.inference.checkpoint import Checkpoint, load_checkpoint
from agentkit.inference.config import ModelConfig
from agentkit.inference.model import LlamaModel
from agentkit.inference.tokenizer import load_tokenizer
from tests.inference.random_llama import (
    LINEAR_ROPE,
    LLAMA3_ROPE,
    random_llama,
    reference_logits,
    save_as_gguf,
)

TOLERANCE = 1e-4
IDS = torch.arange(150) * 37 % 96

SHAPES: dict[str, dict[str, Any]] = {
    "grouped queries": {},
    "one key for all": {"num_key_value_heads": 1},
    "a key for each": {"num_key_value_heads": 4},
    "llama3 rope": {"rope_parameters": LLAMA3_ROPE},
    "linear rope": {"rope_parameters": LINEAR_ROPE},
    "tied": {"tie_word_embeddings": True},
    "explicit head_dim": {"head_dim": 32},
}

PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n    ",
    "List three prime numbers and explain why each is prime.",
    "The recipe for a good pancake begins with",
    "In 1969, Neil Armstrong",
    "Water boils at 100 degrees Celsius because",
    "<html>\n<body>\n<h1>",
    "Dear Sir or Madam,\n\nI am writing to",
    "1, 1, 2, 3, 5, 8,",
)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_logits_match_transformers(shape: dict[str, Any], tmp_path: Path) -> None:
    oracle = random_llama(**shape)
    oracle.save_pretrained(tmp_path)
    model = _load(tmp_path)

    logits = model.forward(IDS, model.new_buffer(), last_only=False)

    torch.testing.assert_close(logits, reference_logits(oracle, IDS), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("shape", ["grouped queries", "llama3 rope", "tied", "explicit head_dim"])
@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
def test_logits_of_a_gguf_file_match_transformers(shape: str, kind: str, tmp_path: Path) -> None:
    oracle = random_llama(**SHAPES[shape])
    save_as_gguf(oracle, tmp_path / "tiny.gguf", GGMLQuantizationType[kind])
    model = _load(tmp_path / "tiny.gguf")

    logits = model.forward(IDS, model.new_buffer(), last_only=False)

    torch.testing.assert_close(logits, reference_logits(oracle, IDS), rtol=0, atol=TOLERANCE)


@pytest.fixture(scope="module")
def model() -> LlamaModel:
    return _from_oracle(random_llama(rope_parameters=LLAMA3_ROPE))


@given(
    ids=st.lists(st.integers(0, 95), min_size=1, max_size=40),
    cuts=st.lists(st.integers(1, 39), max_size=6, unique=True),
)
@settings(max_examples=60, deadline=None)
def test_cached_and_uncached_logits_agree(model: LlamaModel, ids: list[int], cuts: list[int]) -> None:
    row = torch.tensor(ids)
    whole = model.forward(row, model.new_buffer(), last_only=False)

    kv = model.new_buffer()
    bounds = [0, *sorted(cut for cut in cuts if cut < len(ids)), len(ids)]
    parts = [model.forward(row[start:end], kv, last_only=False) for start, end in pairwise(bounds)]

    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=TOLERANCE)
    assert kv.length == len(ids)


def test_only_the_last_row_is_computed_unless_asked(model: LlamaModel) -> None:
    last = model.forward(IDS[:20], model.new_buffer())
    every = model.forward(IDS[:20], model.new_buffer(), last_only=False)

    assert last.shape == (1, 96)
    torch.testing.assert_close(last[0], every[-1], rtol=0, atol=TOLERANCE)


def test_a_truncated_sequence_forgets(model: LlamaModel) -> None:
    kv = model.new_buffer()
    model.forward(IDS[:30], kv)
    kv.truncate(10)

    continued = model.forward(IDS[50:60], kv)

    fresh = model.forward(torch.cat((IDS[:10], IDS[50:60])), model.new_buffer())
    torch.testing.assert_close(continued, fresh, rtol=0, atol=TOLERANCE)


def test_a_fork_and_its_origin_go_their_own_ways(model: LlamaModel) -> None:
    kv = model.new_buffer()
    model.forward(IDS[:30], kv)
    branch = kv.fork()
    branch.truncate(20)

    model.forward(IDS[70:80], branch)
    continued = model.forward(IDS[30:40], kv)

    fresh = model.forward(IDS[:40], model.new_buffer())
    torch.testing.assert_close(continued, fresh, rtol=0, atol=TOLERANCE)


def test_logits_can_be_masked_in_place(model: LlamaModel) -> None:
    logits = model.forward(IDS[:3], model.new_buffer())
    logits[0, 5] = float("-inf")
    assert logits[0].argmax() != 5


@pytest.mark.parametrize("ids", [torch.empty(0, dtype=torch.int64), torch.zeros((2, 2), dtype=torch.int64)])
def test_ids_must_be_one_row(model: LlamaModel, ids: torch.Tensor) -> None:
    with pytest.raises(InferenceError, match="one row of at least one id"):
        model.forward(ids, model.new_buffer())


def test_a_failed_pass_leaves_the_sequence_as_it_was(model: LlamaModel) -> None:
    kv = model.new_buffer()
    model.forward(IDS[:10], kv)
    with pytest.raises(IndexError):
        model.forward(torch.tensor([96]), kv)

    continued = model.forward(IDS[10:20], kv)

    fresh = model.forward(IDS[:20], model.new_buffer())
    torch.testing.assert_close(continued, fresh, rtol=0, atol=TOLERANCE)


@pytest.fixture(scope="module")
def embedded() -> Checkpoint:
    return load_checkpoint(resolve(EMBEDDED_MODEL).path)


@pytest.mark.model
@pytest.mark.timeout(900)  # 40 s on two idle cores, minutes on busy ones
def test_greedy_text_of_the_embedded_model_equals_that_of_transformers(embedded: Checkpoint) -> None:
    tokenizer = load_tokenizer(resolve(EMBEDDED_MODEL).path)
    model = LlamaModel(embedded.config, embedded.tensors)
    oracle = _oracle_of(embedded)

    for prompt in PROMPTS:
        prompt_ids = tokenizer.encode(prompt)
        ours = _generate(model, prompt_ids, count=64)
        theirs = _likeliest_after_each(oracle, prompt_ids, ours)
        assert tokenizer.decode(ours) == tokenizer.decode(theirs)
        assert ours == theirs


def _load(path: Path) -> LlamaModel:
    checkpoint = load_checkpoint(path)
    return LlamaModel(checkpoint.config, checkpoint.tensors)


def _from_oracle(oracle: LlamaForCausalLM) -> LlamaModel:
    config = oracle.config.to_dict() | {"architectures": ["LlamaForCausalLM"]}
    return LlamaModel(ModelConfig.from_hf(config), oracle.state_dict())


def _oracle_of(checkpoint: Checkpoint) -> LlamaForCausalLM:
    config = checkpoint.config
    oracle = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            rms_norm_eps=config.rms_norm_eps,
            max_position_embeddings=config.context_length,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=True,
            eos_token_id=None,  # so that generation goes on to the count
        )
    )
    head = {"lm_head.weight": checkpoint.tensors["model.embed_tokens.weight"]}
    oracle.load_state_dict(checkpoint.tensors | head)
    return oracle.eval()


def _generate(model: LlamaModel, prompt_ids: list[int], *, count: int) -> list[int]:
    kv = model.new_buffer(len(prompt_ids) + count)
    ids = torch.tensor(prompt_ids)
    output: list[int] = []
    for _ in range(count):
        output.append(int(model.forward(ids, kv)[0].argmax()))
        ids = torch.tensor(output[-1:])
    return output


def _likeliest_after_each(oracle: LlamaForCausalLM, prompt_ids: list[int], output: list[int]) -> list[int]:
    """Return what comes next after each part of an output: the output itself, if greedy generation gives that."""
    with torch.inference_mode():
        logits = oracle(torch.tensor([prompt_ids + output[:-1]])).logits[0]
    likeliest: list[int] = logits[len(prompt_ids) - 1 :].argmax(dim=-1).tolist()
    return likeliest
