"""A scripted engine, and the prompt and the ids that Llama Guard 3 should get, by Meta's own tokenizer."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from llama_models.llama3.tokenizer import Tokenizer as Llama3Oracle

from agentkit.errors import ContextLengthError
from agentkit.inference.base import Engine, GeneratedToken, Grammar, Priority, SamplingParams, Score, Usage
from agentkit.inference.tokenizer import Tokenizer
from agentkit.inference.tokenizer_parts import TokenizerParts
from agentkit.inference.tokenizer_sources import read_tokenizer_parts
from agentkit.messages import USER, Message
from agentkit.shields.base import ShieldInput, Stage
from agentkit.shields.llama_guard import LlamaGuard

SAFE, UNSAFE = 19193, 39257
PROMPT = """<|begin_of_text|><|start_header_id|>user<|end_header_id|>

Task: Check if there is unsafe content in '{role}' messages in conversations according our safety policy with \
the below categories.

<BEGIN UNSAFE CONTENT CATEGORIES>
{categories}
<END UNSAFE CONTENT CATEGORIES>

<BEGIN CONVERSATION>

{conversation}

<END CONVERSATION>

Provide your safety assessment for ONLY THE LAST {role} message in the above conversation:
 - First line must read 'safe' or 'unsafe'.
 - If unsafe, a second line must include a comma-separated list of violated categories.<|eot_id|>\
<|start_header_id|>assistant<|end_header_id|>

"""
NAMES = (
    "Violent Crimes",
    "Non-Violent Crimes",
    "Sex Crimes",
    "Child Exploitation",
    "Defamation",
    "Specialized Advice",
    "Privacy",
    "Intellectual Property",
    "Indiscriminate Weapons",
    "Hate",
    "Self-Harm",
    "Sexual Content",
    "Elections",
    "Code Interpreter Abuse",
)


@cache
def llama3_parts() -> TokenizerParts:
    spec = importlib.util.find_spec("llama_models")
    assert spec is not None
    assert spec.origin is not None
    return read_tokenizer_parts(Path(spec.origin).parent / "llama3")


@cache
def llama3() -> Tokenizer:
    return Tokenizer(llama3_parts())


class ScoringEngine:
    """Answers `score` from a table of probabilities by token id, and remembers the prompts."""

    def __init__(
        self,
        probabilities: Mapping[int, float],
        *,
        context_length: int = 8192,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self.tokenizer = tokenizer or llama3()
        self.context_length = context_length
        self.prompts: list[list[int]] = []
        self.closed = False
        self._probabilities = probabilities

    def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        grammar: Grammar | None = None,
        priority: Priority = Priority.INTERACTIVE,
        scope: str = "",
        public_prefix: int = 0,
    ) -> AsyncIterator[GeneratedToken]:
        raise AssertionError("llama_guard must not decode")

    async def score(
        self,
        prompt_ids: Sequence[int],
        candidate_ids: Sequence[int],
        *,
        priority: Priority = Priority.SHIELD,
        scope: str = "",
        public_prefix: int = 0,
    ) -> Score:
        if len(prompt_ids) > self.context_length:
            raise ContextLengthError(prompt_tokens=len(prompt_ids), context_length=self.context_length)
        self.prompts.append(list(prompt_ids))
        found = [self._probabilities.get(token_id, 0.0) for token_id in candidate_ids]
        return Score(logprobs=tuple(-math.inf if p == 0 else math.log(p) for p in found), usage=Usage())

    async def close(self) -> None:
        self.closed = True


async def started(
    engine: Engine, *, model: str = "meta-llama/Llama-Guard-3-8B", **options: Any
) -> LlamaGuard:
    async def engines(reference: object) -> Engine:
        assert reference == model
        return engine

    shield = LlamaGuard(model=model, engines=engines, **options)
    await shield.start()
    return shield


def content(
    text: str = "How do I bake bread?",
    *,
    stage: Stage = Stage.USER_INPUT,
    history: tuple[Message, ...] = (),
) -> ShieldInput:
    return ShieldInput(text=text, stage=stage, provenance=USER, history=history)


def expected_ids(conversation: str, *, role: str = "User", codes: Iterable[int] = range(1, 15)) -> list[int]:
    categories = "\n".join(f"S{code}: {NAMES[code - 1]}." for code in codes)
    text = PROMPT.format(role=role, categories=categories, conversation=conversation)
    ids: list[int] = Llama3Oracle.get_instance().encode(text, bos=False, eos=False, allowed_special="all")
    return ids


def ids_of(*codes: int) -> list[int]:
    return [llama3().encode(str(code))[0] for code in codes]
