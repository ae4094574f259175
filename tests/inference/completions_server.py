"""A server that speaks vLLM's part of the OpenAI API over real sockets, with a LocalEngine behind, and fails on demand.

It answers as vLLM 0.32.0 was seen to; what it is told not to know it ignores, as vLLM ignores unknown fields.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread

from agentkit.errors import InferenceError
from agentkit.inference.base import Engine, Grammar, Priority, SamplingParams, StopReason, Usage
from agentkit.inference.classifier import EncoderClassifier

EVERYTHING = frozenset(
    {"token_ids", "tokenize", "stop", "grammar", "candidates", "logprobs", "salt", "priority", "cached"}
)
MODEL = "tiny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer other than 200, in place of the next completion."""

    status: int
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """What happens to the next streamed completion after so many of its events.

    `cut` closes the socket, `end` ends the stream as if it were whole, `error` tells of an error and ends it, `hang`
    says nothing any more, `noise` sends what is no event.
    """

    after: int
    how: str = "cut"


@dataclass(slots=True, kw_only=True)
class CompletionsServer:
    """The server. `faults` are used up by completions, in their order; `asked` are the bodies that arrived."""

    engine: Engine
    knows: frozenset[str] = EVERYTHING
    classifier: EncoderClassifier | None = None
    api_key: str | None = None
    faults: deque[Refusal | Break | None] = field(default_factory=deque)
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    streaming: int = 0
    url: str = ""

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[CompletionsServer]:
        """Serve until the block ends; connections that are open then are cut."""
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await self._serve(reader, writer)
            except (ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError, InferenceError):
                pass  # the client is gone, or the server, or its engine
            finally:
                tasks.discard(task)
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()

        listening = await asyncio.start_server(serve, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            listening.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ", 2)[1]
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head.splitlines()[1:])
        }
        body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
        self.keys.append(headers.get("authorization"))
        if (
            path.startswith("/v1/")
            and self.api_key
            and headers.get("authorization") != f"Bearer {self.api_key}"
        ):
            _answer(writer, 401, {"error": "Unauthorized"})
        elif path == "/v1/models":
            model = {"id": MODEL, "owned_by": "tests", "max_model_len": self.engine.context_length}
            _answer(writer, 200, {"data": [model]})
        elif path == "/tokenize" and "tokenize" in self.knows:
            _answer(writer, 200, {"tokens": self._tokenized(body["prompt"])})
        elif path == "/v1/completions":
            await self._complete(reader, writer, body)
        elif path == "/classify" and self.classifier is not None:
            self.asked.append(body)
            found = await anyio.to_thread.run_sync(_classified, self.classifier, body["input"])
            _answer(writer, 200, {"data": found})
        else:
            _answer(writer, 404, {"detail": "Not Found"})
        await writer.drain()

    def _tokenized(self, text: str) -> list[int]:
        """Tokenize as servers do: a special token wherever a text spells it."""
        tokenizer = self.engine.tokenizer
        for name, token_id in tokenizer.special_ids.items():
            before, found, after = text.partition(name)
            if found:
                return [*self._tokenized(before), token_id, *self._tokenized(after)]
        return tokenizer.encode(text)

    async def _complete(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: dict[str, Any]
    ) -> None:
        self.asked.append(body)
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, Refusal):
            _answer(writer, fault.status, fault.body, fault.headers)
            return
        wrong = self._wrong(body)
        if wrong is not None:
            _answer(
                writer,
                400,
                {"error": {"message": wrong, "type": "BadRequestError", "param": None, "code": 400}},
            )
        elif body.get("stream"):
            await self._stream(reader, writer, body, fault)
        else:
            _answer(writer, 200, await self._whole(body))

    def _wrong(self, body: dict[str, Any]) -> str | None:
        if "salt" in self.knows and body.get("cache_salt") == "":
            return "Parameter 'cache_salt' must be a non-empty string if provided."
        if "priority" in self.knows and not isinstance(body.get("priority", 0), int):
            return "1 validation error"
        if isinstance(body["prompt"], list) and "token_ids" not in self.knows:
            return "prompt must be a string"
        if len(self._prompt(body)) >= self.engine.context_length:
            return (
                f"This model's maximum context length is {self.engine.context_length} tokens. However, your prompt "
                f"contains {len(self._prompt(body))} input tokens."
            )
        return None

    def _prompt(self, body: dict[str, Any]) -> list[int]:
        prompt = body["prompt"]
        return self._tokenized(prompt) if isinstance(prompt, str) else list(prompt)

    async def _whole(self, body: dict[str, Any]) -> dict[str, Any]:
        parts = [part async for part in self._parts(body)]
        usage = parts[-1].pop("usage")
        choice = parts[-1] | {"text": "".join(part["text"] for part in parts)}
        if "token_ids" in self.knows:
            choice["token_ids"] = [token_id for part in parts for token_id in part.get("token_ids", [])]
        logprobs = await self._logprobs(body)
        return {"choices": [choice | {"logprobs": logprobs}], "usage": self._told(usage)}

    async def _stream(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        body: dict[str, Any],
        fault: Break | None,
    ) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        self.streaming += 1
        watching = asyncio.ensure_future(reader.read(1))
        try:
            await self._send_events(writer, body, fault, watching)
        finally:
            self.streaming -= 1
            watching.cancel()

    async def _send_events(
        self,
        writer: asyncio.StreamWriter,
        body: dict[str, Any],
        fault: Break | None,
        gone: asyncio.Future[bytes],
    ) -> None:
        sent = 0
        async with aclosing(self._parts(body)) as parts:
            async for part in parts:
                if gone.done():
                    return
                if fault is not None and sent == fault.after:
                    await _break(writer, fault.how)
                    return
                usage = part.pop("usage", None)
                _event(writer, {"choices": [part]})
                await writer.drain()
                sent += 1
                if usage is not None and body.get("stream_options", {}).get("include_usage"):
                    _event(writer, {"choices": [], "usage": self._told(usage)})
        writer.write(b"data: [DONE]\n\n")

    async def _parts(self, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        stop_ids = frozenset(body.get("stop_token_ids") or ()) if "stop" in self.knows else frozenset[int]()
        stop_ids |= {self.engine.tokenizer.special_ids[name] for name in body.get("stop") or ()}
        params = SamplingParams(
            temperature=body.get("temperature", 1.0),
            top_p=body.get("top_p", 1.0),
            max_tokens=body.get("max_tokens", 16),
            seed=body.get("seed"),
            stop_ids=stop_ids,
        )
        structured = body.get("structured_outputs") if "grammar" in self.knows else None
        tokens = self.engine.generate(
            self._prompt(body),
            params,
            grammar=Grammar(lark=structured["grammar"]) if structured else None,
            priority=Priority(body.get("priority", 0)) if "priority" in self.knows else Priority.INTERACTIVE,
            scope=body.get("cache_salt", "") if "salt" in self.knows else "",
        )
        decoder = self.engine.tokenizer.decoder()
        async for token in tokens:
            part: dict[str, Any] = {"index": 0, "text": decoder.feed(token.id), "finish_reason": None}
            if "token_ids" in self.knows and body.get("return_token_ids"):
                part["token_ids"] = [token.id]
            if token.stop_reason is not None:
                stopped = token.stop_reason is StopReason.STOP_TOKEN
                part |= {"finish_reason": "stop" if stopped else "length", "usage": token.usage}
                part["stop_reason"] = token.id if stopped else None
            yield part

    async def _logprobs(self, body: dict[str, Any]) -> dict[str, Any] | None:
        most = body.get("logprobs")
        if most is None or "logprobs" not in self.knows:
            return None
        wanted = body.get("logprob_token_ids") if "candidates" in self.knows else None
        everything = range(self.engine.tokenizer.vocab_size)
        score = await self.engine.score(self._prompt(body), wanted or everything)
        named = dict(zip(wanted or everything, score.logprobs, strict=True))
        kept: Iterable[int] = wanted or sorted(named, key=lambda one: -named[one])[:most]
        return {"top_logprobs": [{f"token_id:{token_id}": named[token_id] for token_id in kept}]}

    def _told(self, usage: Usage) -> dict[str, Any]:
        details = (
            {"prompt_tokens_details": {"cached_tokens": usage.cached_tokens}}
            if "cached" in self.knows
            else {}
        )
        return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.output_tokens, **details}


def _classified(classifier: EncoderClassifier, rows: list[list[int]]) -> list[dict[str, Any]]:
    found = classifier._probabilities(rows, 1.0)
    return [
        {
            "index": index,
            "label": classifier.labels[probs.index(max(probs))],
            "probs": probs,
            "num_classes": len(probs),
        }
        for index, probs in enumerate(found)
    ]


def _answer(
    writer: asyncio.StreamWriter, status: int, body: Any, headers: Iterable[tuple[str, str]] = ()
) -> None:
    content = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} -", f"content-length: {len(content)}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    writer.write("\r\n".join([*lines, "", ""]).encode() + content)


def _event(writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
    writer.write(f"data: {json.dumps(event)}\n\n".encode())


async def _break(writer: asyncio.StreamWriter, how: str) -> None:
    match how:
        case "cut":
            writer.transport.abort()
        case "end":
            writer.write(b"data: [DONE]\n\n")
        case "error":
            _event(
                writer, {"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}}
            )
            writer.write(b"data: [DONE]\n\n")
        case "hang":
            await writer.drain()
            await asyncio.sleep(3600)
        case "noise":
            writer.write(b"data: {not json\n\n")
