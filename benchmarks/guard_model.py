"""A model in the shape of Llama Guard 3, as large as one wants: it costs what a trained one costs, and knows two texts.

Its layers are random. Two rows of its head are solved for, so that it tells its shield's known-bad text from its
known-good one: the self-test at load holds for it as for any guard. About other texts it knows nothing.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from agentkit.inference.base import Engine
from agentkit.inference.config import EngineConfig, ModelConfig, WeightType
from agentkit.inference.engine import LocalEngine
from agentkit.inference.llama_tensors import EMBEDDING, HEAD, expected_shapes
from agentkit.inference.model import LlamaModel
from agentkit.inference.tokenizer import Tokenizer
from agentkit.inference.tokenizer_sources import read_tokenizer_parts
from agentkit.messages import USER
from agentkit.shields.base import ShieldInput, Stage
from agentkit.shields.engine_address import EngineAddress
from agentkit.shields.llama_guard import LlamaGuard
from agentkit.shields.llama_guard_categories import CATEGORIES
from agentkit.shields.llama_guard_prompt import GuardForm, GuardIds, GuardPrompt

REFERENCE = "a model in the shape of Llama-Guard-3"
THRESHOLD = 0.9995
"""Between the known-bad text, at 0.9997, and all that the model was not made for."""

_ASSESSES = 40.0  # the logit of `safe` and `unsafe` together: every other token has 0
_DECIDES = 8.0  # the difference between the two, for a known text
_NEUTRAL = (
    "There are seven days in a week.",
    "Could you tell me which trees grow fast, and which of them do well beside a river?",
    "1. Water the seeds.\n2. Put them where it is warm.\n3. Wait for ten days, and keep the soil moist all the time.",
    "That depends on what you need. A small car is cheaper and easier to park; a large one has room for the family "
    "and for what you bring back from a journey. Think of how often you drive far, and of who drives with you.",
)


async def guard_engine(size_of: ModelConfig, config: EngineConfig | None = None) -> LocalEngine:
    """Return an engine with such a model, its layers as many and as wide as those of another one."""
    tokenizer = _llama3_tokenizer()
    shape = replace(size_of, vocab_size=tokenizer.vocab_size, tie_embeddings=False)
    tensors = _random_tensors(shape)
    weights = None if config is None else config.weights
    tensors[HEAD] = await _solved_head(shape, tensors, tokenizer, weights)
    return LocalEngine(LlamaModel(shape, tensors, weights=weights), tokenizer, config, name=REFERENCE)


def _llama3_tokenizer() -> Tokenizer:
    package = importlib.util.find_spec("llama_models")
    if package is None or package.origin is None:
        raise SystemExit("the guard has the tokenizer of Llama 3; pip install llama-models==0.3.0")
    return Tokenizer(read_tokenizer_parts(Path(package.origin).parent / "llama3"))


def _random_tensors(shape: ModelConfig) -> dict[str, torch.Tensor]:
    """Return weights that keep the size of what goes from layer to layer; the head is empty."""
    generator = torch.Generator().manual_seed(0)

    def tensor(name: str, size: tuple[int, ...]) -> torch.Tensor:
        if name == HEAD:
            return torch.zeros(size)
        if len(size) == 1:
            return torch.ones(size)
        scale = 1.0 if name == EMBEDDING else size[1] ** -0.5
        return torch.randn(size, generator=generator) * scale

    return {name: tensor(name, size) for name, size in expected_shapes(shape).items()}


async def _solved_head(
    shape: ModelConfig, tensors: Mapping[str, torch.Tensor], tokenizer: Tokenizer, weights: WeightType | None
) -> torch.Tensor:
    """Return a head whose rows for `safe` and `unsafe` answer the two known texts, and all others nothing."""
    ids = GuardIds.of(tokenizer, REFERENCE, tuple(CATEGORIES))
    engine = LocalEngine(LlamaModel(shape, tensors, weights=weights), tokenizer)
    try:
        bad, good, *neutral = [
            _after_last_norm(await engine.hidden_states(prompt, [shape.num_layers], start=len(prompt) - 1))
            for prompt in await _prompts(engine, ids)
        ]
    finally:
        await engine.close()
    between = (bad + good) / 2
    # What tells the two texts apart has no say in what they share, nor in what others are like.
    shared, _ = torch.linalg.qr(torch.stack([between, *neutral], dim=1))
    apart = (bad - good) - shared @ (shared.T @ (bad - good))
    decides = apart * (_DECIDES / (apart @ (bad - between)))
    assesses = between * (_ASSESSES / (between @ between))
    head = torch.zeros(shape.vocab_size, shape.hidden_size)
    head[ids.unsafe] = assesses + decides / 2
    head[ids.safe] = assesses - decides / 2
    return head


async def _prompts(engine: LocalEngine, ids: GuardIds) -> list[list[int]]:
    """Return what the shield will ask about the known-bad text, the known-good one, and neutral ones of both roles."""

    async def engines(reference: str | EngineAddress) -> Engine:
        return engine

    shield = LlamaGuard(model=REFERENCE, engines=engines)
    await shield.start()
    known = shield.known_texts()
    form = GuardForm.of(engine.tokenizer, REFERENCE)
    prompt = GuardPrompt(
        tokenizer=engine.tokenizer,
        ids=ids,
        listed=tuple(f"{code}: {CATEGORIES[code]}." for code in form.categories),
        ending=form.ending,
        room_for_history=1024,
    )
    neutral = [
        ShieldInput(text=text, stage=stage, provenance=USER)
        for stage in (Stage.USER_INPUT, Stage.MODEL_OUTPUT)
        for text in _NEUTRAL
    ]
    return [prompt.render(content) for content in (*known.bad, *known.good, *neutral)]


def _after_last_norm(states: object) -> torch.Tensor:
    hidden = torch.as_tensor(states).flatten()
    return hidden * torch.rsqrt(hidden.pow(2).mean())
