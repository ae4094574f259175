"""`agentkit run`: one turn, as text or as JSON."""

from __future__ import annotations

from pathlib import Path

import anyio

from agentkit.agent.agent import Agent
from agentkit.agent.result import RunResult, RunStatus
from agentkit.cli.exit_codes import EXIT_FINDING, EXIT_OK
from agentkit.cli.loading import import_modules, load_policy, load_tools
from agentkit.cli.output import write_json, write_note, write_text
from agentkit.cli.standard_input import read_stdin
from agentkit.errors import ConfigurationError
from agentkit.inference.base import SamplingParams
from agentkit.messages import message_to_json


def run_once(
    prompt: str,
    *,
    model: str,
    policy: Path | None,
    tools: list[str],
    instructions: str,
    max_tokens: int,
    imports: list[str],
    as_json: bool,
) -> int:
    """Run one turn; return 1 unless it completed."""
    import_modules(imports)
    agent = Agent(
        model,
        instructions=instructions,
        tools=load_tools(tools),
        policy=load_policy(policy),
        sampling=SamplingParams(max_tokens=max_tokens),
    )
    text = read_stdin() if prompt == "-" else prompt
    if not text.strip():
        raise ConfigurationError("the prompt is empty; say something to the model")
    result = anyio.run(_run, agent, text)
    completed = result.status is RunStatus.COMPLETED
    if as_json:
        write_json(result_to_json(result))
    elif completed:
        write_text(result.output)
    if result.truncated:
        write_note(f"agentkit: the answer was cut at {max_tokens} tokens; see --max-tokens")
    if not completed:
        write_note(f"agentkit: {describe_ending(result)}")
    return EXIT_OK if completed else EXIT_FINDING


async def _run(agent: Agent, text: str) -> RunResult:
    async with agent:
        return await agent.run(text)


def describe_ending(result: RunResult) -> str:
    """Say in one line why a run did not complete."""
    decision = result.blocked_by
    if decision is not None:
        category = f", {decision.category}" if decision.category else ""
        return f"blocked at stage {decision.stage.value} by shield {decision.shield}{category}"
    if result.limit is not None:
        return f"the limit of {result.limit} was met before an answer"
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
        "usage": {
            "input_tokens": usage.input_tokens,
            "cached_tokens": usage.cached_tokens,
            "prefilled_tokens": usage.prefilled_tokens,
            "output_tokens": usage.output_tokens,
            "shield_tokens": usage.shield_tokens,
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
