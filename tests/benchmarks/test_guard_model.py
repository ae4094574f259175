"""The guard that the benchmark of guarded turns runs: a guard by its self-test, and by what its shield reads in it."""

from __future__ import annotations

from agentkit.inference.base import Engine
from agentkit.inference.config import EngineConfig, ModelConfig
from agentkit.messages import USER
from agentkit.shields.base import ShieldInput, Stage
from agentkit.shields.engine_address import EngineAddress
from agentkit.shields.llama_guard import LlamaGuard
from agentkit.shields.self_test import failed_self_test
from benchmarks.guard_model import REFERENCE, THRESHOLD, guard_engine

SMALL = ModelConfig(
    vocab_size=300,
    hidden_size=192,
    intermediate_size=192,
    num_layers=2,
    num_heads=12,
    num_kv_heads=4,
    head_dim=16,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    rope_scaling=None,
    context_length=2048,
    tie_embeddings=True,
)


async def test_it_passes_its_self_test_and_lets_other_texts_through() -> None:
    engine = await guard_engine(SMALL, EngineConfig(kv_cache_bytes=1 << 24))

    async def engines(reference: str | EngineAddress) -> Engine:
        return engine

    shield = LlamaGuard(model=REFERENCE, engines=engines, threshold=THRESHOLD)
    await shield.start()
    assert await failed_self_test(shield) is None
    for stage in (Stage.USER_INPUT, Stage.MODEL_OUTPUT):
        said = ShieldInput(text="Tea needs four minutes.", stage=stage, provenance=USER)
        assert not (await shield.check(said)).flagged
    await engine.close()
