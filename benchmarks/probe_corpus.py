"""The labelled texts that the shipped probes are fit and measured on, each with the source that it is held out with.

Texts for `injection` and `harm` come from the labelled files, from examples of our own, and, as more that is harmless
and looks different, from what this machine has: code, translations and descriptions of installed packages.
"""

from __future__ import annotations

import gettext
import json
import random
import sysconfig
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_OWN: Final = Path(__file__).parent
_LOCALES: Final = Path("/usr/share/locale")
_LANGUAGES: Final = (
    "de fr es it pt_BR ru zh_CN ja ko ar tr pl uk vi hi nl sv cs el he th id fi hu ro".split()  # noqa: SIM905
)
# The sources that a head cannot do without are held out in so many parts, copies of a text in one of them.
_PARTS: Final = 5
_COPIED_WORDS: Final = 12
_SURROUNDINGS: Final = 700  # characters on either side of an attack


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One text. A label is None where nobody can say: jailbreaks ask for harm or not. `held_out` names a fold.

    `span` is where an attack is, as characters, where it is not the whole text.
    """

    source: str
    held_out: str
    text: str
    injection: bool | None
    harm: bool | None
    span: tuple[int, int] | None = None


def read_corpus(data: Path) -> list[Row]:
    """Return every text; `data` is the folder of labelled files."""
    rows = list(_labelled(data))
    rows += _examples()
    draw = random.Random(0)
    rows += _code(data, draw)
    rows += _translations(draw)
    rows += _descriptions(draw)
    rows += _planted([row.text for row in rows if row.source in _CARRIERS])
    return rows


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def _labelled(data: Path) -> Iterator[Row]:
    for row in read_rows(data / "benign_requests.jsonl"):
        yield _harmless("benign_requests", row["text"])
    for row in read_rows(data / "moderation.jsonl"):
        yield Row(
            source="moderation_unsafe" if row["unsafe"] else "moderation_safe",
            held_out=f"moderation {zlib.crc32(row['text'].encode()) % _PARTS}",
            text=row["text"],
            injection=False,
            harm=bool(row["unsafe"]),
        )
    jailbreaks = [row["text"] for row in read_rows(data / "jailbreaks.jsonl")]
    for text, family in zip(jailbreaks, _families(jailbreaks), strict=True):
        yield _attack("jailbreaks", text, held_out=f"jailbreaks {family % _PARTS}")
    for row in read_rows(data / "indirect_injection.jsonl"):
        if row["malicious"]:
            yield _injected(row)
        else:
            part = zlib.crc32(row["text"].encode()) % _PARTS
            yield _harmless("indirect_clean", row["text"], held_out=f"indirect {part}")


def _injected(row: Mapping[str, Any]) -> Row:
    """Return a tool result with an attack in it, of a long one what surrounds that; kinds of attack stay together."""
    text, attack = row["text"], row["attack"]
    if len(text) > 2 * _SURROUNDINGS:
        place = text.index(attack)
        text = text[max(0, place - _SURROUNDINGS) : place + len(attack) + _SURROUNDINGS]
    start = text.index(attack)
    part = zlib.crc32(row["kind"].encode()) % _PARTS
    return _attack("indirect_attacks", text, held_out=f"indirect {part}", span=(start, start + len(attack)))


def _families(texts: list[str]) -> list[int]:
    """Return a number for each text, the same for texts that copy from each other, directly or by others."""
    family = list(range(len(texts)))
    first: dict[tuple[str, ...], int] = {}
    for index, text in enumerate(texts):
        words = text.lower().split()
        for start in range(len(words) - _COPIED_WORDS + 1):
            other = first.setdefault(tuple(words[start : start + _COPIED_WORDS]), index)
            if family[other] != family[index]:
                joined, kept = family[index], family[other]
                family = [kept if one == joined else one for one in family]
    return family


def _examples() -> Iterator[Row]:
    for row in read_rows(_OWN / "override_examples.jsonl"):
        make = _attack if row["malicious"] else _harmless
        yield make("own_attacks" if row["malicious"] else "own_benign", row["text"], held_out="own")
    for row in read_rows(_OWN / "override_languages.jsonl"):
        make = _attack if row["malicious"] else _harmless
        yield make(
            "phrases_attacks" if row["malicious"] else "phrases_benign", row["text"], held_out="phrases"
        )
    for row in read_rows(_OWN / "probe_examples.jsonl"):
        match row["kind"]:
            case "harm":
                yield Row(source="own_harm", held_out="own", text=row["text"], injection=False, harm=True)
            case "benign":
                yield _harmless("own_plain", row["text"], held_out="own")
            case "injection":
                yield _attack("own_attacks", row["text"], held_out="own")
            case _:
                yield _attack("planted_alone", row["text"], held_out="planted")


def _code(data: Path, draw: random.Random) -> Iterator[Row]:
    insecure = read_rows(data / "insecure_code.jsonl")
    draw.shuffle(insecure)
    for row in insecure[:150]:
        yield _harmless("code", row["text"])
    library = Path(sysconfig.get_paths()["stdlib"])
    paths = [
        path
        for path in sorted(library.rglob("*.py"))
        if "site-packages" not in str(path) and "test" not in str(path)
    ]
    draw.shuffle(paths)
    for path in paths[:100]:
        text = path.read_text(encoding="utf-8", errors="replace")
        if len(text) > 200:
            start = draw.randrange(max(1, len(text) - 1500))
            yield _harmless("library", text[start : start + 1500], held_out="code")


def _translations(draw: random.Random) -> Iterator[Row]:
    """Yield messages of this machine's programs in other languages, alone and many together."""
    for language in _LANGUAGES:
        messages = [
            message
            for path in sorted((_LOCALES / language / "LC_MESSAGES").glob("*.mo"))
            for message in _messages(path)
        ]
        draw.shuffle(messages)
        if len(messages) < 30:
            continue
        for message in messages[:6]:
            yield _harmless("messages", message, held_out="languages")
        for start in (10, 18, 26):
            text = "\n".join(messages[start : start + 8])[:1200]
            yield _harmless("languages", text)


