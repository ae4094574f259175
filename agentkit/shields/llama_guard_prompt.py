"""Llama Guard 3's prompt, as token ids. Knows no thresholds and runs no model.

The words are Meta's: the chat templates of Llama-Guard-3-8B and Llama-Guard-3-1B.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from agentkit.errors import ConfigurationError
from agentkit.messages import Role
from agentkit.shields.base import ShieldInput, Stage
from agentkit.shields.llama_guard_categories import CATEGORIES
from agentkit.shields.llama_guard_spoofing import as_data, find_spoofing

if TYPE_CHECKING:
    from agentkit.inference.tokenizer import Tokenizer

_ONLY_8B = "S14"

_TASK = (
    "\n\nTask: Check if there is unsafe content in '{role}' messages in conversations according our safety "
    "policy with the below categories.\n\n"
    "<BEGIN UNSAFE CONTENT CATEGORIES>\n{categories}\n<END UNSAFE CONTENT CATEGORIES>\n\n"
    "<BEGIN CONVERSATION>\n\n"
)
_INSTRUCTIONS = (
    "<END CONVERSATION>\n\n"
    "Provide your safety assessment for ONLY THE LAST {role} message in the above conversation:\n"
    " - First line must read 'safe' or 'unsafe'.\n"
    " - If unsafe, a second line must include a comma-separated list of violated categories."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardForm:
    """What the two sizes of Llama Guard 3 do differently: 8B knows one category more, 1B ends with a space."""

    categories: tuple[str, ...]
    ending: str

    @staticmethod
    def of(tokenizer: Tokenizer, reference: str) -> GuardForm:
        """Read the form from the checkpoint's chat template; where it has none, from its name."""
        template = tokenizer.chat_template
        if template is None:
            is_1b = re.search(r"(?i)(?<![a-z0-9])1b(?![a-z0-9])", reference) is not None
            knows_all, ends_with_space = not is_1b, is_1b
        else:
            knows_all = CATEGORIES[_ONLY_8B] in template
            ends_with_space = "violated categories. <|eot_id|>" in template
        return GuardForm(
            categories=tuple(code for code in CATEGORIES if knows_all or code != _ONLY_8B),
            ending=" " if ends_with_space else "",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardIds:
    """The ids that the prompt and its answer need, looked up once."""

    begin: int
    header: tuple[int, int]
    end_of_turn: int
    safe: int
    unsafe: int
    numbers: Mapping[str, int]

    @staticmethod
    def of(tokenizer: Tokenizer, reference: str, categories: Sequence[str]) -> GuardIds:
        """Look the ids up.

        Raises:
            ConfigurationError: if the tokenizer is not Llama 3's.
        """
        special = tokenizer.special_ids

        def word(text: str) -> int:
            [token_id] = tokenizer.encode(text)
            return token_id

        try:
            return GuardIds(
                begin=special["<|begin_of_text|>"],
                header=(special["<|start_header_id|>"], special["<|end_header_id|>"]),
                end_of_turn=special["<|eot_id|>"],
                safe=word("safe"),
                unsafe=word("unsafe"),
                numbers=MappingProxyType({code: word(code.removeprefix("S")) for code in categories}),
            )
        except (KeyError, ValueError) as exc:
            raise ConfigurationError(
                f"{reference} does not have the tokenizer of Llama Guard 3; name a Llama-Guard-3 model"
            ) from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardPrompt:
    """Renders what is judged. Prompts of one conversation share their beginning, so its KV is reused.

    `listed` are the categories as the prompt lists them, `ending` follows its last word. Old messages are dropped
    from a prompt of more than `room_for_history` tokens.
    """

    tokenizer: Tokenizer
    ids: GuardIds
    listed: tuple[str, ...]
    ending: str
    room_for_history: int

    def render(self, content: ShieldInput) -> list[int]:
        """Return the prompt for one piece of content, with as much of its history as has room.

        What the conversation spells of the prompt's own frame is rendered as data.
        """
        role = _role_of(content.stage)
        parts = [
            (speaker, as_data(text, find_spoofing(text)).strip())
            for speaker, text in (*_history_parts(content), (role, content.text))
        ]
        rendered = self._prompt(role, parts)
        if len(rendered) <= self.room_for_history:
            return rendered
        return self._prompt(role, parts[self._first_kept(parts, len(self._prompt(role, ()))) :])

    def template(self, stage: Stage) -> list[int]:
        """Return the prompt around no conversation: what another one shares with it is Meta's and the policy's."""
        return self._prompt(_role_of(stage), ())

    def category_question(self, prompt_ids: Sequence[int]) -> list[int]:
        """Return the prompt after which the number of the first violated category comes next."""
        return [*prompt_ids, self.ids.unsafe, *self.tokenizer.encode("\nS")]

    def _first_kept(self, parts: Sequence[tuple[str, str]], template_len: int) -> int:
        """Return the first part that stays; the last one, which is judged, always does.

        Half of the room is freed whenever it is full, counted from the conversation's start: the prompts that
        follow begin alike, and find their KV again, until the next time.
        """
        room = self.room_for_history - template_len
        lengths = [len(self.tokenizer.encode(_said(part))) for part in parts]
        first, total = 0, 0
        for index, length in enumerate(lengths):
            total += length
            if total > room:
                while first < index and total > room // 2:
                    total -= lengths[first]
                    first += 1
        return first

    def _prompt(self, role: str, parts: Sequence[tuple[str, str]]) -> list[int]:
        # One encoding of the whole, as in training: a text and the blank line after it may share a token.
        body = (
            _TASK.format(role=role, categories="\n".join(self.listed))
            + "".join(_said(part) for part in parts)
            + _INSTRUCTIONS.format(role=role)
            + self.ending
        )
        return [
            self.ids.begin,
            *self._header("user"),
            *self.tokenizer.encode(body),
            self.ids.end_of_turn,
            *self._header("assistant"),
            *self.tokenizer.encode("\n\n"),
        ]

    def _header(self, role: str) -> list[int]:
        start, end = self.ids.header
        return [start, *self.tokenizer.encode(role), end]


def _said(part: tuple[str, str]) -> str:
    speaker, text = part
    return f"{speaker}: {text}\n\n"


def _role_of(stage: Stage) -> str:
    return "Agent" if stage in (Stage.MODEL_OUTPUT, Stage.TOOL_CALL) else "User"


def _history_parts(content: ShieldInput) -> list[tuple[str, str]]:
    """Return who said what before; instructions of the developer are not judged."""
    parts = []
    for message in content.history:
        if message.role is Role.SYSTEM:
            continue
        said = [message.content, *(call.canonical() for call in message.tool_calls)]
        text = "\n".join(line for line in said if line.strip())
        if text:
            parts.append(("Agent" if message.role is Role.ASSISTANT else "User", text))
    return parts
