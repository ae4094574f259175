"""Credentials that are written in code: by their form, or by the name that they are given. Knows no language."""

from __future__ import annotations

import re
from collections.abc import Iterator

_SECRET_NAME = re.compile(
    r"(?:^|_|\b)(?:password|passwd|pwd|passphrase|secret|api_?key|apikey|auth_?token|access_?token|access_?key|"
    r"secret_?key|private_?key|client_?secret|token|credentials?|db_?pass)$",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"|none|null|true|false|x+|\*+|\.+|-+|password|passwd|secret|token|test\w*|example|changeme|change_me|default|username|"
    r"user|admin|foo|bar|key|.*(?:your|my|enter|insert|example|placeholder|dummy|fake|sample|change).*|<.*>|\{.*\}|\$.*|"
    r"%.*|[a-z]+[ :].*|.*[\s:/\\<>\[\]].*",
    re.IGNORECASE,
)
_WRITTEN_KEY = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]{0,24}PRIVATE KEY-----|gh[pousr]_\w{36}|sk_live_\w{24}|xox[bp]-\d|"
    r"AIza[\w-]{35}|Bearer ya29\."
)
_ASSIGNED = re.compile(
    r"(?<![\w-])([A-Za-z_][\w-]{1,59})[\"']?[\])]{0,2}\s{0,8}(?::?=|=>|:(?!:))\s{0,8}[@bL]?[\"']([^\"'\n]{3,200})[\"']"
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_LONGEST_SECRET = 500

SECRET, PASSWORD = "hardcoded-secret", "hardcoded-password"  # names of rules


def credential_rule(name: str, value: str) -> str | None:
    """Return the rule that a named constant breaks: a drawn secret, or anything under the name of a password."""
    if not _SECRET_NAME.search(name) or not 3 <= len(value) <= _LONGEST_SECRET:
        return None
    if _PLACEHOLDER.fullmatch(value):
        return None
    looks_drawn = len(value) >= 8 and any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    return SECRET if looks_drawn else PASSWORD


def is_written_key(text: str) -> bool:
    """Say whether a text holds a key of a well-known form."""
    return _WRITTEN_KEY.search(text) is not None


def credentials_in(text: str) -> Iterator[tuple[str, int]]:
    """Yield the rules that credentials in the text of a program break, and where."""
    for match in _WRITTEN_KEY.finditer(text):
        yield SECRET, match.start()
    for match in _ASSIGNED.finditer(text):
        rule = credential_rule(_CAMEL.sub("_", match[1]).replace("-", "_"), match[2])
        if rule is not None:
            yield rule, match.start()
