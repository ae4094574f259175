"""The OutputParser of every dialect: text, calls, and code after the python tag. Knows no tokens."""

from __future__ import annotations

from collections.abc import Sequence

from agentkit.inference.formats.base import ParsedCall, ParsedOutput, ParseIssue
from agentkit.inference.formats.call_forms import ToolFormat
from agentkit.inference.formats.call_issues import Reading, cut_off, in_form
from agentkit.inference.formats.call_scanner import CallScanner
from agentkit.inference.formats.calls import read_code
from agentkit.messages import ToolSpec

# Stands for the special token <|python_tag|> in the text of an output. A noncharacter, which Unicode keeps
# for such internal use; output decoders replace it in ordinary text, so that text cannot forge it.
PYTHON_TAG = "\ufdd0"

_SPELT_TAG = "<|python_tag|>"
_SPELT_HEADER = "<|start_header_id|>assistant<|end_header_id|>\n\n"
_SPELT_ENDS = ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|im_end|>", "<|endoftext|>")


def from_spelt(raw: str) -> str:
    """Return output whose special tokens are spelt out, as a log has it, in the form that parsers read.

    Only for what a model wrote as a whole: the spelling of the python tag counts as the tag here, unless it
    stands in quotes.
    """
    text = raw.rstrip()
    for end in _SPELT_ENDS:
        text = text.removesuffix(end)
    text = (raw if text == raw.rstrip() else text).removeprefix(_SPELT_HEADER)
    before, tag, after = text.partition(_SPELT_TAG)
    line = before.rpartition("\n")[2]
    is_quoted = line.endswith("'") or any(line.count(quote) % 2 for quote in '`"')
    return text if is_quoted or not tag else before + PYTHON_TAG + after


class CallParser:
    """One output, fed in any pieces.

    `tools` are those that were offered; without any, JSON is text like any other. None means that they are
    not known, and every name counts. What follows the python tag is never text: it is calls and nothing
    else, or it is code. All forms of calls are read; `tool_format` is the one that hints ask for.
    """

    def __init__(self, tools: Sequence[ToolSpec] | None, *, tool_format: ToolFormat = "json") -> None:
        self._tool_format: ToolFormat = tool_format
        self._known = None if tools is None else tuple(tool.name for tool in tools)
        self._scanner = CallScanner(self._known)
        self._content: list[str] = []
        self._tagged: list[str] | None = None

    def feed(self, text: str) -> str:
        """Take more output; return the text that is certainly for the user."""
        if self._tagged is not None:
            self._tagged.append(text)
            return ""
        before, tag, after = text.partition(PYTHON_TAG)
        visible = self._scan(before)
        if tag:
            self._tagged = [after]
            self._scanner.end(truncated=False)
            visible += self._scanner.take_visible()
        self._content.append(visible)
        return visible

    def finish(self, *, truncated: bool = False) -> tuple[str, ParsedOutput]:
        """End the output; return the text that was still held back, and what the whole means."""
        if self._tagged is None:
            self._scanner.end(truncated=truncated)
            rest, readings = self._scanner.take_visible(), self._scanner.readings
        else:
            tagged = _read_tagged("".join(self._tagged), self._known, truncated=truncated)
            rest, readings = "", [*self._scanner.readings, *tagged]
        return rest, ParsedOutput(
            content="".join(self._content) + rest,
            calls=tuple(item for item in readings if isinstance(item, ParsedCall)),
            issues=tuple(
                in_form(item, self._tool_format) for item in readings if isinstance(item, ParseIssue)
            ),
        )

    def _scan(self, text: str) -> str:
        if self._known == ():
            return text
        self._scanner.read(text)
        return self._scanner.take_visible()


def _read_tagged(text: str, known: tuple[str, ...] | None, *, truncated: bool) -> list[Reading]:
    code = text.replace(PYTHON_TAG, "\n")
    scanner = CallScanner(known)
    scanner.read(code)
    scanner.end(truncated=truncated)
    if scanner.readings and not scanner.take_visible().strip():
        return scanner.readings
    return [cut_off(truncated=True) if truncated else read_code(code, known)]
