"""`wolfram_alpha`, the computing service that Llama 3.1 calls by name."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote_plus

from pydantic import BaseModel, ValidationError

from agentkit.errors import ToolError
from agentkit.tools.base import Tool
from agentkit.tools.builtin.service import TOOL_SECONDS, Service, read_key
from agentkit.tools.decorator import tool

KEY_VARIABLE: Final = "WOLFRAM_ALPHA_API_KEY"
_MAX_QUERY_CHARS: Final = 400
_MAX_PODS: Final = 6
_MAX_TITLE_CHARS: Final = 80
_MAX_POD_CHARS: Final = 500


def wolfram_alpha(*, api_key: str | None = None) -> Tool:
    """Return the tool `wolfram_alpha(query)`, as Llama 3.1 calls it.

    Args:
        api_key: An AppID for the Full Results API; None reads it from WOLFRAM_ALPHA_API_KEY.

    Raises:
        ConfigurationError: if there is no key.
    """
    key = read_key("wolfram_alpha", api_key, KEY_VARIABLE, where="https://developer.wolframalpha.com")
    service = Service(
        name="wolfram_alpha", url="https://api.wolframalpha.com/v2/query", key_variable=KEY_VARIABLE
    )

    async def compute(query: str) -> str:
        """Compute an answer, or look up a fact, with Wolfram|Alpha.

        Args:
            query: What to compute, for instance "derivative of x^2" or "population of France".
        """
        if not query.strip() or len(query) > _MAX_QUERY_CHARS:
            raise ToolError(f"query must have 1 to {_MAX_QUERY_CHARS} characters, got {len(query)}")
        body = await service.get({"input": query, "format": "plaintext", "output": "json", "appid": key})
        try:
            result = _Answer.model_validate_json(body).queryresult
        except ValidationError:
            raise ToolError("wolfram_alpha answered in a form that cannot be read; try again later") from None
        return _as_text(result, query)

    return tool(compute, name="wolfram_alpha", effect="read", timeout=TOOL_SECONDS)


class _Subpod(BaseModel):
    plaintext: str = ""


class _Pod(BaseModel):
    title: str = ""
    subpods: list[_Subpod] = []

    @property
    def text(self) -> str:
        """Every line of the pod, in one text of bounded length; "" if it has only pictures."""
        text = "\n".join(part.plaintext.strip() for part in self.subpods if part.plaintext.strip())
        return text if len(text) <= _MAX_POD_CHARS else f"{text[: _MAX_POD_CHARS - 1]}…"


class _Result(BaseModel):
    success: bool
    error: Any = False
    """False, or an object with a code and a message."""
    pods: list[_Pod] = []


class _Answer(BaseModel):
    queryresult: _Result


def _as_text(result: _Result, query: str) -> str:
    """Return what was computed, under its headings and with its source.

    Raises:
        ToolError: if nothing was.
    """
    if result.error:
        raise ToolError(
            f"wolfram_alpha could not answer; if it never does, the operator has to check {KEY_VARIABLE}"
        )
    parts = [f"{pod.title[:_MAX_TITLE_CHARS]}: {pod.text}" for pod in result.pods if pod.text]
    if not result.success or not parts:
        raise ToolError("wolfram_alpha did not understand the query; put it in fewer or other words")
    source = f"Source: Wolfram|Alpha, https://www.wolframalpha.com/input?i={quote_plus(query)}"
    return "\n".join([*parts[:_MAX_PODS], source])
