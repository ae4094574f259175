"""Where the text of a policy comes from, and how one that extends another is put together. Knows no meaning."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeAlias

from agentkit.errors import PolicyError

PublicKey: TypeAlias = str | Path
"""The path of an Ed25519 public key in PEM form, or the PEM text itself."""

DEFAULT_NAME: Final = "default"
"""What `extends` calls the policy that needs no model."""

EMBEDDED_NAME: Final = "embedded"
"""What `extends` calls the default policy with the embedded model's probes beside the rules."""

SHIPPED: Final = (DEFAULT_NAME, EMBEDDED_NAME)
"""The policies that ship with agentkit; a file of such a name is written `./default`."""

# What a policy says entry by entry. Everything else is replaced as a whole.
_BY_ENTRY: Final = ("shields", "stages", "failure", "streaming")


def read_policy_file(path: Path, public_key: PublicKey | None) -> str:
    """Return the text of a policy file; with a key, of one that the key's owner signed as it is.

    Raises:
        PolicyError: if it cannot be read, is not UTF-8, or is not signed.
        ConfigurationError: if the key cannot be read, or the package that verifies it is missing.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise PolicyError(f"cannot be read: {exc.strerror}", path=str(path)) from exc
    if public_key is not None:
        from agentkit.shields.signature import verify_signature  # only signed policies need `cryptography`

        verify_signature(data, path, public_key)
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as exc:
        raise PolicyError(f"is not UTF-8 at byte {exc.start}", path=str(path)) from exc


def read_shipped_policy(name: str) -> str:
    """Return the text of a policy that ships with agentkit."""
    packaged = resources.files("agentkit.shields") / "policies" / f"{name}.yaml"
    return packaged.read_text(encoding="utf-8")


def put_together(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a policy says that extends `base`: what it names, and for the rest what the base says.

    A shield, a stage, a setting of `failure` or `streaming` is replaced one by one; `tools` and `tests` as a whole.
    Locks add up: its own come first, so that they keep their places.
    """
    whole = {**base, **own}
    for key in _BY_ENTRY:
        said = own.get(key)
        if isinstance(said, dict):
            whole[key] = {**base[key], **said}
    if isinstance(own.get("locks"), list):
        whole["locks"] = [
            *own["locks"],
            *(lock for lock in base.get("locks", ()) if lock not in own["locks"]),
        ]
    return whole
