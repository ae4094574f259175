"""Runs every contender through every workload, round by round and one at a time."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.engines.agreement import Agreement, agreement, alone, text_conversation
from benchmarks.engines.figures import Sample
from benchmarks.engines.lineup import REFERENCE, Contender
from benchmarks.engines.peer_process import PeerError, PeerProcess
from benchmarks.engines.workloads import FORWARD, Sizes, instance
from benchmarks.peers.protocol import Answer, Conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a run found: samples, and for each contender its versions, agreement or reason to be left out."""

    samples: list[Sample] = field(default_factory=list)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    agreements: dict[str, Agreement] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


class Race:
    """The contenders that still run, each in its process, and the bare models of some in theirs."""

    def __init__(self, stack: ExitStack, *, threads: int) -> None:
        """Start nobody yet; `stack` ends all processes."""
        self.result = Result()
        self._stack = stack
        self._threads = threads
        self._running: dict[str, PeerProcess] = {}
        self._bare: dict[str, PeerProcess] = {}

    def start(self, contender: Contender, model: Path | str) -> None:
        """Start a contender; one that cannot be is left out, with the reason."""
        try:
            peer = self._running[contender.name] = self._process(contender, model)
            if contender.bare is not None:
                self._bare[contender.name] = self._process(contender.bare, model)
        except PeerError as error:
            self._drop(contender.name)
            self.leave_out(contender.name, str(error))
            return
        self.result.versions[contender.name] = peer.versions

    def compare_outputs(self, tokenizer: Path) -> None:
        """Have all generate the same text, which also warms them up."""
        text = text_conversation(tokenizer)
        answers = {}
        for name in list(self._running):
            print(f"comparing outputs: {name}", file=sys.stderr)
            answers[name] = self._ask_all(name, [*alone(text), text])
        reference = answers.pop(REFERENCE.name, None)
        if reference is None:
            return
        for name, given in answers.items():
            if given is not None:
                self.result.agreements[name] = agreement(given, reference)

    def run_round(self, number: int, workloads: Sequence[str], sizes: Sizes, *, seed: int) -> None:
        """Measure every workload once; who begins changes from round to round."""
        for workload in workloads:
            # The bare models compute what the engines did in the agent workload.
            same_ids = "agent" if workload == FORWARD else workload
            asked = instance(same_ids, sizes, random.Random(f"{seed} {number} {same_ids}"))
            peers = self._bare if workload == FORWARD else self._running
            names = list(peers)
            first = number % max(len(names), 1)
            for name in names[first:] + names[:first]:
                load_average = os.getloadavg()[0]
                print(f"round {number + 1}, {workload}: {name}", file=sys.stderr)
                answer = self._ask(peers[name], name, asked)
                if answer is None:
                    continue
                self.result.samples.append(
                    Sample(
                        contender=name,
                        workload=workload,
                        round=number,
                        load_average=load_average,
                        answer=answer,
                    )
                )

    def leave_out(self, name: str, reason: str) -> None:
        """Note why a contender is not, or no longer, measured."""
        print(f"left out: {name}: {reason}", file=sys.stderr)
        self.result.left_out[name] = reason

    def _process(self, contender: Contender, model: Path | str) -> PeerProcess:
        peer = PeerProcess(contender, model, threads=self._threads)
        self._stack.callback(peer.close)
        return peer

    def _ask_all(self, name: str, asked: Sequence[Conversation]) -> list[Answer] | None:
        answers = []
        for conversation in asked:
            answer = self._ask(self._running[name], name, conversation)
            if answer is None:
                return None
            answers.append(answer)
        return answers

    def _ask(self, peer: PeerProcess, name: str, asked: Conversation) -> Answer | None:
        try:
            return peer.converse(asked)
        except PeerError as error:
            self._drop(name)
            self.leave_out(name, str(error))
            return None

    def _drop(self, name: str) -> None:
        for peers in (self._running, self._bare):
            if name in peers:
                peers.pop(name).close()
