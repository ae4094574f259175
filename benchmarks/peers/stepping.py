"""Holds a conversation with an engine that is driven step by step. Knows no engine."""

from __future__ import annotations

import time
from typing import Protocol

from benchmarks.peers.protocol import Answer, Conversation, Turn, peak_mb

SYSTEM = -1
"""The number of the session that prefills the system prompt, before all others."""


class StepEngine(Protocol):
    """An engine whose requests advance together, one step at a time."""

    def add(self, session: int, prompt: list[int], output_tokens: int) -> None:
        """Ask for the next turn of a session; its prompt begins with all that the session has had so far."""

    def step(self) -> dict[int, list[int]]:
        """Run one step; return the ids that it generated, by session."""

    def end(self) -> None:
        """Drop what is kept of the sessions."""


class SteppingPeer:
    """A `Peer` out of a `StepEngine`."""

    def __init__(self, engine: StepEngine) -> None:
        self._engine = engine

    def converse(self, conversation: Conversation) -> Answer:
        """Hold the conversation: a session's next turn begins in the step after its last one ended."""
        started = time.perf_counter()
        if conversation.system:
            _run(self._engine, [_Session(SYSTEM, [], [conversation.system], 1)])
        system_seconds = time.perf_counter() - started
        sessions = [
            _Session(number, conversation.system, turns, conversation.output_tokens)
            for number, turns in enumerate(conversation.turns)
        ]
        started = time.perf_counter()
        _run(self._engine, sessions)
        turns_seconds = time.perf_counter() - started
        self._engine.end()
        return Answer(
            turns=[session.done for session in sessions],
            system_seconds=system_seconds,
            turns_seconds=turns_seconds,
            peak_mb=peak_mb(),
        )


class _Session:
    """Where one session of a conversation has got to."""

    def __init__(self, number: int, system: list[int], turns: list[list[int]], output_tokens: int) -> None:
        self.number = number
        self.done: list[Turn] = []
        self._prompt = list(system)
        self._turns = list(turns)
        self._output_tokens = output_tokens
        self._output: list[int] = []
        self._started = self._first = 0.0

    def begin_turn(self, engine: StepEngine) -> None:
        self._prompt += self._turns[len(self.done)]
        self._output = []
        self._started = time.perf_counter()
        engine.add(self.number, self._prompt, self._output_tokens)

    def receive(self, ids: list[int]) -> bool:
        """Take generated ids; return whether they were the turn's last ones."""
        if not self._output:
            self._first = time.perf_counter()
        self._output += ids
        if len(self._output) < self._output_tokens:
            return False
        first, now = self._first - self._started, time.perf_counter() - self._started
        self.done.append(Turn(ids=self._output, first_seconds=first, seconds=now))
        self._prompt += self._output
        return True

    @property
    def ended(self) -> bool:
        return len(self.done) == len(self._turns)


def _run(engine: StepEngine, sessions: list[_Session]) -> None:
    running = {session.number: session for session in sessions}
    for session in sessions:
        session.begin_turn(engine)
    while running:
        for number, ids in engine.step().items():
            session = running[number]
            if not ids or not session.receive(ids):
                continue
            if session.ended:
                del running[number]
            else:
                session.begin_turn(engine)
