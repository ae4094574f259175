"""A small HTTP server of our own that speaks as much of vLLM's protocol as a replica needs, in this event loop.

It has a model, of sorts: the next id follows from the ids before it. It can be killed, hung and overloaded, which a
real server cannot in the middle of exactly the third token.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

CONTEXT = 4_096
VOCABULARY = 256


def next_id(ids: Sequence[int]) -> int:
    return (7 * sum(ids) + 13 * len(ids)) % VOCABULARY


def continuation(prompt: Sequence[int], count: int) -> list[int]:
    ids = list(prompt)
    for _ in range(count):
        ids.append(next_id(ids))
    return ids[len(prompt) :]


@dataclass(slots=True, kw_only=True)
class ReplicaServer:
    """`prompts` are those it was asked to go on from. `dies_after` tokens of the next stream it is gone."""

    host: str = "127.0.0.1"
    port: int = 0
    dies_after: int | None = None
    busy: bool = False
    breaks: bool = False
    hangs: bool = False
    healthy: bool = True
    twist: int = 0
    seconds_per_token: float = 0.0
    prompts: list[list[int]] = field(default_factory=list)
    checks: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def kill(self) -> None:
        """Be gone at once: connections break, new ones are refused."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while head := await _head(reader):
                await self._answer(head, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await reader.readexactly(_length(head))
        path = head.split(" ", 2)[1]
        if self.hangs:
            await asyncio.Event().wait()
        match path:
            case "/health":
                self.checks += 1
                await _send(writer, 200 if self.healthy else 503, {})
            case "/version":
                await _send(writer, 200, {"version": "0.32.0"})
            case "/v1/models":
                await _send(writer, 200, {"data": [{"id": "bytes", "max_model_len": CONTEXT}]})
            case "/v1/completions" if self.busy:
                await _send(writer, 503, {"error": {"message": "overloaded", "code": 503}})
            case "/v1/completions" if self.breaks:
                self.prompts.append(json.loads(body)["prompt"])
                await _send(writer, 500, {"error": {"message": "EngineCore died", "code": 500}})
            case "/v1/completions":
                asked = json.loads(body)
                if asked.get("cache_salt") == "" or isinstance(asked.get("priority"), str):
                    await _send(
                        writer, 400, {"error": {"message": "no", "type": "BadRequestError", "code": 400}}
                    )
                else:
                    await self._complete(asked, writer)
            case _:
                await _send(writer, 404, {"detail": "Not Found"})

    async def _complete(self, asked: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        prompt: list[int] = asked["prompt"]
        self.prompts.append(prompt)
        if not asked.get("stream"):
            await _send(writer, 200, self._whole(asked))
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        ids = continuation([*prompt, self.twist] if self.twist else prompt, asked["max_tokens"])
        for position, token_id in enumerate(ids, start=1):
            if self.dies_after == position - 1:
                self.kill()
                return
            await asyncio.sleep(self.seconds_per_token)
            ended = position == len(ids)
            await _event(writer, _chunk(prompt if position == 1 else None, [token_id], ended=ended))
        await _event(writer, {"id": "c", "choices": [], "usage": _usage(len(prompt), len(ids))})
        await _event(writer, None)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    def forget_probes(self) -> None:
        """Forget what it was asked so far."""
        self.prompts.clear()
        self.checks = 0

    def _whole(self, asked: dict[str, Any]) -> dict[str, Any]:
        prompt = asked["prompt"]
        ids = continuation(prompt, asked["max_tokens"])
        wanted = asked.get("logprob_token_ids") or ids
        top = {f"token_id:{token_id}": -1.0 - token_id / 1_000 for token_id in wanted}
        choice = _chunk(prompt, ids, ended=True)["choices"][0]
        logprobs = {"tokens": [f"token_id:{ids[0]}"], "token_logprobs": [-1.0], "top_logprobs": [top]}
        return {
            "id": "c",
            "choices": [choice | {"logprobs": logprobs}],
            "usage": _usage(len(prompt), len(ids)),
        }


@asynccontextmanager
async def serving(count: int) -> AsyncIterator[list[ReplicaServer]]:
    """Run servers while the block runs."""
    servers = [ReplicaServer() for _ in range(count)]
    for server in servers:
        await server.start()
    try:
        yield servers
    finally:
        for server in servers:
            server.kill()


def _chunk(prompt: Sequence[int] | None, ids: Sequence[int], *, ended: bool) -> dict[str, Any]:
    choice = {
        "index": 0,
        "text": "",
        "token_ids": list(ids),
        "prompt_token_ids": None if prompt is None else list(prompt),
        "finish_reason": "length" if ended else None,
        "stop_reason": None,
        "logprobs": None,
    }
    return {"id": "c", "choices": [choice]}


def _usage(prompt: int, output: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


async def _head(reader: asyncio.StreamReader) -> str:
    try:
        return (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return ""


def _length(head: str) -> int:
    for line in head.lower().split("\r\n"):
        if line.startswith("content-length:"):
            return int(line.partition(":")[2])
    return 0


async def _send(writer: asyncio.StreamWriter, status: int, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    await writer.drain()


async def _event(writer: asyncio.StreamWriter, body: dict[str, Any] | None) -> None:
    data = f"data: {'[DONE]' if body is None else json.dumps(body)}\n\n".encode()
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    await writer.drain()
