"""JSON files that come with a model: an object, or an error that says which file and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agentkit.errors import ModelLoadError


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object in a file that exists.

    Raises:
        ModelLoadError: if it is not JSON, or not an object.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as exc:
        raise ModelLoadError(
            f"{path} is not valid JSON ({path.stat().st_size} bytes): {exc}; download it again"
        ) from exc
    if not isinstance(content, dict):
        raise ModelLoadError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content
