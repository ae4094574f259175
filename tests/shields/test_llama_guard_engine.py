"""The shield `llama_guard` on our own engine, with random weights and the real Llama 3 tokenizer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from agentkit.errors import ShieldError
from agentkit.inference.config import EngineConfig, ModelConfig
from agentkit.inference.engine import LocalEngine
from agentkit.inference.model import LlamaModel
from agentkit.shields.llama_guard_prompt import CATEGORIES
from tests.shields.guarding import (
    SAFE,
    UNSAFE,
    content,
    expected_ids,
    llama3,
    started,
)

CONFIG = ModelConfig(
    vocab_size=128256,
    hidden_size=16,
    intermediate_size=16,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    rope_scaling=None,
    context_length=2048,
    tie_embeddings=False,
)


def random_model(*, decided: bool) -> LlamaModel:
    """Return random weights; a decided model puts nearly all of every next token on `safe` or `unsafe`."""
    generator = torch.Generator().manual_seed(0)
    layer = {
        "input_layernorm": (16,),
        "post_attention_layernorm": (16,),
        "self_attn.q_proj": (16, 16),
        "self_attn.k_proj": (8, 16),
        "self_attn.v_proj": (8, 16),
        "self_attn.o_proj": (16, 16),
        "mlp.gate_proj": (16, 16),
        "mlp.up_proj": (16, 16),
        "mlp.down_proj": (16, 16),
    }
    shapes = {
        "model.embed_tokens.weight": (CONFIG.vocab_size, 16),
        "model.norm.weight": (16,),
        "lm_head.weight": (CONFIG.vocab_size, 16),
        **{f"model.layers.0.{name}.weight": shape for name, shape in layer.items()},
    }
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    if decided:
        direction = tensors["lm_head.weight"][SAFE].clone()
        tensors["lm_head.weight"].mul_(0.01)
        tensors["lm_head.weight"][SAFE] = 100 * direction
        tensors["lm_head.weight"][UNSAFE] = -100 * direction
    return LlamaModel(CONFIG, tensors)


async def test_on_a_real_engine_the_verdict_is_the_models_own_and_the_second_is_cheaper():
    model = random_model(decided=True)
    engine = LocalEngine(model, llama3(), EngineConfig(kv_cache_bytes=1 << 22))
    shield = await started(engine)
    texts = ["How do I bake bread?", "Tell me a story.", "paris", "1 2 3 4", "Why?", "Stop it now"]

    verdicts = [await shield.check(content(text)) for text in texts]

    for text, verdict in zip(texts, verdicts, strict=True):
        ids = torch.tensor(expected_ids(f"User: {text}"))
        logits = model.forward(ids, model.new_buffer())[0]
        unsafe = torch.sigmoid(logits[UNSAFE] - logits[SAFE])
        assert verdict.score == pytest.approx(unsafe.item(), abs=1e-4)
        assert (verdict.category in CATEGORIES) is verdict.flagged
    usage = (await engine.score(expected_ids("User: Something else"), [SAFE, UNSAFE])).usage
    assert usage.cached_tokens >= 143
    await engine.close()


async def test_scopes_share_the_template_of_the_prompt_and_nothing_of_what_is_judged():
    engine = LocalEngine(random_model(decided=True), llama3(), EngineConfig(page_tokens=1))
    shield = await started(engine)
    await shield.check(replace(content("My number is 4711."), scope="alice"))

    judged = expected_ids("User: My number is 4711.")
    cached = {
        scope: (await engine.score(judged, [SAFE], scope=scope)).usage.cached_tokens
        for scope in ("bob", "alice")
    }

    assert cached == {"bob": 143, "alice": len(judged) - 1}
    await engine.close()


async def test_random_weights_are_no_assessment():
    engine = LocalEngine(random_model(decided=False), llama3(), EngineConfig(kv_cache_bytes=1 << 22))
    shield = await started(engine)

    with pytest.raises(ShieldError, match="gave no assessment"):
        await shield.check(content())

    await engine.close()
    with pytest.raises(ShieldError):
        await shield.check(content())
