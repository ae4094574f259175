"""`wolfram_alpha`: what it asks, and what the model reads."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import respx

from agentkit import wolfram_alpha
from agentkit.tools import Executor, Toolset, ToolStatus
from tests.tools.calling import cleared

URL = "https://api.wolframalpha.com/v2/query"
KEY = "SECRET-APPID"


@pytest.fixture
def wolfram() -> Iterator[respx.Route]:
    with respx.mock:
        yield respx.get(URL)


async def run(query: str) -> tuple[ToolStatus, str]:
    outcome = await Executor(Toolset([wolfram_alpha(api_key=KEY)])).run(cleared("wolfram_alpha", query=query))
    return outcome.status, outcome.content


def answer(*pods: tuple[str, ...], success: bool = True, error: Any = False) -> dict[str, Any]:
    return {
        "queryresult": {
            "success": success,
            "error": error,
            "numpods": len(pods),
            "pods": [
                {"title": title, "subpods": [{"title": "", "plaintext": text} for text in texts]}
                for title, *texts in pods
            ],
        }
    }


def test_it_is_llamas_tool_by_name_and_argument_and_its_results_are_untrusted():
    made = wolfram_alpha(api_key=KEY)

    assert (made.name, list(made.spec.parameters["properties"])) == ("wolfram_alpha", ["query"])
    assert not made.trusted
    assert made.effect == "read"
    assert KEY not in repr(made)


async def test_results_are_short_and_name_their_source(
    wolfram: respx.Route, caplog: pytest.LogCaptureFixture
):
    wolfram.respond(
        json=answer(
            ("Input", "2 + 2"),
            ("Result", "4", "four"),
            ("Number line", ""),
            ("Long", "x" * 5000),
            *(("More", str(number)) for number in range(9)),
        )
    )

    with caplog.at_level(logging.DEBUG):
        status, text = await run("2 + 2")

    assert status is ToolStatus.OK
    lines = text.splitlines()
    assert lines[:3] == ["Input: 2 + 2", "Result: 4", "four"]
    assert lines[3] == f"Long: {'x' * 499}…"
    assert lines[4:-1] == ["More: 0", "More: 1", "More: 2"]
    assert lines[-1] == "Source: Wolfram|Alpha, https://www.wolframalpha.com/input?i=2+%2B+2"
    assert wolfram.calls.last.request.url.params["appid"] == KEY
    assert KEY not in caplog.text


@pytest.mark.parametrize("body", [answer(success=False), answer(("Plot", ""))])
async def test_a_query_that_is_not_understood_is_an_error_to_act_on(
    wolfram: respx.Route, body: dict[str, Any]
):
    wolfram.respond(json=body)

    assert await run("colourless green ideas") == (
        ToolStatus.ERROR,
        "Error: wolfram_alpha did not understand the query; put it in fewer or other words",
    )


async def test_an_error_of_the_service_is_not_repeated_word_for_word(wolfram: respx.Route):
    wolfram.respond(json=answer(success=False, error={"code": "1", "msg": f"Invalid appid {KEY}"}))

    status, text = await run("2 + 2")

    assert status is ToolStatus.ERROR
    assert "check WOLFRAM_ALPHA_API_KEY" in text
    assert KEY not in text


@pytest.mark.parametrize(
    "body", [b"", b"<xml/>", b"{}", b'{"queryresult": []}', b'{"queryresult": {"pods": 3}}']
)
async def test_a_malformed_answer_is_an_error(wolfram: respx.Route, body: bytes):
    wolfram.respond(content=body)

    assert await run("2 + 2") == (
        ToolStatus.ERROR,
        "Error: wolfram_alpha answered in a form that cannot be read; try again later",
    )


async def test_a_query_of_no_length_is_not_sent(wolfram: respx.Route):
    assert await run(" ") == (ToolStatus.ERROR, "Error: query must have 1 to 400 characters, got 1")
    assert not wolfram.called
