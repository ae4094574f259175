"""What a peer is asked and what it answers, as JSON lines on its standard input and output. Knows no engine."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TextIO


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Sessions that begin at once after a system prompt that they share.

    `turns` holds, for each session, the new ids of each of its turns; every turn generates `output_tokens`,
    greedily and past any stop token. A prompt is the system prompt, all turns so far and what was generated.
    """

    system: list[int]
    turns: list[list[list[int]]]
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one turn generated, and the seconds from its start to its first and to its last token."""

    ids: list[int]
    first_seconds: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The turns of each session; the seconds that the system prompt took, then those of all turns together."""

    turns: list[list[Turn]]
    system_seconds: float
    turns_seconds: float
    peak_mb: float

    @staticmethod
    def from_json(answer: dict[str, Any]) -> Answer:
        """Read what `serve` wrote."""
        turns = [[Turn(**turn) for turn in session] for session in answer["turns"]]
        return Answer(**(answer | {"turns": turns}))


class Peer(Protocol):
    """An engine under test."""

    def converse(self, conversation: Conversation) -> Answer:
        """Hold the conversation, with what was computed of it kept from turn to turn, and time it."""


def arguments() -> argparse.Namespace:
    """Return what every peer is started with."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--precision", required=True)
    parser.add_argument("--threads", type=int, required=True)
    return parser.parse_args()


def serve(load: Callable[[argparse.Namespace], Peer], *packages: str) -> None:
    """Load an engine, say its packages' versions, and answer conversations until standard input ends."""
    replies = _take_standard_output()
    try:
        peer = load(arguments())
        versions = {package: version(package) for package in packages}
        _reply(replies, {"versions": versions})
        for line in sys.stdin:
            _reply(replies, asdict(peer.converse(Conversation(**json.loads(line)))))
    except Exception as error:
        _reply(replies, {"error": _reason(error)})
        raise


def peak_mb() -> float:
    """Return the most memory that this process has had so far, in MB."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1000 if found else 0.0


def _reason(error: Exception) -> str:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _take_standard_output() -> TextIO:
    """Keep standard output for replies; whatever else a library prints goes to standard error."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def _reply(replies: TextIO, reply: dict[str, Any]) -> None:
    print(json.dumps(reply), file=replies, flush=True)
