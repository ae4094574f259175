"""One character -> the plain lower-case Latin text that it looks like. Knows characters, not texts."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

TAG_BLOCK = 0xE0000

# Letters of other scripts that are drawn like a Latin one (from Unicode's confusables.txt, the common ones), the
# small capitals, and punctuation that has an ASCII twin.
_DRAWN_ALIKE = (
    "аеорсухікјѕԁһԛԝӏьзгпитвнмѵүӕ"  # Cyrillic
    "αβγεικνορτυχωζηϲϳ"  # Greek
    "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ"  # small capitals
    "ıɡɑɩʋℓ"  # noqa: RUF001
    "‘’‛′`´“”„″–—−‐‑‒…"  # noqa: RUF001
)
_LATIN_FOR_THEM = (
    "a e o p c y x i k j s d h q w l b 3 r n u t b h m v y ae "
    "a b y e i k v o p t u x w z n c j "
    "a b c d e f g h i j k l m n o p r s t u v w y z "
    "i g a i v l "
    "' ' ' ' ' ' \" \" \" \" - - - - - - ..."
)
_LOOKALIKES = dict(zip(_DRAWN_ALIKE, _LATIN_FOR_THEM.split(), strict=True))
_LIGATURES = {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ł": "l", "þ": "th"}
# Squared, circled and regional letters that have no compatibility decomposition: first code point -> "a".
_LETTER_RUNS = (0x1F150, 0x1F170, 0x1F1E6)


@lru_cache(maxsize=8192)
def fold_character(character: str) -> str:
    """Return what a character looks like in lower-case Latin; invisible characters and accents give "".

    Characters with no Latin likeness give their own compatibility form.
    """
    if character.isascii():
        return character.lower()
    code = ord(character)
    for first in _LETTER_RUNS:
        if first <= code < first + 26:
            return chr(ord("a") + code - first)
    if unicodedata.category(character) in ("Zs", "Zl", "Zp"):
        return "\n" if unicodedata.category(character) != "Zs" else " "
    parts = unicodedata.normalize("NFKD", character.lower())
    return "".join(_fold_part(part) for part in parts)


def _fold_part(part: str) -> str:
    if part in _LOOKALIKES:
        return _LOOKALIKES[part]
    if part in _LIGATURES:
        return _LIGATURES[part]
    if unicodedata.category(part) in ("Cf", "Mn", "Me", "Cc"):
        return "" if part not in "\n\t" else part
    return part.lower()
