"""An engine that finds its place in a script by its prompt, as a model would, so that a turn can be resumed on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from anyio.lowlevel import checkpoint

from agentkit.inference.base import GeneratedToken, SamplingParams, StopReason, Usage
from agentkit.testing import byte_tokenizer

WELCOME = "You are welcome."


class PlacedScript:
    """Says, after what the user said, the replies of that script, and a courtesy where there is none.

    `note` is told what the user said, which reply it is, and how it is drawn. It waits once a reply.
    """

    fingerprint = "placed script"
    context_length = 100_000

    def __init__(
        self,
        scripts: Mapping[str, Sequence[str]],
        *,
        note: Callable[[str, int, SamplingParams], None] = lambda *_: None,
    ) -> None:
        self._scripts = scripts
        self._note = note
        self.tokenizer = byte_tokenizer()

    async def generate(
        self, prompt_ids: Sequence[int], params: SamplingParams, **_: Any
    ) -> AsyncIterator[GeneratedToken]:
        """Say the reply that follows what was said since the user spoke."""
        prompt = self.tokenizer.decode(prompt_ids, skip_special=False)
        said, *steps = prompt.rpartition("<|im_start|>user\n")[2].split("<|im_start|>assistant")
        text = said.partition("<|im_end|>")[0]
        place = len(steps) - 1
        self._note(text, place, params)
        reply = self._scripts.get(text, [WELCOME])[place]
        await checkpoint()
        ids = self.tokenizer.encode(reply)
        for token_id in ids:
            yield GeneratedToken(id=token_id)
        num_prompt = len(prompt_ids)
        usage = Usage(prompt_tokens=num_prompt, prefilled_tokens=num_prompt, output_tokens=len(ids) + 1)
        (end,) = self.tokenizer.eos_ids
        yield GeneratedToken(id=end, stop_reason=StopReason.STOP_TOKEN, usage=usage)

    async def score(self, *_: Any, **__: Any) -> Any:
        """Refuse: no shield asks."""
        raise NotImplementedError

    async def close(self) -> None:
        """Hold nothing."""
