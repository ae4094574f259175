"""Which format for which tokenizer: by name, or by what the tokenizer has. Knows no prompt."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.inference.formats.base import Format
from agentkit.inference.formats.hf_llama import Llama31Format, Llama32Format
from agentkit.inference.formats.llama import REQUIRED_SPECIALS
from agentkit.inference.formats.meta import MetaFormat
from agentkit.inference.formats.template import TemplateFormat
from agentkit.inference.tokenizer import Tokenizer
from agentkit.nearest import nearest

LLAMA_DIALECTS: dict[str, Callable[..., Format]] = {
    Llama31Format.name: Llama31Format,
    Llama32Format.name: Llama32Format,
    MetaFormat.name: MetaFormat,
}
DIALECTS: tuple[str, ...] = (*LLAMA_DIALECTS, TemplateFormat.name)


def format_for(tokenizer: Tokenizer, dialect: str | None = None, **options: Any) -> Format:
    """Return the format of a dialect; by default Llama 3.1's where the tokenizer has its special tokens.

    Options are the keyword arguments of the format; `template` also takes a `template` in place of the one
    that the checkpoint carries.

    Raises:
        ConfigurationError: if the dialect or an option is not known, or the tokenizer does not fit.
    """
    name = default_dialect(tokenizer) if dialect is None else check_dialect(dialect)
    if name in LLAMA_DIALECTS:
        return _build(LLAMA_DIALECTS[name], name, tokenizer, options)
    options = {"template": tokenizer.chat_template, **options}
    if options["template"] is None:
        raise ConfigurationError("the checkpoint carries no chat template; give one with the option template")
    return _build(TemplateFormat, name, tokenizer, options)


def check_dialect(name: str) -> str:
    """Return the name of a dialect.

    Raises:
        ConfigurationError: if there is none of that name; the message has the nearest one.
    """
    if name in DIALECTS:
        return name
    near = nearest(name, DIALECTS, cutoff=0.4)
    suggestion = f"; did you mean {near!r}?" if near else ""
    raise ConfigurationError(f"no dialect {name!r}: there are {', '.join(DIALECTS)}{suggestion}")


def default_dialect(tokenizer: Tokenizer) -> str:
    """Return the dialect of a model: Llama's where it has Llama 3's special tokens, else the checkpoint's own.

    Llama 3.2's template asks for today's date and knows no built-in tools, unlike those of 3.1 and 3.3.
    """
    if any(special not in tokenizer.special_ids for special in REQUIRED_SPECIALS):
        return TemplateFormat.name
    template = tokenizer.chat_template or ""
    is_newer = "strftime_now" in template and "builtin_tools" not in template
    return Llama32Format.name if is_newer else Llama31Format.name


def _build(build: Callable[..., Format], name: str, tokenizer: Tokenizer, options: dict[str, Any]) -> Format:
    known = [option for option in inspect.signature(build).parameters if option != "tokenizer"]
    for option in options:
        if option not in known:
            raise ConfigurationError(f"dialect {name} has no option {option!r}; it has {', '.join(known)}")
    return build(tokenizer, **options)
