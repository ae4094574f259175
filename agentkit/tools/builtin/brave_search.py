"""`brave_search`, the web search that Llama 3.1 calls by name: Brave's by default, or anybody else's behind it."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pydantic import BaseModel, ValidationError

from agentkit.errors import ConfigurationError, ToolError
from agentkit.tools.base import Tool
from agentkit.tools.builtin.service import TOOL_SECONDS, Service, read_key
from agentkit.tools.decorator import tool

KEY_VARIABLE: Final = "BRAVE_SEARCH_API_KEY"
MAX_RESULTS: Final = 20
_MAX_QUERY_CHARS: Final = 400
"""Brave takes no longer one."""
_MAX_TITLE_CHARS: Final = 120
_MAX_TEXT_CHARS: Final = 400
_TAG: Final = re.compile(r"<[^>]*>")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """A page that a search found: its title, where it is, and a few words of it."""

    title: str
    url: str
    text: str = ""


class SearchProvider(Protocol):
    """Finds pages. What it returns is nobody's word but the pages': it is untrusted, and judged as a tool's result."""

    async def search(self, query: str) -> Sequence[SearchResult]:
        """Return what was found, the best first; none if there is nothing.

        May be called concurrently, and is cancelled when its time is up.

        Raises:
            ToolError: if the search failed; the model reads the message.
        """


class BraveSearch:
    """Brave's web search. Needs a key: `api_key`, or BRAVE_SEARCH_API_KEY in the environment."""

    def __init__(self, *, api_key: str | None = None, num_results: int = 5) -> None:
        if not 1 <= num_results <= MAX_RESULTS:
            raise ConfigurationError(f"num_results must be in [1, {MAX_RESULTS}], got {num_results!r}")
        key = read_key("brave_search", api_key, KEY_VARIABLE, where="https://api-dashboard.search.brave.com")
        self._num_results = num_results
        self._service = Service(
            name="brave_search",
            url="https://api.search.brave.com/res/v1/web/search",
            key_variable=KEY_VARIABLE,
            headers={"Accept": "application/json", "X-Subscription-Token": key},
        )

    async def search(self, query: str) -> Sequence[SearchResult]:
        """Return what Brave found."""
        if not query.strip() or len(query) > _MAX_QUERY_CHARS:
            raise ToolError(f"query must have 1 to {_MAX_QUERY_CHARS} characters, got {len(query)}")
        body = await self._service.get(
            {"q": query, "count": str(self._num_results), "text_decorations": "false"}
        )
        try:
            answer = _Answer.model_validate_json(body)
        except ValidationError:
            raise ToolError("brave_search answered in a form that cannot be read; try again later") from None
        found = answer.web.results if answer.web is not None else []
        return [
            SearchResult(title=page.title, url=page.url, text=page.description or "")
            for page in found[: self._num_results]
        ]


def brave_search(*, api_key: str | None = None, provider: SearchProvider | None = None) -> Tool:
    """Return the tool `brave_search(query)`, as Llama 3.1 calls it.

    Args:
        api_key: Brave's key; None reads it from BRAVE_SEARCH_API_KEY.
        provider: What searches instead of Brave: models know the tool by this name, whoever answers.

    Raises:
        ConfigurationError: if there is neither a key nor a provider, or there are both.
    """
    if provider is not None and api_key is not None:
        raise ConfigurationError("brave_search takes api_key or provider, not both")
    searching: SearchProvider = BraveSearch(api_key=api_key) if provider is None else provider

    async def search(query: str) -> str:
        """Search the web.

        Args:
            query: What to search for, in a few words.
        """
        return as_text(await searching.search(query))

    return tool(search, name="brave_search", effect="read", timeout=TOOL_SECONDS)


def as_text(results: Sequence[SearchResult]) -> str:
    """Return results as numbered entries, each with its source, of bounded length."""
    if not results:
        return "The search found nothing."
    return "\n\n".join(_entry(number, result) for number, result in enumerate(results[:MAX_RESULTS], start=1))


def _entry(number: int, result: SearchResult) -> str:
    lines = [
        f"{number}. {_short(result.title, _MAX_TITLE_CHARS)}",
        f"Source: {_short(result.url, _MAX_TEXT_CHARS)}",
    ]
    text = _short(result.text, _MAX_TEXT_CHARS)
    return "\n".join([*lines, text] if text else lines)


def _short(text: str, limit: int) -> str:
    """Return a text on one line, without markup and entities, with an ellipsis where it was cut."""
    plain = " ".join(html.unescape(_TAG.sub("", text)).split())
    return plain if len(plain) <= limit else f"{plain[: limit - 1]}…"


class _Page(BaseModel):
    title: str
    url: str
    description: str | None = None


class _Pages(BaseModel):
    results: list[_Page] = []


class _Answer(BaseModel):
    web: _Pages | None = None
