"""The words in which Meta's prompt formats describe tools, one place for each tool format. Knows no tokens.

https://github.com/meta-llama/llama-models/blob/main/models/llama3_1/prompt_format.md and, for Python lists,
models/llama3_2/text_prompt_format.md
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from agentkit.inference.formats.call_forms import EXAMPLES, ToolFormat
from agentkit.messages import ToolSpec

_JSON_OPENING = """\
Answer the user's question by making use of the following functions if needed.
If none of the function can be used, please say so.
Here is a list of functions in JSON format:
"""
_TAG_OPENING = "You have access to the following functions:\n\n"
_TAG_CLOSING = """\
Think very carefully before calling functions.
If you choose to call a function ONLY reply in the following format with no prefix or suffix:

<function=example_function_name>{"example_name": "example_value"}</function>

Reminder:
- If looking for real time information use relevant functions before falling back to brave_search
- Function calls MUST follow the specified format, start with <function= and end with </function>
- Required parameters MUST be specified
- Only call one function at a time
- Put the entire function call reply on one line"""
_LIST_OPENING = """\
You are an expert in composing functions. You are given a question and a set of possible functions.
Based on the question, you will need to make one or more function/tool calls to achieve the purpose.
If none of the function can be used, point it out. If the given question lacks the parameters required by the function,
also point it out. You should only return the function call in tools call sections.

If you decide to invoke any of the function(s), you MUST put it in the format of \
[func_name1(params_name1=params_value1, params_name2=params_value2...), func_name2(params)]
You SHOULD NOT include any other text in the response.

Here is a list of functions in JSON format that you can invoke.

"""
_QUESTION_CLOSING = """

Should you decide to return the function call(s),Put it in the format of \
[func1(params_name=params_value, params_name2=params_value2...), func2(params)]

NO other text MUST be included."""
# A list of strings over several lines, as `json.dumps` writes it; the documented functions have theirs on one.
_STRING_LIST = re.compile(r'\[\n\s+("(?:[^"\\]|\\.)*"(?:,\n\s+"(?:[^"\\]|\\.)*")*)\n\s+\]')

_NEXT_LINE = re.compile(r",\n\s+")


def tools_text(tools: Sequence[ToolSpec], tool_format: ToolFormat) -> str:
    """Return what a message of its own says about the tools."""
    match tool_format:
        case "json" | "builtin":
            form = "JSON format" if tool_format == "json" else f"the format {EXAMPLES[tool_format]}"
            listed = "\n".join(_wrapped_json(tool) for tool in tools)
            return f"{_JSON_OPENING}{listed}\n\nReturn function calls in {form}."
        case "function_tag":
            return _TAG_OPENING + "".join(map(_use_of, tools)) + _TAG_CLOSING
        case "python_list":
            return _LIST_OPENING + _list_of(tools)


def question_text(question: str, tools: Sequence[ToolSpec]) -> str:
    """Return a question and the tools for it, to be called as Python lists, in one message."""
    opening = f"Questions: {question}\nHere is a list of functions in JSON format that you can invoke:\n"
    return opening + _list_of(tools) + _QUESTION_CLOSING


def _function(tool: ToolSpec) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}


def _wrapped_json(tool: ToolSpec) -> str:
    text = json.dumps({"type": "function", "function": _function(tool)}, indent=4, ensure_ascii=False)
    return _STRING_LIST.sub(lambda found: f"[{_NEXT_LINE.sub(', ', found[1])}]", text)


def _use_of(tool: ToolSpec) -> str:
    function = json.dumps(_function(tool), ensure_ascii=False)
    return f"Use the function '{tool.name}' to '{tool.description}':\n{function}\n\n"


def _list_of(tools: Sequence[ToolSpec]) -> str:
    return json.dumps([_function(tool) for tool in tools], indent=4, ensure_ascii=False)
