"""What a text may hide, letter for letter: for detectors of keys, whose case and digits matter.

Knows how letters are hidden; what `normalize` folds for readers of language is kept here as it is written.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import unquote_to_bytes

from agentkit.shields.base import Finding
from agentkit.shields.normalize import View, decoded_views, replace_spans, unhidden_views, visible_view

# Letters of a key with a little between them, long enough to be one.
_SPACED_OUT = re.compile(r"(?<![\w-])[\w-](?:[ \t\n.,|*/~]{1,3}[\w-](?![\w-])){15,}")
_BETWEEN = re.compile(r"[ \t\n.,|*/~]+")


def exact_views(text: str) -> Iterator[View]:
    """Yield a text without what is invisible in it, decoded, and each of these with spaced-out letters joined."""
    raw = View(text=text)
    plain = list(_plain_views(raw))
    yield from plain
    for source in (raw, *plain):
        runs = [
            (match.start(), match.end(), _BETWEEN.sub("", match[0]))
            for match in _SPACED_OUT.finditer(source.text)
        ]
        if runs:
            yield replace_spans(source, runs, ("spaced",))


def _plain_views(raw: View) -> Iterator[View]:
    visible = visible_view(raw)
    hidden = [*([visible] if visible.text != raw.text else []), *unhidden_views(raw)]
    yield from hidden
    for source in (raw, *hidden):
        yield from decoded_views(source)
        yield from _decoded_exactly(source)


def find_in_views(
    text: str, find: Callable[[str], Iterable[Finding]]
) -> tuple[list[Finding], tuple[str, ...]]:
    """Return what is found in a text and its exact views, in its place, and which transforms hid some of it."""
    found = dict.fromkeys(find(text))
    transforms: dict[str, None] = {}
    for view in exact_views(text):
        for finding in find(view.text):
            start, end = view.raw_span(finding.start, finding.end)
            there = Finding(start=start, end=end, label=finding.label)
            if there not in found:
                found[there] = None
                transforms.update(dict.fromkeys(view.transforms))
    return sorted(found, key=lambda one: (one.start, -one.end, one.label)), tuple(transforms)


def _decoded_exactly(source: View) -> Iterator[View]:
    """Decode what gives any text at all: a key alone does not read like language."""
    for name, pattern, decode in _DECODERS:
        runs = [
            (match.start(), match.end(), decoded)
            for match in pattern.finditer(source.text)
            if (decoded := _printable(decode, match[0])) is not None
        ]
        if runs:
            yield replace_spans(source, runs, (name,))


def _printable(decode: Callable[[str], bytes], run: str) -> str | None:
    try:
        text = decode(run).decode("ascii")
    except (binascii.Error, ValueError):
        return None
    return text if text.strip() and text != run and all(map(_is_printable, text)) else None


def _is_printable(character: str) -> bool:
    return character.isprintable() or character in "\r\n\t"


def _from_base64(run: str) -> bytes:
    compact = "".join(run.split()).rstrip("=").translate(str.maketrans("-_", "+/"))
    return base64.b64decode(compact + "=" * (-len(compact) % 4))


_DECODERS: tuple[tuple[str, re.Pattern[str], Callable[[str], bytes]], ...] = (
    (
        "base64",
        re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{16,}+(?:\r?\n[ \t]*+[A-Za-z0-9+/_-]{12,}+)*+={0,2}"),
        _from_base64,
    ),
    ("hex", re.compile(r"(?<![0-9A-Za-z])(?:[0-9a-fA-F]{2}){10,}+(?![0-9A-Za-z])"), bytes.fromhex),
    ("percent", re.compile(r"(?<![\w.~+%-])[\w.~+-]*+(?:%[0-9A-Fa-f]{2}[\w.~+-]*+)++"), unquote_to_bytes),
)
