"""What the model is told of an attempt at a call that failed. Repeats nothing of what was written but names."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

from agentkit.inference.formats.base import IssueKind, ParsedCall, ParseIssue
from agentkit.inference.formats.call_forms import EXAMPLES, ToolFormat
from agentkit.nearest import nearest

Reading = ParsedCall | ParseIssue

FORM_HINT = (
    'Reply with exactly one JSON object: {"name": function name, "parameters": {argument name: value}}.'
)
"""The hint at the form of a call, where the tool format is JSON; see `in_form`."""

_SAFE_NAME = re.compile(r"[\w.\-]{1,64}")


def offered(call: ParsedCall, known: Sequence[str] | None) -> Reading:
    """Return the call, or the issue that there is no tool of its name."""
    if known is None or call.name in known:
        return call
    shown = f" {call.name!r}" if _SAFE_NAME.fullmatch(call.name) else ""
    tools = f"the tools are: {', '.join(known)}" if known else "no tools are offered"
    near = nearest(call.name, known)
    return ParseIssue(
        kind=IssueKind.UNKNOWN_TOOL,
        message=f"there is no tool{shown}; {tools}",
        hint=f"Did you mean {near}?" if near else "Call one of the tools, or answer without a call.",
    )


def malformed_json(exc: ValueError) -> ParseIssue:
    """Return the issue of a call that is not JSON."""
    what = f"{exc.msg} at character {exc.pos}" if isinstance(exc, json.JSONDecodeError) else str(exc)
    return ParseIssue(
        kind=IssueKind.MALFORMED_JSON,
        message=f"the call is not valid JSON: {what}",
        hint=f"Write strings in double quotes, and escape the quotes inside them. {FORM_HINT}",
    )


def malformed_call(message: str, *, hint: str = FORM_HINT) -> ParseIssue:
    """Return the issue of something that can be read, but not as a call."""
    return ParseIssue(kind=IssueKind.MALFORMED_CALL, message=message, hint=hint)


def no_object(what: str) -> ParseIssue:
    """Return the issue of arguments that are no JSON object."""
    return ParseIssue(
        kind=IssueKind.INVALID_ARGUMENTS, message=f"{what} must be a JSON object", hint=FORM_HINT
    )


def in_form(issue: ParseIssue, tool_format: ToolFormat) -> ParseIssue:
    """Return the issue with its hint at the form of a call in the tool format that the prompt asked for."""
    if tool_format == "json":
        return issue
    hint = f"Write the call in the format {EXAMPLES[tool_format]}."
    return replace(issue, hint=issue.hint.replace(FORM_HINT, hint))


def unclosed_function() -> ParseIssue:
    """Return the issue of a function tag that something else follows than its end."""
    return malformed_call("the function tag is not closed", hint="End the call with </function>.")


def cut_off(*, truncated: bool) -> ParseIssue:
    """Return the issue of an output that ended inside a call."""
    return ParseIssue(
        kind=IssueKind.TRUNCATED,
        message="the output ended before the call was complete; nothing was called",
        hint="Make the call again with shorter arguments."
        if truncated
        else "Close every quote, brace and bracket.",
    )
