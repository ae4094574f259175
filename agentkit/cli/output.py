"""What commands write: lines and JSON on stdout, notes on stderr. Text that a model wrote cannot steer a terminal."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

# Characters that reorder what is shown: https://www.unicode.org/reports/tr9/ (embeddings, overrides, isolates).
_REORDERING: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def write_line(text: str) -> None:
    """Write one line at once.

    Raises:
        BrokenPipeError: if nobody reads stdout any more.
    """
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


def write_json(value: Any) -> None:
    """Write a value as one line of JSON; characters that stdout cannot encode are escaped."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value)
    write_line(text)


def write_text(text: str) -> None:
    """Write a text that a model wrote: as it is into a file or a pipe, harmless on a terminal."""
    write_line(printable(text) if sys.stdout.isatty() else text)


def write_note(text: str) -> None:
    """Write a remark to whoever sits there, apart from the output."""
    print(text, file=sys.stderr)


def printable(text: str) -> str:
    """Return the text with control characters escaped, except line feeds and tabs."""
    return "".join(_escaped(character) for character in text)


def one_line(arguments: Mapping[str, Any]) -> str:
    """Return the arguments of a call as one line of JSON, for people."""
    return json.dumps(dict(arguments), ensure_ascii=False, default=str)


def counted(number: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _escaped(character: str) -> str:
    if character in "\n\t":
        return character
    if unicodedata.category(character) in ("Cc", "Cs") or character in _REORDERING:
        return character.encode("unicode_escape").decode("ascii")
    return character
