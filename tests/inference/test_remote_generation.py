"""How an output is read off a stream: the shapes that servers give it, beyond those of vLLM."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
import respx

from agentkit.errors import RemoteError
from agentkit.inference.base import SamplingParams, StopReason
from agentkit.inference.remote_generation import Part, RemoteGeneration
from agentkit.inference.remote_server import ModelServer, RemoteTimeouts
from agentkit.inference.remote_wire import IdWire

URL = "http://model"
STOP = 7


def events(*said: Any) -> httpx.Response:
    lines = "".join(f"data: {one if isinstance(one, str) else json.dumps(one)}\r\n\r\n" for one in said)
    return httpx.Response(200, text=lines)


def part(ids: Sequence[int], finish: str | None = None, stopped_by: Any = None) -> dict[str, Any]:
    choice = {
        "index": 0,
        "text": "",
        "token_ids": list(ids),
        "finish_reason": finish,
        "stop_reason": stopped_by,
    }
    return {"choices": [choice]}


def usage(cached: int) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": cached}}}


def generation(max_tokens: int = 10) -> RemoteGeneration:
    return RemoteGeneration(
        ModelServer(URL, None, RemoteTimeouts()),
        IdWire(),
        prompt_ids=[1, 2, 3],
        params=SamplingParams(max_tokens=max_tokens, stop_ids=frozenset({STOP, 8})),
        options={"model": "m"},
        context_length=100,
        matcher=None,
    )


async def received(*answers: httpx.Response, max_tokens: int = 10) -> tuple[list[int], Part]:
    """Return the ids of an output, and its last part; a transient fault takes the next answer."""
    one = generation(max_tokens)
    ids: list[int] = []
    with respx.mock:
        respx.post(f"{URL}/v1/completions").mock(side_effect=list(answers))
        while True:
            try:
                found = await one.next_part()
            except RemoteError as error:
                if not error.transient:
                    raise
                continue
            ids += found.ids
            if found.stop_reason is not None:
                return ids, found


@pytest.mark.parametrize(
    "said",
    [
        [part([4, 5]), part([STOP], "stop", STOP), usage(2), "[DONE]"],
        [part([4, 5, STOP], "stop", STOP), usage(2), "[DONE]"],
        [part([4]), part([]), part([5]), part([], "stop", STOP), usage(2)],
        [part([4, 5, STOP, 6, 6], None)],
        [{"choices": []}, part([4, 5], "stop", STOP)],
        [part([4, 5]), {**part([STOP], "stop"), "usage": None}, "[DONE]"],
    ],
    ids=["as vLLM", "at once", "stop id left out", "goes on", "no usage", "null usage"],
)
async def test_the_ids_and_the_stop_id_come_out_alike(said):
    ids, last = await received(events(*said))
    assert ids == [4, 5, STOP]
    assert last.stop_reason is StopReason.STOP_TOKEN
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.output_tokens) == (3, 3)
    assert last.usage.cached_tokens == (2 if usage(2) in said else 0)


async def test_lines_that_are_no_data_are_passed_over():
    text = ": ping\n\nevent: message\nid: 3\n" + events(part([4], "length")).text
    ids, last = await received(httpx.Response(200, text=text), max_tokens=1)
    assert (ids, last.stop_reason) == ([4], StopReason.MAX_TOKENS)


@pytest.mark.parametrize("max_tokens", [2, 10])
async def test_a_length_short_of_what_was_asked_means_that_the_context_is_full(max_tokens):
    _, last = await received(events(part([4, 5], "length")), max_tokens=max_tokens)
    assert last.stop_reason is (StopReason.MAX_TOKENS if max_tokens == 2 else StopReason.CONTEXT_FULL)


@pytest.mark.parametrize(
    "broken",
    [
        [part([4]), part([], "abort")],
        [part([4]), {"error": {"message": "EngineCore died", "code": 500}}, "[DONE]"],
        [part([4]), {"error": "EngineCore died"}, "[DONE]"],
        [part([4]), "[1]"],
        [part([4])],
    ],
    ids=["given up", "error", "bare error", "no event", "cut"],
)
async def test_an_output_that_broke_goes_on_in_the_next_answer(broken):
    ids, _ = await received(events(*broken), events(part([5]), part([STOP], "stop")))
    assert ids == [4, 5, STOP]


async def test_an_error_of_the_request_in_a_stream_is_not_tried_again():
    with pytest.raises(RemoteError, match=r"broke off its answer \(status 400\)"):
        await received(events(part([4]), {"error": {"message": "no", "code": 400}}))


async def test_an_output_cut_after_its_last_token_needs_no_other_answer():
    ids, last = await received(events(part([4]), part([5])), max_tokens=2)
    assert (ids, last.stop_reason) == ([4, 5], StopReason.MAX_TOKENS)
