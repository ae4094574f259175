"""Llama Guard 3's prompt, as token ids. Knows no thresholds and runs no model.

The words are Meta's: the chat templates of Llama-Guard-3-8B and Llama-Guard-3-1B.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from agentkit.errors import ConfigurationError, ShieldError
from agentkit.messages import Role
from agentkit.shields.base import ShieldInput, Stage

if TYPE_CHECKING:
    from agentkit.inference.tokenizer import Tokenizer

CATEGORIES: Mapping[str, str] = MappingProxyType(
    {
        "S1": "Violent Crimes",
        "S2": "Non-Violent Crimes",
        "S3": "Sex Crimes",
        "S4": "Child Exploitation",
        "S5": "Defamation",
        "S6": "Specialized Advice",
        "S7": "Privacy",
        "S8": "Intellectual Property",
        "S9": "Indiscriminate Weapons",
        "S10": "Hate",
        "S11": "Self-Harm",
        "S12": "Sexual Content",
        "S13": "Elections",
        "S14": "Code Interpreter Abuse",
    }
)
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
# Content that spells the prompt's own frame could end the conversation early.
_FRAME = re.compile(r"<\s*(BEGIN|END)\s+(CONVERSATION|UNSAFE\s+CONTENT\s+CATEGORIES)\s*>", re.IGNORECASE)


def offered_categories(tokenizer: Tokenizer, reference: str) -> tuple[str, ...]:
    """Return the categories that the checkpoint was trained on: 1B knows no code interpreter abuse."""
    if tokenizer.chat_template is not None:
        knows_all = CATEGORIES[_ONLY_8B] in tokenizer.chat_template
    else:
        knows_all = re.search(r"(?i)\b1b\b", reference) is None
    return tuple(code for code in CATEGORIES if knows_all or code != _ONLY_8B)


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

    Old messages are dropped while a prompt is longer than `room_for_history`, a number of tokens.
    """

    tokenizer: Tokenizer
    ids: GuardIds
    categories: tuple[str, ...]
    room_for_history: int

    def render(self, content: ShieldInput) -> list[int]:
        """Return the prompt for one piece of content, with as much of its history as has room.

        Raises:
            ShieldError: if the content or its history spells the prompt's own frame.
        """
        role = _role_of(content.stage)
        parts = [*_history_parts(content), (role, content.text)]
        if any(_FRAME.search(text) for _, text in parts):
            raise ShieldError("the conversation imitates Llama Guard's own prompt and cannot be judged")
        while True:
            rendered = self._prompt(role, parts)
            if len(rendered) <= self.room_for_history or len(parts) == 1:
                return rendered
            parts = parts[max(1, len(parts) // 2) :]

    def template(self, stage: Stage) -> list[int]:
        """Return the prompt around no conversation: what another one shares with it is Meta's and the policy's."""
        return self._prompt(_role_of(stage), ())

    def category_question(self, prompt_ids: Sequence[int]) -> list[int]:
        """Return the prompt after which the number of the first violated category comes next."""
        return [*prompt_ids, self.ids.unsafe, *self.tokenizer.encode("\nS")]

    def _prompt(self, role: str, parts: Sequence[tuple[str, str]]) -> list[int]:
        listed = "\n".join(f"{code}: {CATEGORIES[code]}." for code in self.categories)
        conversation = "".join(f"{speaker}: {text.strip()}\n\n" for speaker, text in parts)
        # One encoding of the whole, as in training: a text and the blank line after it may share a token.
        body = _TASK.format(role=role, categories=listed) + conversation + _INSTRUCTIONS.format(role=role)
        return [
            self.ids.begin,
            *self._header("user"),
            *self.tokenizer.encode(body + self._trailing_space()),
            self.ids.end_of_turn,
            *self._header("assistant"),
            *self.tokenizer.encode("\n\n"),
        ]

    def _header(self, role: str) -> list[int]:
        start, end = self.ids.header
        return [start, *self.tokenizer.encode(role), end]

    def _trailing_space(self) -> str:
        """Return the space that the chat template of Llama-Guard-3-1B has before the end of the turn."""
        template = self.tokenizer.chat_template or ""
        return " " if "violated categories. <|eot_id|>" in template else ""


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
