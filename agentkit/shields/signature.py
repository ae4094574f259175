"""Ed25519 signatures of policy files: who may say what an agent is guarded by. Knows bytes, no policy.

The signature of `shields.yaml` is beside it in `shields.yaml.sig`. Only this module needs `cryptography`.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import Final

from agentkit.errors import ConfigurationError, PolicyError

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
        load_pem_private_key,
        load_pem_public_key,
    )
except ImportError as exc:
    raise ConfigurationError(
        "signatures of policies need the package cryptography: pip install 'agentkit[signatures]'"
    ) from exc

_PEM_START: Final = "-----BEGIN"
_FORM: Final = "agentkit-policy-ed25519"
# Signed along, so that a signature made for something else is none of a policy.
_PURPOSE: Final = b"agentkit policy file, version 1\n"


def signature_path(policy: Path) -> Path:
    """Return where the signature of a policy file lies."""
    return policy.with_name(f"{policy.name}.sig")


def write_key_pair(private: Path, public: Path) -> None:
    """Make a new key pair in two new files, the private one readable by its owner alone.

    Raises:
        ConfigurationError: if a file exists or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    _write_new(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
    public_pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _write_new(public, public_pem, mode=0o644)


def sign_file(policy: Path, private_key: Path) -> Path:
    """Sign a file as it is; return where the signature was written.

    Raises:
        ConfigurationError: if the file or the key cannot be read, or the signature not be written.
    """
    signature = _read_private(private_key).sign(_PURPOSE + _read(policy, "policy file"))
    path = signature_path(policy)
    try:
        path.write_text(f"{_FORM} {base64.b64encode(signature).decode()}\n", encoding="ascii")
    except OSError as exc:
        raise ConfigurationError(f"cannot write {path}: {exc.strerror}") from exc
    return path


def verify_signature(data: bytes, policy: Path, public_key: str | Path) -> None:
    """Accept the content of a policy file that the key's owner signed.

    Raises:
        PolicyError: if there is no signature, or not one of this content by this key.
        ConfigurationError: if the key cannot be read.
    """
    key = _read_public(public_key)
    signature = _read_signature(policy)
    try:
        key.verify(signature, _PURPOSE + data)
    except InvalidSignature as exc:
        raise PolicyError(
            f"is not what was signed: {signature_path(policy).name} is of other content or by another key; "
            "sign it with `agentkit policy sign`",
            path=str(policy),
        ) from exc


def _read_signature(policy: Path) -> bytes:
    path = signature_path(policy)
    try:
        form, _, encoded = path.read_text(encoding="ascii").strip().partition(" ")
    except FileNotFoundError as exc:
        message = f"is not signed: there is no {path.name} beside it; sign it with `agentkit policy sign`"
        raise PolicyError(message, path=str(policy)) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise PolicyError(f"its signature {path.name} cannot be read", path=str(policy)) from exc
    try:
        signature = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        signature = b""
    if form != _FORM or not signature:
        raise PolicyError(
            f"{path.name} is no signature of the form {_FORM}; sign the file again", path=str(policy)
        )
    return signature


def _read_private(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(_read(path, "private key"), password=None)
    except (ValueError, TypeError) as exc:
        raise ConfigurationError(f"{path} is no private key in PEM form without a password") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{path} is no Ed25519 key; make one with `agentkit policy keygen`")
    return key


def _read_public(key: str | Path) -> Ed25519PublicKey:
    is_text = isinstance(key, str) and key.lstrip().startswith(_PEM_START)
    name = "the public key" if is_text else str(key)
    data = str(key).encode() if is_text else _read(Path(key), "public key")
    try:
        loaded = load_pem_public_key(data)
    except ValueError as exc:
        raise ConfigurationError(f"{name} is no public key in PEM form") from exc
    if not isinstance(loaded, Ed25519PublicKey):
        raise ConfigurationError(f"{name} is no Ed25519 key; make one with `agentkit policy keygen`")
    return loaded


def _read(path: Path, noun: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ConfigurationError(f"the {noun} {path} cannot be read: {exc.strerror}") from exc


def _write_new(path: Path, data: bytes, *, mode: int) -> None:
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
    except FileExistsError as exc:
        raise ConfigurationError(f"{path} exists; name a new file") from exc
    except OSError as exc:
        raise ConfigurationError(f"cannot write {path}: {exc.strerror}") from exc
