"""Text as an attacker may have hidden it -> the readings of it that a detector should see, with offsets back.

Knows how text is disguised (look-alike letters, invisible characters, spacing, encodings); does not know what
is dangerous. Work is linear in the text's length: a fixed number of readings, each made in one pass.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agentkit.shields.decodings import decode_runs
from agentkit.shields.glyphs import TAG_BLOCK, fold_character

Offsets = NDArray[np.int64]

_MAX_DECODE_DEPTH = 2  # base64 of base64 of text is read; deeper nesting is left as it is

# Words of which a guessed reading (rot13, reversed, leet) must show more than the plain one to be kept.
_TELLTALES = (
    "ignore", "instruction", "previous", "prompt", "system", "disregard", "reveal", "override", "restriction",
    "developer", "assistant", "forget", "password", "secret", "pretend", "unfiltered", "jailbreak", "guidelines",
    "rules",
)  # fmt: skip
# Words that letters which were spaced out, with no sign of where words ended, are cut into.
_SEGMENT_WORDS = (
    "ignore disregard forget override bypass reveal show print output repeat tell all any the your my me and of "
    "previous prior above earlier preceding system prompt prompts instructions instruction rules guidelines "
    "restrictions developer mode jailbreak do anything now you are act as pretend be without filters secret "
    "password hidden message everything that"
)
_SEGMENT = re.compile("|".join(sorted(_SEGMENT_WORDS.split(), key=len, reverse=True)))

_SPACED_LETTERS = re.compile(r"(?<![a-z0-9])[a-z](?:[ \t._*|/,+~\-]{1,3}[a-z](?![a-z0-9])){3,}")
_WIDE_GAP = re.compile(r"[ \t]{2,3}")
_LEET = str.maketrans("0134578@$", "oieastbas")

_ZERO_WIDTH = re.compile("[\u00ad\u180e\u200b\u200c\u2060-\u2064\ufeff]|[A-Za-z]\u200d|\u200d[A-Za-z]")
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_TAGS = re.compile("[\U000e0020-\U000e007e]{2,}")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{4,}")
_MIXED_SCRIPT = re.compile("[A-Za-z][\u0370-\u03ff\u0400-\u04ff]|[\u0370-\u03ff\u0400-\u04ff][A-Za-z]")
_COMPATIBILITY = re.compile("[\uff21-\uff5a\u2460-\u24ff\U0001d400-\U0001d7ff\U0001f130-\U0001f189]")
_DISGUISES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("invisible", _ZERO_WIDTH),
    ("bidi", _BIDI),
    ("tags", _TAGS),
    ("selectors", _SELECTORS),
    ("confusables", _MIXED_SCRIPT),
    ("compatibility", _COMPATIBILITY),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One reading of a text. `transforms` says how it was read, in order; empty for the text itself.

    `starts[i]` and `ends[i]` are the part of the raw text that character `i` stands for; None means `i`, `i + 1`.
    """

    text: str
    transforms: tuple[str, ...] = ()
    starts: Offsets | None = None
    ends: Offsets | None = None

    def raw_span(self, start: int, end: int) -> tuple[int, int]:
        """Return the raw text's `[start, end)` behind this view's `[start, end)`, which must not be empty."""
        if self.starts is None or self.ends is None:
            return start, end
        return int(self.starts[start:end].min()), int(self.ends[start:end].max())


def views(text: str) -> tuple[View, ...]:
    """Return the readings of a text: the text itself first, then its folded form, then what it may hide.

    Every view but the first is folded: lower case, without accents and invisible characters, look-alike letters
    as Latin ones. A decoded view is the whole text with the decoded runs in place of the encoded ones.
    """
    raw = View(text=text)
    readings = [raw]
    for source in (raw, *_decoded(raw), *_unhidden(raw)):
        folded = _fold(source)
        readings.append(folded)
        readings.extend(_guesses(folded))
    return tuple(readings)


def _decoded(raw: View) -> Iterator[View]:
    source = raw
    for _ in range(_MAX_DECODE_DEPTH):
        runs = list(decode_runs(source.text))
        if not runs:
            return
        names = tuple(dict.fromkeys(run.encoding for run in runs))
        source = _replace(source, ((run.start, run.end, run.text) for run in runs), names)
        yield source


