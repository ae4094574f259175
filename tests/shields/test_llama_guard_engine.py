"""The shield `llama_guard` on our own engine, with random weights and the real Llama 3 tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from agentkit.errors import ShieldError
from agentkit.inference.base import Score, Usage
from agentkit.inference.config import EngineConfig, ModelConfig
from agentkit.inference.engine import LocalEngine
from agentkit.inference.model import LlamaModel
from agentkit.messages import Message
from agentkit.shields.base import Stage
from agentkit.shields.llama_guard_categories import CATEGORIES
from tests.shields.guarding import (
    SAFE,
    UNSAFE,
    ScoringEngine,
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


def random_model(*, decided: bool, config: ModelConfig = CONFIG) -> LlamaModel:
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
    return LlamaModel(config, tensors)


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


class CountingEngine(ScoringEngine):
    """Scores on an engine, and adds up what it cost."""

    def __init__(self, engine: LocalEngine) -> None:
        super().__init__({}, context_length=engine.context_length)
        self._engine = engine
        self.usage = Usage()

    async def score(self, prompt_ids: Sequence[int], candidate_ids: Sequence[int], **options: Any) -> Score:
        score = await self._engine.score(prompt_ids, candidate_ids, **options)
        self.usage += score.usage
        return score


async def test_twenty_messages_of_300_tokens_cost_at_most_a_quarter_of_rereading_them():
    model = random_model(decided=True, config=replace(CONFIG, context_length=16384))
    local = LocalEngine(model, llama3(), EngineConfig(kv_cache_bytes=1 << 24))
    engine = CountingEngine(local)
    # Only what is prefilled to judge counts here: never a hit, so that no category is asked for.
    shield = await started(engine, threshold=0.999999)
    history: tuple[Message, ...] = ()
    new = []

    for index in range(20):
        text = f"{index} " + "word " * 298
        message = Message.user(text) if index % 2 == 0 else Message.assistant(text)
        stage = Stage.USER_INPUT if index % 2 == 0 else Stage.MODEL_OUTPUT
        before = engine.usage.prefilled_tokens
        await shield.check(content(text, stage=stage, history=history))
        new.append(engine.usage.prefilled_tokens - before)
        history += (message,)

    assert engine.usage.prompt_tokens > 20 * (143 + 56) + 300 * 210
    assert engine.usage.prefilled_tokens <= engine.usage.prompt_tokens / 4
    # The role that is judged is named at the start, so each of the two has its own KV: what the other said since
    # its last message is new to it, and so is the message, and the suffix.
    assert max(new[2:]) <= 2 * 310 + 56 + EngineConfig().page_tokens
    await local.close()


async def test_judging_one_speakers_next_message_prefills_that_message_and_the_suffix():
    local = LocalEngine(random_model(decided=True), llama3(), EngineConfig(kv_cache_bytes=1 << 22))
    engine = CountingEngine(local)
    shield = await started(engine, threshold=0.999999)
    first, second = "word " * 300, "other " * 300

    await shield.check(content(first))
    before = engine.usage.prefilled_tokens
    await shield.check(content(second, history=(Message.user(first),)))

    assert engine.usage.prefilled_tokens - before <= 310 + 56 + EngineConfig().page_tokens
    await local.close()


async def test_random_weights_are_no_assessment():
    engine = LocalEngine(random_model(decided=False), llama3(), EngineConfig(kv_cache_bytes=1 << 22))
    shield = await started(engine)

    with pytest.raises(ShieldError, match="gave no assessment"):
        await shield.check(content())

    await engine.close()
    with pytest.raises(ShieldError):
        await shield.check(content())
