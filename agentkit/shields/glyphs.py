"""One character -> the plain lower-case Latin text that it looks like. Knows characters, not texts."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files

TAG_BLOCK = 0xE0000

# What comes before Unicode's table: letters that it likens to another Latin one than readers do, or to none, the
# small capitals, and punctuation that has an ASCII twin.
_DRAWN_ALIKE = (
    "аеорсухікјѕԁһԛԝӏьзгпитвнмѵүӕ"  # Cyrillic
    "αβγεικνορτυχωζηϲϳ"  # Greek
    "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ"  # small capitals
    "ǝɐɔƃɥɯɹʇʌʎ"  # turned
    "օոսհցքյ"  # Armenian
    "ꭵꮪꭼꭺꮃꮇꮋꮲꮯꮮꮶꮓꮩꭻꮐꭹꮎꮢꭰꭱꮖ"  # Cherokee
    "ıɡɑɩʋℓꓲⲓ"
    "‘’‛′`´“”„″–—−‐‑‒…"  # noqa: RUF001
)
_LATIN_FOR_THEM = (
    "a e o p c y x i k j s d h q w l b 3 r n u t b h m v y ae "
    "a b y e i k v o p t u x w z n c j "
    "a b c d e f g h i j k l m n o p r s t u v w y z "
    "e a c g h m r t v y "
    "o n u h g p j "
    "i s e a w m h p c l k z v j g y o r d e i "
    "i g a i v l i i "
    "' ' ' ' ' ' \" \" \" \" - - - - - - ..."
)
_LOOKALIKES = dict(zip(_DRAWN_ALIKE, _LATIN_FOR_THEM.split(), strict=True))
_LIGATURES = {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ł": "l", "þ": "th"}
# Squared, circled and regional letters that have no compatibility decomposition: first code point -> "a".
_LETTER_RUNS = (0x249C, 0x1F150, 0x1F170, 0x1F1E6)
# Letters and marks by their category, and blank by their drawing.
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0")
_BLANK = "\u2800"
_WITH_MARK = re.compile(r"LATIN SMALL LETTER ([A-Z]) WITH ")


@lru_cache(maxsize=8192)
def fold_character(character: str) -> str:
    """Return what a character looks like in lower-case Latin; invisible characters and accents give "".

    Characters with no Latin likeness give their own compatibility form.
    """
    if character.isascii():
        return character.lower()
    code = ord(character)
    if character in _FILLERS:
        return ""
    if character == _BLANK:
        return " "
    for first in _LETTER_RUNS:
        if first <= code < first + 26:
            return chr(ord("a") + code - first)
    if unicodedata.category(character) in ("Zs", "Zl", "Zp"):
        return "\n" if unicodedata.category(character) != "Zs" else " "
    parts = unicodedata.normalize("NFKD", character.lower())
    return "".join(_fold_part(part) for part in parts)


@lru_cache(maxsize=8192)
def plain_character(character: str) -> str:
    """Return a character in its compatibility form, its case kept; invisible ones give ""."""
    if character.isascii():
        return character
    if character in _FILLERS or unicodedata.category(character) == "Cf":
        return ""
    return unicodedata.normalize("NFKC", character)


def _fold_part(part: str) -> str:
    if part in _LOOKALIKES:
        return _LOOKALIKES[part]
    if part in _LIGATURES:
        return _LIGATURES[part]
    if unicodedata.category(part) in ("Cf", "Mn", "Me", "Cc"):
        return "" if part not in "\n\t" else part
    if part.isascii():
        return part.lower()
    marked = _WITH_MARK.match(unicodedata.name(part, ""))
    return marked[1].lower() if marked else _confusables().get(part, part.lower())


@cache
def _confusables() -> Mapping[str, str]:
    """Return Unicode's confusables (UTS 39): each letter, in lower case, that is drawn like Latin ones or digits.

    A capital counts for its small letter where that has no entry of its own.
    """
    path = files("confusable_homoglyphs").joinpath("confusables.json")
    drawn_alike: dict[str, str] = {}
    for character, alike in json.loads(path.read_text("utf-8")).items():
        if len(character) > 1 or character.isascii() or not character.isalpha():
            continue
        latin = next((one["c"].lower() for one in alike if one["c"].isascii() and one["c"].isalnum()), None)
        if latin is not None and (character.islower() or character.lower() not in drawn_alike):
            drawn_alike[character.lower()] = latin
    return drawn_alike
