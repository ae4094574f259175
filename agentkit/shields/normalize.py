"""Text as an attacker may have hidden it -> the readings of it that a detector should see, with offsets back.

Knows how text is disguised (look-alike letters, invisible characters, spacing, encodings); does not know what
is dangerous. Work is linear in the text's length: a fixed number of readings, each made in one pass.
"""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agentkit.shields.decodings import decode_runs
from agentkit.shields.glyphs import TAG_BLOCK, fold_character, plain_character

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
# Words with nothing between them but letters or underscores, long enough to be a sentence.
_SOLID_WORDS = re.compile(r"(?<![a-z0-9_])[a-z_]{20,200}(?![a-z0-9_])")
_FEWEST_SOLID_WORDS = 4
_NO_LETTER = re.compile(r"[^a-z]+")
_LETTERS_ONLY_CHARACTERS = 2_000
_WORD = re.compile(r"[a-z]{5,14}")
_MISSPELT_WORDS = "ignore previous instruction instructions disregard system prompt override reveal"
_ESCAPED_SPACE = re.compile(r"\\[nrt]")
_ESCAPED_CHARACTER = re.compile(
    r"&#\d{1,7};?|&#x[0-9a-f]{1,6};?|\\u\{[0-9a-f]{1,6}\}|\\u[0-9a-f]{4}|\\x[0-9a-f]{2}|%[0-9a-f]{2}"
)
_MARKUP = re.compile(r"<!--.{0,200}?-->|</?[a-z][^<>]{0,100}>", re.DOTALL)
_WIDE_GAP = re.compile(r"[ \t]{2,3}")
_LEET = str.maketrans("0134578@$!|", "oieastbasii")

# The second line is invisible between Latin letters only: in emoji, Indic scripts and Braille it has its place.
_ZERO_WIDTH = re.compile(
    "[\u00ad\u034f\u115f\u1160\u180e\u200b\u200c\u2060-\u2064\u206a-\u206f\u3164\ufeff\uffa0]"
    "|[A-Za-z][\u200d\u2800\ufe00-\ufe0f\U000e0001-\U000e01ef]|[\u200d\u2800\U000e0001-\U000e01ef][A-Za-z]"
)
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_TAGS = re.compile("[\U000e0020-\U000e007e]{2,}")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{4,}")
# Greek, Cyrillic, Armenian, Cherokee, Canadian, Coptic, Tifinagh and Lisu letters beside Latin ones.
_ALIKE = "\u0370-\u052f\u0531-\u0587\u13a0-\u167f\u2c80-\u2cff\u2d30-\u2d67\ua4d0-\ua4ff\uab70-\uabbf"
_MIXED_SCRIPT = re.compile(f"[A-Za-z][{_ALIKE}]|[{_ALIKE}][A-Za-z]")
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
    for source in (raw, *decoded_views(raw), *_decoded_visible(raw), *unhidden_views(raw)):
        folded = _fold(source)
        readings.append(folded)
        readings.extend(_guesses(folded))
    return tuple(readings)


def folded_view(text: str) -> View:
    """Return the folded form of a text as it stands, decoding nothing."""
    return _fold(View(text=text))


def hidden_views(text: str) -> tuple[View, ...]:
    """Return the readings of a text that took some transform, each once: what it may hide."""
    distinct: dict[str, View] = {}
    for view in views(text):
        if view.transforms:
            distinct.setdefault(view.text, view)
    return tuple(distinct.values())


def decoded_views(raw: View) -> Iterator[View]:
    """Yield a text with its encoded runs decoded, once and twice; letters keep their case."""
    source = raw
    for _ in range(_MAX_DECODE_DEPTH):
        runs = list(decode_runs(source.text))
        if not runs:
            return
        names = tuple(dict.fromkeys(run.encoding for run in runs))
        source = replace_spans(source, ((run.start, run.end, run.text) for run in runs), names)
        yield source


def _decoded_visible(raw: View) -> Iterator[View]:
    """Decode what is encoded once invisible characters and other widths are out of the way."""
    if raw.text.isascii():
        return
    visible = visible_view(raw)
    if visible.text != raw.text:
        yield from decoded_views(visible)


def visible_view(raw: View) -> View:
    """Return a text without its invisible characters and in plain widths; letters keep their case."""
    if raw.text.isascii():
        return raw
    mapped = _mapped(raw, {character: plain_character(character) for character in set(raw.text)})
    return View(text=mapped.text, transforms=_disguises(raw), starts=mapped.starts, ends=mapped.ends)


