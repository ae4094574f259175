"""A person's yes, bound to one call; everything else is a no."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from agentkit.errors import ConfigurationError
from agentkit.messages import ToolCall
from agentkit.tools import ApprovalDecision, ApprovalRequest, Effect, ask, call_digest

CALL = ToolCall(id="call_1", name="send_mail", arguments={"to": "bob", "lines": ["hello"]})


def request_for(call: ToolCall, **changes: Any) -> ApprovalRequest:
    fields = {
        "call_id": call.id,
        "tool_name": call.name,
        "arguments": call.arguments,
        "effect": Effect.EXTERNAL,
        "reason": "the policy asks",
        "digest": call_digest(call),
    }
    return ApprovalRequest(**{**fields, **changes})


REQUEST = request_for(CALL)


async def test_no_approver_refuses():
    assert await ask(None, REQUEST) is ApprovalDecision.DENY


@pytest.mark.parametrize("answer", [True, ApprovalDecision.APPROVE])
async def test_clear_yes_approves(answer):
    async def later(request):
        await anyio.lowlevel.checkpoint()
        return answer

    assert await ask(lambda request: answer, REQUEST) is ApprovalDecision.APPROVE
    assert await ask(later, REQUEST) is ApprovalDecision.APPROVE


@pytest.mark.parametrize("answer", [False, None, ApprovalDecision.DENY, "approve", "yes", "no", 1, object()])
async def test_anything_but_a_clear_yes_refuses(answer):
    assert await ask(lambda request: answer, REQUEST) is ApprovalDecision.DENY


async def test_broken_approver_refuses_and_is_reported_without_content(caplog):
    def broken(request):
        raise RuntimeError("bob hello")

    async def broken_later(request):
        raise RuntimeError("bob hello")

    assert await ask(broken, REQUEST) is ApprovalDecision.DENY
    assert await ask(broken_later, REQUEST) is ApprovalDecision.DENY
    assert "RuntimeError; call call_1" in caplog.text
    assert "hello" not in caplog.text


async def test_plain_approver_does_not_block_the_event_loop():
    answered = threading.Event()

    def waits(request):
        return answered.wait(10)

    async def answer():
        answered.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer)
        assert await ask(waits, REQUEST) is ApprovalDecision.APPROVE


async def test_object_with_an_async_call_is_asked():
    class Desk:
        async def __call__(self, request):
            return request.tool_name == "send_mail"

    assert await ask(Desk(), REQUEST) is ApprovalDecision.APPROVE


async def test_cancelled_question_ends():
    with anyio.move_on_after(0.05) as scope:
        await ask(lambda request: threading.Event().wait(0.3), REQUEST)

    assert scope.cancelled_caught


def test_digest_depends_on_the_call_and_not_on_the_order_of_names():
    same = ToolCall(id="call_2", name="send_mail", arguments={"lines": ["hello"], "to": "bob"})
    other = ToolCall(id="call_1", name="send_mail", arguments={"lines": ["hello"], "to": "eve"})
    renamed = ToolCall(id="call_1", name="send_male", arguments=CALL.arguments)
    surrogate = ToolCall(id="call_1", name="send_mail", arguments={"to": "\ud800"})

    assert call_digest(same) == call_digest(CALL)
    assert len({call_digest(call) for call in (CALL, other, renamed, surrogate)}) == 4


def test_request_with_the_digest_of_another_call_cannot_be_made():
    with pytest.raises(ConfigurationError, match="call_1: the digest is that of another call"):
        request_for(CALL, arguments={"to": "eve"})


def test_approver_cannot_change_the_call():
    request = request_for(CALL)

    request.arguments["lines"].append("and goodbye")

    assert CALL.arguments["lines"] == ["hello"]
