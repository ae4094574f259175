"""What code printed: the beginning is kept, the rest is counted. Knows no pipes."""

from __future__ import annotations


class Output:
    """What came through one stream: its first bytes, and how many there were."""

    def __init__(self, limit_chars: int) -> None:
        self._limit_chars = limit_chars
        self._limit_bytes = 4 * limit_chars  # a character takes at most four in UTF-8
        self._kept = bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        """Take more of it; what is beyond the limit is counted and dropped."""
        self.total += len(data)
        self._kept += data[: self._limit_bytes - len(self._kept)]

    def text(self) -> tuple[str, tuple[str, ...]]:
        """Return the first characters, and a note if there is more."""
        text = self._kept.decode("utf-8", "replace")
        if len(text) <= self._limit_chars and self.total == len(self._kept):
            return text, ()
        note = f"cut: the first {self._limit_chars} characters of {self.total} printed bytes are shown"
        return text[: self._limit_chars], (note,)


class Printed:
    """What the code printed in one call, and whether it was so much that the code must be stopped."""

    def __init__(self, *, limit_chars: int, flood_bytes: int) -> None:
        self.stdout = Output(limit_chars)
        self.stderr = Output(limit_chars)
        self._flood_bytes = flood_bytes

    @property
    def flooded(self) -> bool:
        """Whether more was printed than anybody would want to."""
        return self.stdout.total + self.stderr.total > self._flood_bytes
