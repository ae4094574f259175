"""Reads what a worker answers. The code under its roof may have written it: every part is checked."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from agentkit.tools.sandbox.base import Attachment, SandboxLimits

MAX_EXTRA_BYTES: Final = 64 * 2**10
"""What a reply may hold besides its files."""

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
    try:
        reply = json.loads(frame)
    except (ValueError, RecursionError):
        return None
    if not isinstance(reply, dict) or reply.get("id") != request_id:
        return None
    notes, files = reply.get("notes"), reply.get("files")
    if not isinstance(notes, list) or not isinstance(files, list) or len(files) > limits.attachments:
        return None
    attachments = tuple(_attachment(file) for file in files)
    size = sum(len(attachment.content) for attachment in attachments if attachment is not None)
    if size > limits.attachment_bytes:
        return None
    return Reply(
        attachments=_named_apart([attachment for attachment in attachments if attachment is not None]),
        notes=tuple(note for note in notes[:_MAX_NOTES] if isinstance(note, str) and _NOTE.fullmatch(note)),
    )


def _attachment(file: Any) -> Attachment | None:
    if not isinstance(file, dict):
        return None
    name, content = file.get("name"), file.get("content")
    if not isinstance(name, str) or not isinstance(content, str):
        return None
    try:
        return Attachment(name=safe_name(name), content=base64.b64decode(content, validate=True))
    except (binascii.Error, ValueError):
        return None


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
