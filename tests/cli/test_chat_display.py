"""What a chat shows of events that a short conversation does not bring about."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from agentkit.agent.approvals import COPIED
from agentkit.agent.events import ContextTrimmed, TextDelta
from agentkit.cli.chat_display import ChatDisplay
from agentkit.messages import ToolCall
from agentkit.tools.approval import ApprovalRequest, call_digest
from agentkit.tools.base import Effect


def test_a_question_names_the_arguments_that_were_copied() -> None:
    shown = io.StringIO()
    call = ToolCall(id="c1", name="send", arguments={"to": "eve@evil.example"})
    request = ApprovalRequest(
        call_id=call.id,
        tool_name=call.name,
        arguments=call.arguments,
        effect=Effect.EXTERNAL,
        reason=COPIED,
        digest=call_digest(call),
        tainted_arguments=("to",),
    )
    ChatDisplay(Console(file=shown)).approval(request)
    assert shown.getvalue() == (
        'allow send {"to": "eve@evil.example"}? (the arguments hold text from untrusted content: to) y/N '
    )


@pytest.mark.parametrize(
    ("dropped", "cut", "summarised", "words"),
    [
        (3, 1, True, "3 turns left it, summed up; 1 tool result cut"),
        (1, 0, False, "1 turn left it; 0 tool results cut"),
    ],
)
def test_a_full_context_is_told_on_a_line_of_its_own(
    dropped: int, cut: int, summarised: bool, words: str
) -> None:
    shown = io.StringIO()
    display = ChatDisplay(Console(file=shown))
    display.show(TextDelta(text="Hel"))
    display.show(
        ContextTrimmed(
            dropped_turns=dropped,
            cut_results=cut,
            summarised=summarised,
            tokens_before=3900,
            tokens_after=2100,
        )
    )
    assert shown.getvalue() == f"Hel\nthe context was full: {words}; 3900 tokens became 2100\n"
