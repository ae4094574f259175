"""`brave_search`: what it asks Brave, and what the model reads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import respx

from agentkit import BraveSearch, ConfigurationError, SearchProvider, SearchResult, brave_search
from agentkit.tools import Executor, Toolset, ToolStatus
from tests.tools.calling import cleared

URL = "https://api.search.brave.com/res/v1/web/search"
KEY = "secret-key-123"


@pytest.fixture
def brave() -> Iterator[respx.Route]:
    with respx.mock:
        yield respx.get(URL)


async def run(query: str, provider: SearchProvider | None = None) -> tuple[ToolStatus, str]:
    made = brave_search(api_key=KEY) if provider is None else brave_search(provider=provider)
    outcome = await Executor(Toolset([made])).run(cleared("brave_search", query=query))
    return outcome.status, outcome.content


def page(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "title": f"Page {number}",
        "url": f"https://page.test/{number}",
        "description": "Some text.",
        **changes,
    }


def test_it_is_llamas_tool_by_name_and_argument_and_its_results_are_untrusted():
    made = brave_search(api_key=KEY)

    assert (made.name, list(made.spec.parameters["properties"])) == ("brave_search", ["query"])
    assert made.spec.parameters["required"] == ["query"]
    assert not made.trusted
    assert made.effect == "read"
    assert KEY not in repr(made)
    assert KEY not in repr(BraveSearch(api_key=KEY))


async def test_results_are_short_and_name_their_source(brave: respx.Route):
    pages = [
        page(1, title="<b>Menlo</b> Park &amp; more", description="It is\n <strong>warm</strong>."),
        page(2, description="word " * 500),
        page(3, description=None, extra={"ignored": True}),
        *(page(number) for number in range(4, 30)),
    ]
    brave.respond(json={"type": "search", "web": {"type": "search", "results": pages}})

    status, text = await run("weather in Menlo Park")

    assert status is ToolStatus.OK
    first, second, third, *rest = text.split("\n\n")
    assert first == "1. Menlo Park & more\nSource: https://page.test/1\nIt is warm."
    assert len(second.splitlines()[2]) == 400
    assert second.endswith("…")
    assert third == "3. Page 3\nSource: https://page.test/3"
    assert len(rest) == 2
    request = brave.calls.last.request
    assert dict(request.url.params) == {
        "q": "weather in Menlo Park",
        "count": "5",
        "text_decorations": "false",
    }
    assert request.headers["X-Subscription-Token"] == KEY


@pytest.mark.parametrize("body", [{}, {"web": None}, {"web": {"results": []}}])
async def test_nothing_found_is_an_answer(brave: respx.Route, body: dict[str, Any]):
    brave.respond(json=body)

    assert await run("xyzzy") == (ToolStatus.OK, "The search found nothing.")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"web": 3}',
        b'{"web": {"results": [{"title": "x"}]}}',
        b'{"web": {"resu',
        b"\xff",
    ],
)
async def test_a_malformed_answer_is_an_error(brave: respx.Route, body: bytes):
    brave.respond(content=body)

    status, text = await run("weather")

    assert status is ToolStatus.ERROR
    assert text == "Error: brave_search answered in a form that cannot be read; try again later"


@pytest.mark.parametrize("query", ["", "  ", "x" * 401])
async def test_a_query_that_brave_would_not_take_is_not_sent(brave: respx.Route, query: str):
    assert await run(query) == (
        ToolStatus.ERROR,
        f"Error: query must have 1 to 400 characters, got {len(query)}",
    )
    assert not brave.called


async def test_a_provider_of_ones_own_answers_under_the_same_name():
    class Shelf:
        async def search(self, query: str) -> Sequence[SearchResult]:
            return [SearchResult(title=query, url="file:///shelf", text="x" * 900)] * 50

    status, text = await run("books", Shelf())

    assert status is ToolStatus.OK
    assert text.startswith("1. books\nSource: file:///shelf\nxxx")
    assert text.count("Source: ") == 20
    assert len(text) < 20_000


def test_there_is_one_source():
    with pytest.raises(ConfigurationError, match="api_key or provider, not both"):
        brave_search(api_key=KEY, provider=BraveSearch(api_key=KEY))
    with pytest.raises(ConfigurationError, match=r"num_results must be in \[1, 20\], got 0"):
        BraveSearch(api_key=KEY, num_results=0)


@pytest.mark.parametrize(
    ("name", "variable"),
    [("brave_search", "BRAVE_SEARCH_API_KEY"), ("wolfram_alpha", "WOLFRAM_ALPHA_API_KEY")],
)
def test_the_key_is_that_of_the_environment_or_there_is_no_tool(name: str, variable: str):
    make = f"import agentkit; print(agentkit.{name}().name)"
    with_key, without = (
        subprocess.run(
            [sys.executable, "-c", make],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        for environment in ({variable: KEY}, {})
    )

    assert with_key.stdout == f"{name}\n"
    assert f"ConfigurationError: {name} needs an API key: set {variable}, or pass" in without.stderr