def _messages(path: Path) -> list[str]:
    try:
        with path.open("rb") as stream:
            catalog: Mapping[Any, Any] = vars(gettext.GNUTranslations(stream))["_catalog"]
    except (OSError, ValueError):
        return []
    return [text for key, text in catalog.items() if key and isinstance(text, str) and 30 < len(text) < 400]


def _descriptions(draw: random.Random) -> Iterator[Row]:
    """Yield what installed packages say about themselves: prose with headings and code, and fields."""
    paths = sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.dist-info/METADATA"))
    draw.shuffle(paths)
    found = 0
    for path in paths:
        text = path.read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[-1]
        if len(text) > 1500 and found < 80:
            start = draw.randrange(max(1, len(text) - 1400))
            found += 1
            yield _harmless("documents", text[start : start + 1400])
    for _ in range(40):
        text = draw.choice(paths).read_text(encoding="utf-8", errors="replace")
        yield _harmless("fields", text.split("\n\n", 1)[0][:800], held_out="documents")


_CARRIERS: Final = ("indirect_clean", "library", "languages", "documents", "fields")


def _planted(carriers: list[str]) -> Iterator[Row]:
    """Yield harmless texts into which an order to whoever reads them was put."""
    draw = random.Random(1)
    orders = [row["text"] for row in read_rows(_OWN / "probe_examples.jsonl") if row["kind"] == "foreign"]
    draw.shuffle(carriers)
    for index, carrier in enumerate(carriers[:120]):
        lines = carrier[: draw.choice([200, 500, 900])].split("\n")
        place = draw.choice([0, len(lines) // 2, len(lines)])
        order = orders[index % len(orders)]
        text = "\n".join([*lines[:place], order, *lines[place:]])
        start = text.index(order)
        yield _attack("planted", text, span=(start, start + len(order)))


def _harmless(source: str, text: str, *, held_out: str | None = None) -> Row:
    return Row(source=source, held_out=held_out or source, text=text, injection=False, harm=False)


def _attack(
    source: str, text: str, *, held_out: str | None = None, span: tuple[int, int] | None = None
) -> Row:
    return Row(source=source, held_out=held_out or source, text=text, injection=True, harm=None, span=span)
