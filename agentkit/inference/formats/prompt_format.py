"""How an agent's prompts are written: the choices that a developer may make about the format. Renders nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from agentkit.inference.formats.base import Format
from agentkit.inference.formats.call_forms import ResultStyle, ToolFormat, ToolsIn, check_option
from agentkit.inference.formats.dialects import check_dialect, default_dialect, format_for
from agentkit.inference.formats.hf_llama import HF_DIALECTS
from agentkit.inference.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFormat:
    """How prompts are written; None leaves a choice to the dialect, and the dialect to the model.

    `dialect` is `hf-3.1`, `hf-3.2`, `meta` or `template`. `builtin_tools` names tools of the agent that Llama 3.1
    was trained on, `brave_search`, `wolfram_alpha` and `code_interpreter`: the prompt names them, and describes
    them no further.

    Raises:
        ConfigurationError: if there is no such dialect, tool format, place or style.
    """

    dialect: str | None = None
    tool_format: ToolFormat | None = None
    builtin_tools: tuple[str, ...] = ()
    tools_in: ToolsIn | None = None
    tool_results: ResultStyle | None = None

    def __post_init__(self) -> None:
        if self.dialect is not None:
            check_dialect(self.dialect)
        for name, choices in (
            ("tool_format", ToolFormat),
            ("tools_in", ToolsIn),
            ("tool_results", ResultStyle),
        ):
            value = getattr(self, name)
            if value is not None:
                check_option(name, value, choices)

    def build(self, tokenizer: Tokenizer, *, date: str | None = None) -> Format:
        """Return the format for a tokenizer, with a session's date.

        Raises:
            ConfigurationError: if the dialect does not fit the tokenizer, or takes no such choice.
        """
        dialect = self.dialect or default_dialect(tokenizer)
        options = self._options()
        if dialect in HF_DIALECTS:
            options["keep_text"] = True  # of what the model wrote nothing is lost, whatever its template does
        if date is not None:
            options["date"] = date
        return format_for(tokenizer, dialect, **options)

    def key(self, tokenizer: Tokenizer) -> str:
        """Return a name that two of them share only if they write the same prompts for the tokenizer."""
        options = self._options()
        chosen = f" {json.dumps(options, sort_keys=True)}" if options else ""
        return (self.dialect or default_dialect(tokenizer)) + chosen

    def _options(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value and name != "dialect"}
