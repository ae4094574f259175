"""Signed policies: with a key, an unsigned or changed file is refused."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agentkit import Agent
from agentkit.errors import ConfigurationError, PolicyError
from agentkit.shields import Policy
from agentkit.shields.signature import sign_file, signature_path, write_key_pair
from agentkit.testing import ScriptedEngine
from tests.shields.fakes import GOOD


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_key_pair(tmp_path / "a.key", tmp_path / "a.pub")
    (tmp_path / "shields.yaml").write_text(GOOD)
    sign_file(tmp_path / "shields.yaml", tmp_path / "a.key")
    return tmp_path


def test_a_signed_file_is_read_with_the_key_as_a_path_or_as_text(folder: Path) -> None:
    plain = Policy.parse(GOOD)
    assert Policy.load(folder / "shields.yaml", public_key=folder / "a.pub").digest == plain.digest
    pem = (folder / "a.pub").read_text()
    assert Policy.load(folder / "shields.yaml", public_key=pem).digest == plain.digest


def test_the_private_key_is_for_its_owner_alone(folder: Path) -> None:
    assert stat.S_IMODE((folder / "a.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("change", [b" ", b"\n# note\n", b""])
def test_a_changed_file_is_refused(folder: Path, change: bytes) -> None:
    policy = folder / "shields.yaml"
    policy.write_bytes(policy.read_bytes() + change if change else policy.read_bytes()[:-1])
    with pytest.raises(
        PolicyError, match=r"shields.yaml: is not what was signed: shields.yaml.sig is of other"
    ):
        Policy.load(policy, public_key=folder / "a.pub")


def test_a_file_that_somebody_else_signed_is_refused(folder: Path) -> None:
    write_key_pair(folder / "b.key", folder / "b.pub")
    with pytest.raises(PolicyError, match="or by another key"):
        Policy.load(folder / "shields.yaml", public_key=folder / "b.pub")


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (None, "is not signed: there is no shields.yaml.sig beside it"),
        (b"", "is no signature of the form agentkit-policy-ed25519"),
        (b"agentkit-policy-ed25519 !!", "is no signature of the form"),
        (b"agentkit-policy-ed25519 aaaa", "is not what was signed"),
        (b"other aaaa", "is no signature of the form"),
        (b"\xff", "its signature shields.yaml.sig cannot be read"),
    ],
)
def test_without_a_right_signature_it_is_refused(folder: Path, signature: bytes | None, message: str) -> None:
    path = signature_path(folder / "shields.yaml")
    path.unlink() if signature is None else path.write_bytes(signature)
    with pytest.raises(PolicyError, match=message):
        Policy.load(folder / "shields.yaml", public_key=folder / "a.pub")


def test_what_a_policy_extends_must_be_signed_too(folder: Path) -> None:
    (folder / "child.yaml").write_text("version: 1\nextends: shields.yaml")
    sign_file(folder / "child.yaml", folder / "a.key")
    Policy.load(folder / "child.yaml", public_key=folder / "a.pub")
    signature_path(folder / "shields.yaml").unlink()
    with pytest.raises(PolicyError, match=r"child.yaml:2: cannot extend shields.yaml: .* is not signed"):
        Policy.load(folder / "child.yaml", public_key=folder / "a.pub")


def test_a_key_that_is_none_says_so(folder: Path) -> None:
    (folder / "not.pem").write_text("hello")
    for key, message in (
        (folder / "not.pem", "not.pem is no public key in PEM form"),
        (folder / "nowhere.pub", "the public key .*nowhere.pub cannot be read: No such file"),
        (folder / "a.key", "a.key is no public key in PEM form"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            Policy.load(folder / "shields.yaml", public_key=key)
    with pytest.raises(ConfigurationError, match=r"a.pub is no private key in PEM form"):
        sign_file(folder / "shields.yaml", folder / "a.pub")
    with pytest.raises(ConfigurationError, match=r"a.key exists; name a new file"):
        write_key_pair(folder / "a.key", folder / "c.pub")


def test_an_agent_that_asks_for_a_signature_takes_no_other_policy(folder: Path) -> None:
    engine = ScriptedEngine([])
    Agent(engine, policy=folder / "shields.yaml", policy_key=folder / "a.pub")
    for unsigned in (None, Policy.default()):
        with pytest.raises(ConfigurationError, match="policy_key verifies a policy file; pass its path"):
            Agent(engine, policy=unsigned, policy_key=folder / "a.pub")
    (folder / "shields.yaml").write_text(GOOD + "\n")
    with pytest.raises(PolicyError, match="is not what was signed"):
        Agent(engine, policy=folder / "shields.yaml", policy_key=folder / "a.pub")


def test_without_the_package_the_error_says_what_to_install(folder: Path) -> None:
    program = (
        "import sys; sys.modules['cryptography'] = None\n"
        f"from agentkit import Policy\nPolicy.load({str(folder / 'shields.yaml')!r})\n"
        f"Policy.load({str(folder / 'shields.yaml')!r}, public_key='a.pub')"
    )
    (folder / "shields.yaml").write_text("version: 1\nextends: default\n")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip().endswith("need the package cryptography: pip install 'agentkit[signatures]'")
