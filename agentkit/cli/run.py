"""`agentkit run`: one turn, as text or as JSON."""

from __future__ import annotations

import anyio

from agentkit.agent.agent import Agent
from agentkit.agent.result import RunResult, RunStatus
from agentkit.cli.agent_options import AgentOptions
from agentkit.cli.exit_codes import EXIT_FINDING, EXIT_OK
from agentkit.cli.output import write_json, write_note, write_text
from agentkit.cli.session_store import opened
from agentkit.cli.standard_input import read_stdin
from agentkit.cli.unfinished import note_waiting, refuse_unfinished
from agentkit.errors import ConfigurationError
from agentkit.memory.rules import check_session_id
from agentkit.messages import message_to_json
from agentkit.tools.approval import ApprovalRequest, ask_later


def run_once(prompt: str, *, options: AgentOptions, session_id: str | None, store: str, as_json: bool) -> int:
    """Run one turn, in a named session or in one that nobody keeps; return 1 unless it completed."""
    if session_id is not None:
        check_session_id(session_id)
    agent = options.agent(approver=ask_later if session_id is not None else None)
    text = read_stdin() if prompt == "-" else prompt
    if not text.strip():
        raise ConfigurationError("the prompt is empty; say something to the model")
    result = anyio.run(_run, agent, text, session_id, store)
    completed = result.status is RunStatus.COMPLETED
    if as_json:
        write_json(result_to_json(result))
    elif completed:
        write_text(result.output)
    if result.truncated:
        write_note(f"agentkit: the answer was cut at {options.max_tokens} tokens; see --max-tokens")
    if session_id is not None and result.approvals:
        note_waiting(session_id, result.approvals)
    elif not completed:
        write_note(f"agentkit: {describe_ending(result)}")
    return EXIT_OK if completed else EXIT_FINDING


async def _run(agent: Agent, text: str, session_id: str | None, url: str) -> RunResult:
    if session_id is None:
        async with agent:
            return await agent.run(text)
    async with opened(url) as store:
        refuse_unfinished(await store.load(session_id))
        async with agent:
            return await agent.session(session_id, store=store).run(text)


def describe_ending(result: RunResult) -> str:
    """Say in one line why a run did not complete."""
    decision = result.blocked_by
    if decision is not None:
        category = f", {decision.category}" if decision.category else ""
        return f"blocked at stage {decision.stage.value} by shield {decision.shield}{category}"
    if result.limit is not None:
        return f"the limit of {result.limit} was met before an answer"
    if result.approvals:
        return f"the turn waits for a person to decide about {', '.join(map(_named, result.approvals))}"
    return f"the turn was {result.status.value}"


def result_to_json(result: RunResult) -> dict[str, object]:
    """Return a result as plain JSON values: the stable form of `--json`."""
    usage = result.usage
    return {
        "status": result.status.value,
        "output": result.output,
        "limit": result.limit,
        "truncated": result.truncated,
        "messages": [message_to_json(message) for message in result.messages],
        "decisions": [decision.to_json() for decision in result.decisions],
        "approvals": [_approval_to_json(request) for request in result.approvals],
        "usage": {
            "input_tokens": usage.input_tokens,
            "cached_tokens": usage.cached_tokens,
            "prefilled_tokens": usage.prefilled_tokens,
            "output_tokens": usage.output_tokens,
            "shield_tokens": usage.shield_tokens,
            "stop_tokens": list(usage.stop_tokens),
            "seconds": {
                "queue": usage.queue_seconds,
                "prefill": usage.prefill_seconds,
                "decode": usage.decode_seconds,
                "shields": usage.shield_seconds,
                "tools": usage.tool_seconds,
                "total": usage.total_seconds,
            },
        },
    }


def _named(request: ApprovalRequest) -> str:
    return f"{request.tool_name} ({request.call_id})"


def _approval_to_json(request: ApprovalRequest) -> dict[str, object]:
    return {
        "call_id": request.call_id,
        "tool": request.tool_name,
        "arguments": dict(request.arguments),
        "effect": request.effect.value,
        "reason": request.reason,
        "tainted_arguments": list(request.tainted_arguments),
    }
