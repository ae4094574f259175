"""`agentkit policy keygen`, `sign` and `verify`: who may say what an agent is guarded by."""

from __future__ import annotations

from pathlib import Path

from agentkit.cli.exit_codes import EXIT_FINDING, EXIT_OK
from agentkit.cli.loading import import_modules, load_policy
from agentkit.cli.output import write_line, write_note
from agentkit.errors import PolicyError
from agentkit.shields.policy import Policy
from agentkit.shields.signature import sign_file, write_key_pair


def run_keygen(name: Path) -> int:
    """Write a key pair beside each other."""
    private, public = name.with_name(f"{name.name}.key"), name.with_name(f"{name.name}.pub")
    write_key_pair(private, public)
    write_line(f"{private} signs policies: keep it secret. {public} verifies them.")
    return EXIT_OK


def run_sign(files: list[Path], *, key: Path, imports: list[str]) -> int:
    """Sign each file. All are read as policies first: what cannot be used is not signed."""
    import_modules(imports)
    for file in files:
        load_policy(file)
    for file in files:
        write_line(f"{file}: signed in {sign_file(file, key)}")
    return EXIT_OK


def run_verify(files: list[Path], *, key: Path, imports: list[str]) -> int:
    """Say of each file whether it, and what it extends, is signed; return 1 if one is not."""
    import_modules(imports)
    code = EXIT_OK
    for file in files:
        load_policy(file)  # a file that is no policy is another error than a wrong signature
        try:
            policy = Policy.load(file, public_key=key)
        except PolicyError as error:
            write_note(str(error))
            code = EXIT_FINDING
        else:
            write_line(f"{file}: signed, digest {policy.digest[:12]}")
    return code