def _unhidden(raw: View) -> Iterator[View]:
    if _TAGS.search(raw.text):
        tags = ((m.start(), m.end(), _from_tags(m[0])) for m in _TAGS.finditer(raw.text))
        yield _replace(raw, tags, ("tags",))
    if _SELECTORS.search(raw.text):
        selectors = ((m.start(), m.end(), _from_selectors(m[0])) for m in _SELECTORS.finditer(raw.text))
        yield _replace(raw, selectors, ("selectors",))


def _from_tags(run: str) -> str:
    return " " + "".join(chr(ord(character) - TAG_BLOCK) for character in run) + " "


def _from_selectors(run: str) -> str:
    # Bytes smuggled as variation selectors: 16 in the first block, the other 240 in the supplement.
    codes = (ord(character) for character in run)
    data = bytes(code - 0xFE00 if code < 0xE0100 else code - 0xE0100 + 16 for code in codes)
    return " " + data.decode("utf-8", errors="replace") + " "


def _fold(view: View) -> View:
    if view.text.isascii():
        return View(text=view.text.lower(), transforms=view.transforms, starts=view.starts, ends=view.ends)
    transforms = view.transforms + tuple(
        name for name, pattern in _DISGUISES if name not in view.transforms and pattern.search(view.text)
    )
    folded = {character: fold_character(character) for character in set(view.text)}
    text = "".join(map(folded.__getitem__, view.text))
    if all(len(value) == 1 for value in folded.values()):
        return View(text=text, transforms=transforms, starts=view.starts, ends=view.ends)
    lengths = np.fromiter((len(folded[character]) for character in view.text), np.int64, len(view.text))
    index = np.repeat(np.arange(len(view.text)), lengths)
    starts, ends = _pick(view, index)
    return View(text=text, transforms=transforms, starts=starts, ends=ends)


def _guesses(folded: View) -> Iterator[View]:
    if _SPACED_LETTERS.search(folded.text):
        joined = ((m.start(), m.end(), _join(m[0])) for m in _SPACED_LETTERS.finditer(folded.text))
        yield _replace(folded, joined, ("spaced",))
    plain = _telltales(folded.text)
    rereadings: tuple[tuple[str, Callable[[str], str]], ...] = (
        ("leet", lambda text: text.translate(_LEET)),
        ("rot13", lambda text: codecs.encode(text, "rot13")),
    )
    for name, reread in rereadings:
        text = reread(folded.text)
        if _telltales(text) > plain:
            yield _same_offsets(folded, text, name)
    backwards = folded.text[::-1]
    if _telltales(backwards) > plain:
        yield _reversed(folded, backwards)


def _telltales(text: str) -> int:
    return sum(word in text for word in _TELLTALES)


def _join(run: str) -> str:
    words = _WIDE_GAP.split(run)
    if len(words) > 1:
        return " ".join(_letters(word) for word in words)
    return _SEGMENT.sub(lambda match: f" {match[0]} ", _letters(run)).strip()


def _letters(run: str) -> str:
    return "".join(character for character in run if character.isalpha())


def _same_offsets(view: View, text: str, name: str) -> View:
    return View(text=text, transforms=(*view.transforms, name), starts=view.starts, ends=view.ends)


def _reversed(view: View, backwards: str) -> View:
    starts, ends = _pick(view, np.arange(len(backwards))[::-1])
    return View(text=backwards, transforms=(*view.transforms, "reversed"), starts=starts, ends=ends)


def _replace(view: View, edits: Iterable[tuple[int, int, str]], names: tuple[str, ...]) -> View:
    """Return the view with `[start, end)` of each edit, in order, replaced by its text."""
    pieces: list[str] = []
    firsts: list[Offsets] = []
    lasts: list[Offsets] = []
    done = 0
    for start, end, text in (*edits, (len(view.text), len(view.text), "")):
        kept = np.arange(done, start)
        pieces += (view.text[done:start], text)
        firsts += (kept, np.full(len(text), start))
        lasts += (kept, np.full(len(text), max(start, end - 1)))
        done = end
    starts, _ = _pick(view, np.concatenate(firsts))
    _, ends = _pick(view, np.concatenate(lasts))
    return View(text="".join(pieces), transforms=view.transforms + names, starts=starts, ends=ends)


def _pick(view: View, index: Offsets) -> tuple[Offsets, Offsets]:
    if view.starts is None or view.ends is None:
        return index, index + 1
    return view.starts[index], view.ends[index]
