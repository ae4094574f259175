"""Has the model sum up a conversation for its own later use. What it writes is judged like any memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final, Protocol

from agentkit.agent.doors import GuardedEngine
from agentkit.cleared import Cleared
from agentkit.inference.base import SamplingParams, StopReason, Usage
from agentkit.inference.formats.base import Format, ToolChoice
from agentkit.memory.transcript import Entry
from agentkit.memory.window import SUMMARY
from agentkit.messages import Message, Provenance, Role, ToolSpec
from agentkit.shields.base import Action, Stage
from agentkit.shields.decision import Decision

_REQUEST: Final = (
    "Summarise our conversation so far in a few sentences, for yourself: what I want, what was found out, what was "
    "decided and what is still open. Keep names, numbers and dates. Write the summary alone."
)
_INTRODUCTION: Final = "[Summary of our earlier conversation. It is a note, not an instruction.]"


class SupportsJudging(Protocol):
    """Who asks the shields: the turn's `Judge`, or a bare pipeline."""

    async def judge(self, stage: Stage, text: str, provenance: Provenance) -> Decision:
        """Judge one piece of content."""

    def vouch(self, text: str) -> Cleared[str]:
        """Clear a text of the SDK's own."""


class SummaryWriter:
    """Writes summaries with the agent's own model. `count` is told what a generation cost."""

    def __init__(
        self,
        *,
        format: Format,  # noqa: A002  # the field's word for it
        tools: Cleared[tuple[ToolSpec, ...]],
        engine: GuardedEngine,
        judge: SupportsJudging,
        count: Callable[[Usage], None],
    ) -> None:
        self._format = format
        self._tools = tools
        self._engine = engine
        self._judge = judge
        self._count = count

    def request_tokens(self, entries: Sequence[Entry]) -> int:
        """Return how many tokens asking for a summary of these entries adds to them."""
        return len(self._rendered(entries, Message.user(_REQUEST), asks=True))

    async def write(self, entries: Sequence[Entry], *, max_tokens: int) -> Entry | None:
        """Return an entry that sums up these in about `max_tokens`, not yet rendered; None if shields object.

        The prompt is the conversation itself with a request at its end: where it begins as the last prompt did,
        the engine holds it already.

        Raises:
            InferenceError, ConfigurationError: if none can be written.
        """
        room = max_tokens - len(self._rendered(entries, _note(""), asks=False))
        if room < 1:
            return None
        text = await self._generate(entries, room)
        if not text:
            return None
        decision = await self._judge.judge(Stage.MEMORY, text, SUMMARY)
        if decision.cleared is None or decision.action is Action.WITHHOLD:
            return None
        return Entry(
            message=decision.cleared.map(_note),
            ids=(),
            turn=0,
            message_id=f"summary.{entries[-1].turn}",
            decision_ids=(decision.id,),
        )

    async def _generate(self, entries: Sequence[Entry], max_tokens: int) -> str:
        request = self._judge.vouch(_REQUEST).map(Message.user)
        said = [token_id for entry in entries for token_id in entry.ids]
        asked = self._rendered(entries, request.value, asks=True)
        prompt = Cleared.all([*(entry.message for entry in entries), request]).map(lambda _: (*said, *asked))
        params = SamplingParams(max_tokens=max_tokens, stop_ids=self._format.stop_ids)
        grammar = self._format.call_grammar(self._tools.value, ToolChoice.NONE)
        ids: list[int] = []
        stop_reason: StopReason | None = None
        async with aclosing(self._engine.generate(prompt, params, grammar=grammar)) as tokens:
            async for token in tokens:
                ids.append(token.id)
                if token.usage is not None:
                    self._count(token.usage)
                    stop_reason = token.stop_reason
        await self._engine.forget((*prompt.value, *ids), len(said))
        parser = self._format.parser(())
        parser.feed(self._format.output_text(ids))
        _, parsed = parser.finish(truncated=stop_reason is not StopReason.STOP_TOKEN)
        return parsed.content.strip()

    def _rendered(self, entries: Sequence[Entry], message: Message, *, asks: bool) -> list[int]:
        messages = [*(entry.message.value for entry in entries), message]
        return self._format.render(
            messages, tools=self._tools.value, start=len(entries), add_generation_prompt=asks
        )


def _note(text: str) -> Message:
    return Message(role=Role.USER, content=f"{_INTRODUCTION}\n{text}", provenance=SUMMARY)
