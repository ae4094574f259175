"""Finds encoded runs in a text (base64, base32, hex, binary, percent, escapes, entities) and decodes the readable ones.

Knows encodings; does not judge what was hidden. Each pattern is one pass; a run is kept only if it decodes to text.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

_MORSE_CODES = (
    ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.. "
    "----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----. .-.-.- --..-- ..--.. -....- .--.-. -.-.-- .-..-."
)
_MORSE = dict(
    zip(
        _MORSE_CODES.split(),
        'abcdefghijklmnopqrstuvwxyz0123456789.,?-@!"',
        strict=True,
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedRun:
    """`[start, end)` of a text, what it decodes to and by which encoding."""

    start: int
    end: int
    text: str
    encoding: str


def decode_runs(text: str) -> Iterator[DecodedRun]:
    """Yield the encoded runs that decode to readable text, in order, without overlap."""
    done = 0
    found = (run for encoding, pattern, decode in _DECODERS for run in _runs(text, encoding, pattern, decode))
    for run in sorted(found, key=lambda run: (run.start, -run.end)):
        if run.start >= done:
            done = run.end
            yield run


def _runs(
    text: str, encoding: str, pattern: re.Pattern[str], decode: Callable[[str], str | None]
) -> Iterator[DecodedRun]:
    for match in pattern.finditer(text):
        decoded = decode(match[0])
        if decoded is not None and decoded != match[0]:
            yield DecodedRun(start=match.start(), end=match.end(), text=decoded, encoding=encoding)


def _readable(data: bytes) -> str | None:
    """Return the bytes as text if it looks like language: UTF-8, printable, mostly letters and spaces."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if len(text) < 4:
        return None
    printable = sum(character.isprintable() or character in "\n\t\r" for character in text)
    wordlike = sum(character.isalpha() or character in " \n" for character in text)
    return text if printable >= 0.97 * len(text) and wordlike >= 0.7 * len(text) else None


def _base64(run: str) -> str | None:
    """Decode a run; a leading `/` or `-` may belong to it, or to what is around it."""
    return _base64_text(run) or (_base64_text(run[1:]) if run[0] in "/_-+" else None)


def _base64_text(run: str) -> str | None:
    compact = "".join(run.split()).rstrip("=").translate(str.maketrans("-_", "+/"))
    if len(compact) % 4 == 1:
        compact = compact[:-1]
    try:
        return _readable(base64.b64decode(compact + "=" * (-len(compact) % 4)))
    except binascii.Error:
        return None


def _base32(run: str) -> str | None:
    compact = run.rstrip("=")
    try:
        return _readable(base64.b32decode(compact + "=" * (-len(compact) % 8)))
    except binascii.Error:
        return None


def _hex(run: str) -> str | None:
    digits = re.sub(r"\\x|0x|[^0-9a-fA-F]", "", run)
    return _readable(bytes.fromhex(digits[: len(digits) // 2 * 2]))


def _binary(run: str) -> str | None:
    bits = "".join(run.split())
    usable = len(bits) // 8 * 8
    return _readable(bytes(int(bits[i : i + 8], 2) for i in range(0, usable, 8)))


def _morse(run: str) -> str | None:
    words = re.split(r"\s*/\s*|\s{2,}", run.strip())
    letters = [[_MORSE.get(code) for code in word.split()] for word in words]
    if any(letter is None for word in letters for letter in word):
        return None
    return _readable(" ".join("".join(filter(None, word)) for word in letters).encode())


def _percent(run: str) -> str | None:
    return _readable(unquote_to_bytes(run.replace("+", " ")))


def _escapes(run: str) -> str | None:
    codes = re.findall(r"[0-9a-fA-F]{4}", run)
    units = b"".join(int(code, 16).to_bytes(2, "big") for code in codes)
    return _readable(units.decode("utf-16-be", errors="replace").encode("utf-8", errors="replace"))


def _entities(run: str) -> str | None:
    return _readable(html.unescape(run).encode("utf-8", errors="replace"))


_DECODERS: tuple[tuple[str, re.Pattern[str], Callable[[str], str | None]], ...] = (
    (
        "base64",
        re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{12,}+(?:\r?\n[ \t]*+[A-Za-z0-9+/_-]{12,}+)*+={0,2}"),
        _base64,
    ),
    ("base32", re.compile(r"(?<![A-Za-z0-9])[A-Z2-7]{16,}+={0,6}"), _base32),
    ("hex", re.compile(r"(?<![0-9A-Za-z])(?:(?:\\x|0x)?[0-9a-fA-F]{2}(?:, |[ ,:\n-])?){8,}+"), _hex),
    ("binary", re.compile(r"(?<![01])(?:[01]{8} ?){3,}+"), _binary),
    ("morse", re.compile(r"(?<![.\-])(?:[.\-]{1,6}[ \t]{1,4}(?:/[ \t])?){9,}+[.\-]{1,6}"), _morse),
    ("percent", re.compile(r"(?:%[0-9A-Fa-f]{2}[\w.~+-]*+){3,}+"), _percent),
    ("escapes", re.compile(r"(?:\\u[0-9a-fA-F]{4}){4,}+"), _escapes),
    ("entities", re.compile(r"(?:&#(?:\d{1,7}|x[0-9a-fA-F]{1,6});){4,}+"), _entities),
)
