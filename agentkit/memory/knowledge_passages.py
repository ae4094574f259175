"""Text -> passages, and text -> the words that it is found by. The same for every store; knows none."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

PASSAGE_CHARS: Final = 1_000
OVERLAP_CHARS: Final = 150

MAX_QUERY_WORDS: Final = 64
MAX_WORD_CHARS: Final = 64

# Where a passage may end, the best first: after a paragraph, a line, a sentence, a word.
_ENDS: Final = tuple(
    re.compile(pattern) for pattern in (r"\n\s*\n", r"\n", r"[.!?\u3002\uff01\uff1f]\s*", r"\s")
)
_SPACE: Final = re.compile(r"\s+")
# Chinese and Japanese put no spaces between words: there each character counts as one.
_WORD: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")

# Words of a question, not of what it is about.
_STOP_WORDS: Final = frozenset(
    re.findall(
        r"\w+",
        """a about am an and any are as at be been but by can could did do does for from had has have he her hers him
        his how i if in into is it its know me my no not of on or our please s she should so t tell that the their
        them then there these they this to us was we were what when where which who whom whose why will with would
        you your""",
    )
)


def split_passages(text: str) -> list[str]:
    """Return the passages of a text: at most `PASSAGE_CHARS` long, each beginning with the end of the last."""
    text = text.strip()
    passages = []
    start = 0
    while start < len(text):
        end = _end(text, start)
        if passage := text[start:end].strip():
            passages.append(passage)
        start = end if end == len(text) else _overlap_start(text, end)
    return passages


def words_of(text: str) -> list[str]:
    """Return the words of a text in order, without case and accents."""
    folded = text if text.isascii() else _without_accents(text)
    return [word[:MAX_WORD_CHARS] for word in _WORD.findall(folded.casefold())]


def query_words(query: str) -> list[str]:
    """Return the distinct words that a query looks for: the first `MAX_QUERY_WORDS` that say something."""
    distinct = dict.fromkeys(word for word in words_of(query) if word not in _STOP_WORDS)
    return list(distinct)[:MAX_QUERY_WORDS]


def index_words(tenant: int, words: str) -> str:
    """Return words as the full-text index holds them: each behind its tenant's number.

    So a search walks the entries of its own tenant alone. The number ends at the first letter.
    """
    return " ".join(f"{tenant}x{word}" for word in words.split())


def _end(text: str, start: int) -> int:
    """Return where the passage that begins at `start` ends: at the last good place in its second half."""
    last = start + PASSAGE_CHARS
    if last >= len(text):
        return len(text)
    middle = start + PASSAGE_CHARS // 2
    for pattern in _ENDS:
        ends = [match.end() for match in pattern.finditer(text, middle, last)]
        if ends:
            return ends[-1]
    return last


def _overlap_start(text: str, end: int) -> int:
    """Return where the next passage begins: at a word, `OVERLAP_CHARS` before the last one's end at most."""
    space = _SPACE.search(text, end - OVERLAP_CHARS, end)
    return space.end() if space else end


def _without_accents(text: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