def unhidden_views(raw: View) -> Iterator[View]:
    """Yield a text with what its invisible characters spell, and with the line ends that JSON has as letters."""
    if _ESCAPED_SPACE.search(raw.text):
        # What is in JSON has its line ends as letters: they are no part of the next word, and no disguise.
        yield replace_spans(raw, ((m.start(), m.end(), "\n") for m in _ESCAPED_SPACE.finditer(raw.text)), ())
    if _TAGS.search(raw.text):
        tags = ((m.start(), m.end(), _from_tags(m[0])) for m in _TAGS.finditer(raw.text))
        yield replace_spans(raw, tags, ("tags",))
    if _SELECTORS.search(raw.text):
        selectors = ((m.start(), m.end(), _from_selectors(m[0])) for m in _SELECTORS.finditer(raw.text))
        yield replace_spans(raw, selectors, ("selectors",))


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
    mapped = _mapped(view, {character: fold_character(character) for character in set(view.text)})
    return View(text=mapped.text, transforms=_disguises(view), starts=mapped.starts, ends=mapped.ends)


def _disguises(view: View) -> tuple[str, ...]:
    """Return the view's transforms, and after them the disguises that its characters are."""
    return view.transforms + tuple(
        name for name, pattern in _DISGUISES if name not in view.transforms and pattern.search(view.text)
    )


def _mapped(view: View, mapping: Mapping[str, str]) -> View:
    text = "".join(map(mapping.__getitem__, view.text))
    if all(len(value) == 1 for value in mapping.values()):
        return View(text=text, transforms=view.transforms, starts=view.starts, ends=view.ends)
    lengths = np.fromiter((len(mapping[character]) for character in view.text), np.int64, len(view.text))
    starts, ends = _pick(view, np.repeat(np.arange(len(view.text)), lengths))
    return View(text=text, transforms=view.transforms, starts=starts, ends=ends)


def _guesses(folded: View) -> Iterator[View]:
    if _SPACED_LETTERS.search(folded.text):
        joined = ((m.start(), m.end(), _join(m[0])) for m in _SPACED_LETTERS.finditer(folded.text))
        yield replace_spans(folded, joined, ("spaced",))
    solid = [(m.start(), m.end(), words) for m in _SOLID_WORDS.finditer(folded.text) if (words := _cut(m[0]))]
    if solid:
        yield replace_spans(folded, solid, ("unspaced",))
    plain = _telltales(folded.text)
    for name, edits in _cleared(folded.text):
        view = replace_spans(folded, edits, (name,))
        if _telltales(view.text) > plain:
            yield view
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


def _cleared(text: str) -> Iterator[tuple[str, list[tuple[int, int, str]]]]:
    """Yield edits that take away what may stand inside of words: escapes, markup, or all that is no letter."""
    escapes = [(m.start(), m.end(), _unescaped(m[0])) for m in _ESCAPED_CHARACTER.finditer(text)]
    if escapes:
        yield "escapes", escapes
    misspelt = [(m.start(), m.end(), _MISSPELT[m[0]]) for m in _WORD.finditer(text) if m[0] in _MISSPELT]
    if misspelt:
        yield "misspelt", misspelt
    markup = [(m.start(), m.end(), "") for m in _MARKUP.finditer(text)]
    if markup:
        yield "markup", markup
    if len(text) <= _LETTERS_ONLY_CHARACTERS:
        # Letters alone, cut into words again; every word keeps its place.
        marks = [(m.start(), m.end(), "") for m in _NO_LETTER.finditer(text)]
        letters = _NO_LETTER.sub("", text)
        if marks and _telltales(letters) > _telltales(text):
            yield "unspaced", [(0, len(text), _SEGMENT.sub(lambda match: f" {match[0]} ", letters).strip())]


def _misspellings(word: str) -> Iterator[str]:
    """Yield the word with one letter left out, or two neighbours the other way round."""
    for i in range(len(word)):
        yield word[:i] + word[i + 1 :]
        yield word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :]


_MISSPELT = {
    wrong: word
    for word in _MISSPELT_WORDS.split()
    for wrong in _misspellings(word)
    if wrong not in _MISSPELT_WORDS.split() and len(wrong) >= 5
}


def _unescaped(run: str) -> str:
    if run.startswith("&"):
        return html.unescape(run).lower()
    code = int(run.strip("\\ux%{}"), 16)
    return chr(code).lower() if code < 0x110000 else ""


def _cut(run: str) -> str | None:
    """Return a run of letters and underscores as words, if all of it is words that are looked for."""
    words = _SEGMENT.findall(run)
    if len(words) < _FEWEST_SOLID_WORDS or len("".join(words)) != len(run.replace("_", "")):
        return None
    return " ".join(words)


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


def replace_spans(view: View, edits: Iterable[tuple[int, int, str]], names: tuple[str, ...]) -> View:
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
