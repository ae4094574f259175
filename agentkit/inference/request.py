"""One request on its way through the model: its ids, what of them is computed, what it asks. Decides nobody's turn."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import torch

from agentkit.errors import InferenceError
from agentkit.inference.base import Priority, Score, Usage
from agentkit.inference.kv_cache import Miss
from agentkit.inference.kv_sequence import KVSequence
from agentkit.inference.mailbox import Mailbox
from agentkit.inference.model import Output, Part
from agentkit.inference.runner import Row
from agentkit.inference.sampler import Draw

T = TypeVar("T")


class Request(ABC, Generic[T]):
    """The ids of a prompt and its output. `kv` holds the first of them; the rest is still to be computed.

    `kv` is None while the request waits: before its start, and whenever its memory was lent to another. Results
    and errors go to the mailbox. Between two steps the request may be dropped at any time.

    `draft` is what may come after `ids`, for the next step to verify; it is empty between two steps.
    """

    disposable = False
    """Whether nobody will go on from where this request ends."""

    cacheable = True
    """Whether the keys and values that it computes are those of all layers, so that others can use them."""

    def __init__(
        self,
        prompt_ids: Sequence[int],
        *,
        priority: Priority,
        scope: str,
        mailbox: Mailbox[T],
        public_prefix: int = 0,
    ) -> None:
        self.ids = list(prompt_ids)
        self.priority = priority
        self.scope = scope
        self.public_prefix = public_prefix
        self.kv: KVSequence | None = None
        self.finished = False
        self.draft: list[int] = []
        self.drafted_tokens = 0
        self.accepted_tokens = 0
        self._prompt_tokens = len(self.ids)
        self._mailbox = mailbox
        self._cached_tokens = 0
        self._miss: Miss | None = None
        self._submitted_at = time.perf_counter()
        self._started_at: float | None = None
        self._prefilled_at: float | None = None

    @property
    def reusable(self) -> int:
        """How many of the leading ids need not be computed if they are cached."""
        return len(self.ids) - 1

    @property
    def found_tokens(self) -> int | None:
        """How many of the leading ids were cached when it began; None before that."""
        return None if self._started_at is None else self._cached_tokens

    @property
    def pending(self) -> int:
        """How many ids are still to be computed."""
        return len(self.ids) - (0 if self.kv is None else self.kv.length)

    @property
    def decoding(self) -> bool:
        """Whether all that is pending is the token drawn last."""
        return self._prefilled_at is not None and self.pending == 1

    def begin(self, kv: KVSequence, miss: Miss | None) -> None:
        """Take a sequence that holds some of the ids; the first time, that says what was cached."""
        self.kv = kv
        if self._started_at is None:
            self._started_at = time.perf_counter()
            self._cached_tokens = kv.length
            self._miss = miss
            self._start()

    def part(self, count: int) -> Part:
        """Return what the next step computes: at most `count` of the pending ids, and the draft behind the last."""
        kv = self._held()
        ids = self.ids[kv.length : kv.length + count]
        if kv.length + len(ids) < len(self.ids):
            return Part(ids=ids, kv=kv, logits=0)
        return Part(ids=[*ids, *self.draft], kv=kv, logits=1 + len(self.draft))

    def draft_chances(self, most: int) -> list[float]:
        """Return how likely each of at most so many next ids can be foretold, together with those before it."""
        return []

    def make_draft(self, count: int) -> None:
        """Draft at most so many ids, no more than there were chances for."""

    @property
    def draw(self) -> Draw | None:
        """How the next token is drawn, where nothing but the logits has a say in it."""
        return None

    def row(self) -> Row:
        """Return what the next step computes where the request decodes."""
        return Row(token_id=self.ids[-1], kv=self._held(), draw=self.draw)

    @abstractmethod
    def take(self, output: Output) -> None:
        """Use what a step gave for its part, which `kv` holds by now: append a token, or finish, or neither."""

    def fail(self, error: Exception) -> None:
        """End with an error, which the caller of the engine gets."""
        self.finished = True
        self._mailbox.send(error)

    def _start(self) -> None:
        """Do what is due once, before the first step."""

    def _held(self) -> KVSequence:
        if self.kv is None:
            raise InferenceError("a request takes steps only between its start and its end")
        return self.kv

    def _usage(self) -> Usage:
        now = time.perf_counter()
        started_at = now if self._started_at is None else self._started_at
        prefilled_at = now if self._prefilled_at is None else self._prefilled_at
        return Usage(
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            prefilled_tokens=self._prompt_tokens - self._cached_tokens,
            output_tokens=len(self.ids) - self._prompt_tokens,
            queue_seconds=started_at - self._submitted_at,
            prefill_seconds=prefilled_at - started_at,
            decode_seconds=now - prefilled_at,
            miss_at=None if self._miss is None else self._miss.at,
            miss_reason=None if self._miss is None else self._miss.reason,
            drafted_tokens=self.drafted_tokens,
            accepted_tokens=self.accepted_tokens,
        )


class NextTokenRequest(Request[T]):
    """A request that wants to know what comes after its ids."""

    def take(self, output: Output) -> None:
        """Use the logits, once there are any."""
        if self.pending > 0:
            return
        if self._prefilled_at is None:
            self._prefilled_at = time.perf_counter()
        self._use(output)

    @abstractmethod
    def _use(self, output: Output) -> None:
        """Take the logits after `ids` and each id of the draft, (1 + draft, vocab_size): append tokens, or finish.

        Where the next token was drawn already, take that. `kv` holds nothing that is not in `ids` afterwards.
        """


class ScoreRequest(NextTokenRequest[Score]):
    """Asks for the log-probabilities of some next tokens, once."""

    disposable = True

    def __init__(
        self,
        prompt_ids: Sequence[int],
        candidate_ids: Sequence[int],
        *,
        priority: Priority,
        scope: str,
        mailbox: Mailbox[Score],
        public_prefix: int = 0,
    ) -> None:
        super().__init__(
            prompt_ids, priority=priority, scope=scope, mailbox=mailbox, public_prefix=public_prefix
        )
        self._candidate_ids = list(candidate_ids)

    def _use(self, output: Output) -> None:
        logprobs = torch.log_softmax(output.logits[-1], dim=-1)[self._candidate_ids]
        if logprobs.isnan().any():
            raise InferenceError("the model's logits are not numbers")
        self.finished = True
        self._mailbox.send(Score(logprobs=tuple(logprobs.tolist()), usage=self._usage()))


class PrefillRequest(Request[Usage]):
    """Has ids computed and cached; asks for nothing."""

    def take(self, output: Output) -> None:
        """Finish when all is computed."""
        if self.pending == 0:
            self.finished = True
            self._mailbox.send(self._usage())
