"""Reads what a worker answers. The code under its roof may have written it: every part is checked."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from typing import Any, Final

from agentkit.tools.sandbox.base import Attachment, SandboxLimits

_MAX_JSON_BYTES: Final = 2**16
MAX_EXTRA_BYTES: Final = 2**17
"""What a frame may hold besides the content of files."""

_LENGTH: Final = struct.Struct(">I")
_MAX_NAME_CHARS: Final = 100
_MAX_NOTES: Final = 8
_NOTE: Final = re.compile(r"[a-z0-9 ;]{1,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A checked answer."""

    attachments: tuple[Attachment, ...]
    notes: tuple[str, ...]


def read_reply(frame: bytes | None, request_id: str, limits: SandboxLimits) -> Reply | None:
    """Return the reply to a request, or None if the frame is anything else."""
    if frame is None:
        return None
    reply, contents = _parts(frame)
    if (
        not isinstance(reply, dict)
        or reply.get("id") != request_id
        or len(contents) > limits.attachment_bytes
    ):
        return None
    notes, files = reply.get("notes"), reply.get("files")
    if not isinstance(notes, list) or not isinstance(files, list) or len(files) > limits.attachments:
        return None
    attachments = _attachments(files, contents)
    if attachments is None:
        return None
    return Reply(
        attachments=_named_apart(attachments),
        notes=tuple(note for note in notes[:_MAX_NOTES] if isinstance(note, str) and _NOTE.fullmatch(note)),
    )


def _parts(frame: bytes) -> tuple[Any, bytes]:
    """Return the JSON of a frame, None if that has not the form, and the bytes after it."""
    if len(frame) < _LENGTH.size:
        return None, b""
    (length,) = _LENGTH.unpack_from(frame)
    end = _LENGTH.size + length
    # Long JSON would take many times its length to read.
    if length > _MAX_JSON_BYTES or end > len(frame):
        return None, b""
    try:
        return json.loads(frame[_LENGTH.size : end]), frame[end:]
    except (ValueError, RecursionError):
        return None, b""


def _attachments(files: list[Any], contents: bytes) -> list[Attachment] | None:
    """Cut the contents into files; None if names and sizes have not the form, or do not fit the contents."""
    attachments = []
    start = 0
    for file in files:
        if not isinstance(file, dict):
            return None
        name, size = file.get("name"), file.get("size")
        if not isinstance(name, str) or type(size) is not int or not 0 <= size <= len(contents) - start:
            return None
        attachments.append(Attachment(name=safe_name(name), content=contents[start : start + size]))
        start += size
    return attachments if start == len(contents) else None


def safe_name(name: str) -> str:
    """Return a name that is one harmless component of a path, with its extension."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name)
    return plain[-_MAX_NAME_CHARS:].lstrip(".-") or "file"


def _named_apart(attachments: list[Attachment]) -> tuple[Attachment, ...]:
    """Number the files whose names became equal."""
    taken: set[str] = set()
    apart = []
    for attachment in attachments:
        name, number = attachment.name, 2
        while name.lower() in taken:
            name, number = f"{number}_{attachment.name}", number + 1
        taken.add(name.lower())
        apart.append(Attachment(name=name, content=attachment.content))
    return tuple(apart)
