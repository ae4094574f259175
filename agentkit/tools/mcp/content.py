"""What a model reads of an MCP server's answer: its texts; of pictures, sounds and files, only that they are there."""

from __future__ import annotations

import json
from typing import Final, assert_never

from mcp import types

_MAX_LABEL_CHARS: Final = 200


def as_text(result: types.CallToolResult) -> str:
    """Return the content of an answer as text; the executor bounds its length."""
    parts = [_block_text(block) for block in result.content]
    if not parts and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(parts) if parts else "The tool gave no content."


def _block_text(block: types.ContentBlock) -> str:
    match block:
        case types.TextContent():
            return block.text
        case types.ImageContent():
            return _left_out("image", block.mime_type, block.data)
        case types.AudioContent():
            return _left_out("audio", block.mime_type, block.data)
        case types.ResourceLink():
            return f"[link to {_short(block.uri)}]"
        case types.EmbeddedResource():
            return _resource_text(block.resource)
        case _:
            assert_never(block)


def _resource_text(resource: types.TextResourceContents | types.BlobResourceContents) -> str:
    if isinstance(resource, types.TextResourceContents):
        return f"[{_short(resource.uri)}]\n{resource.text}"
    return _left_out(f"file {_short(resource.uri)}", resource.mime_type, resource.blob)


def _left_out(what: str, media_type: str | None, data: str) -> str:
    num_bytes = len(data.rstrip("=")) * 3 // 4  # base64
    return f"[{what} of type {_short(media_type or 'unknown')}, {num_bytes} bytes, left out]"


def _short(label: str) -> str:
    return label[:_MAX_LABEL_CHARS]
