"""Appends to a transcript in the ids of one format. Judges nothing."""

from __future__ import annotations

from collections.abc import Sequence

from agentkit.agent.generation import Step
from agentkit.agent.same_text import say_the_same
from agentkit.cleared import Cleared
from agentkit.inference.formats.base import Format
from agentkit.inference.tokenizer import Tokenizer
from agentkit.memory.transcript import Entry, Transcript
from agentkit.messages import Message, ToolSpec


class Writer:
    """Appends to the transcript in the ids of one format."""

    def __init__(
        self,
        transcript: Transcript,
        format: Format,  # noqa: A002  # the field's word for it
        tools: Cleared[tuple[ToolSpec, ...]],
        tokenizer: Tokenizer,
    ) -> None:
        self._transcript = transcript
        self._format = format
        self._tools = tools
        self._tokenizer = tokenizer

    def num_tokens(self, message: Cleared[Message]) -> int:
        """Return how many tokens a message would add to the next prompt."""
        messages = (*self._transcript.messages, message.value)
        return len(self._format.render(messages, tools=self._tools.value, start=len(messages) - 1))

    def append(
        self, message: Cleared[Message], *, decision_ids: Sequence[str] = (), pinned: bool = False
    ) -> Entry:
        """Append a message, rendered."""
        return self._transcript.append(
            message, self._rendered(message), decision_ids=decision_ids, pinned=pinned
        )

    def append_output(
        self, step: Step, message: Cleared[Message], *, changed: bool, decision_ids: Sequence[str]
    ) -> tuple[Entry, bool]:
        """Append what the model wrote: its own ids, unless they say something else than what was judged.

        The flag says whether they are its own.
        """
        rendered = self._rendered(message)
        written = (*step.header, *step.ids, *self._format.close_turn(step.ids))
        own = not changed and say_the_same(self._tokenizer, written, rendered)
        ids = written if own else rendered
        entry = self._transcript.append(message, ids, generated=own, decision_ids=decision_ids)
        return entry, own

    def _rendered(self, message: Cleared[Message]) -> list[int]:
        messages = (*self._transcript.messages, message.value)
        return self._format.render(
            messages, tools=self._tools.value, start=len(messages) - 1, add_generation_prompt=False
        )
