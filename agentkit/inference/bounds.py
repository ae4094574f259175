"""What an engine accepts as arguments: prompts, ids, layers. Raises before anything is asked of the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentkit.errors import ContextLengthError, InferenceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The sizes of a model and its memory; `pool_tokens` is how many tokens all key-value pairs have room for."""

    vocab_size: int
    num_layers: int
    model_context: int
    pool_tokens: int

    @property
    def context_length(self) -> int:
        """How many tokens a prompt and its output may have together."""
        return min(self.model_context, self.pool_tokens)

    def check_prompt(self, ids: Sequence[int], *, public_prefix: int = 0) -> None:
        """Refuse a prompt that is empty, has impossible ids, or leaves no room for an output.

        Raises:
            ContextLengthError: if the context is too short.
            InferenceError: for everything else.
        """
        if len(ids) == 0:
            raise InferenceError("the prompt is empty; it needs at least one token")
        self.check_ids("prompt", ids)
        if not 0 <= public_prefix <= len(ids):
            raise InferenceError(
                f"public_prefix is {public_prefix}, the prompt has {len(ids)} tokens; it must lie within"
            )
        if len(ids) >= self.model_context:
            raise ContextLengthError(prompt_tokens=len(ids), context_length=self.model_context)
        if len(ids) >= self.pool_tokens:
            raise InferenceError(
                f"the KV cache holds {self.pool_tokens} tokens, the prompt has {len(ids)} and needs one more; "
                "raise kv_cache_bytes, or shorten the conversation"
            )

    def check_ids(self, kind: str, ids: Sequence[int]) -> None:
        """Refuse ids that the vocabulary does not have.

        Raises:
            InferenceError: naming the first of them.
        """
        for token_id in ids:
            if not 0 <= token_id < self.vocab_size:
                raise InferenceError(
                    f"{kind} id {token_id} is out of range; the vocabulary has {self.vocab_size} tokens"
                )

    def check_states(self, ids: Sequence[int], layers: Sequence[int], *, start: int) -> None:
        """Refuse what `check_prompt` does, an empty choice of layers, layers that there are not, and an odd start.

        Raises:
            ContextLengthError, InferenceError: naming what was chosen and the bound.
        """
        self.check_prompt(ids)
        if not layers or not all(0 <= layer <= self.num_layers for layer in layers):
            raise InferenceError(f"layers must name some of 0 to {self.num_layers}, got {list(layers)}")
        if not 0 <= start < len(ids):
            raise InferenceError(f"start must be at least 0 and below {len(ids)}, got {start}")
