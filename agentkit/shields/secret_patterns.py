"""Finds credentials in a text, with offsets: the detectors of detect-secrets, and forms that it does not know.

Knows patterns, not policy. The library's plugins are used for their patterns only: no files, no settings, no
network. They run over short overlapping windows, since some of their patterns are quadratic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from detect_secrets.plugins.artifactory import ArtifactoryDetector
from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.high_entropy_strings import Base64HighEntropyString
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.openai import OpenAIDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector
from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector
from detect_secrets.plugins.twilio import TwilioKeyDetector


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """`[start, end)` of a text, and the kind of credential that stands there."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class _Gated:
    """A plugin, and literals (lower case) of which a window must hold one for the plugin to be worth running."""

    plugin: RegexBasedDetector
    literals: tuple[str, ...]


# Left out, by measure: the high-entropy and keyword plugins flag every hash, UUID and `password = "test"`; public
# IP addresses are no secret; the IBM, SoftLayer and Cloudant patterns are cubic in blanks; the npm and JWT patterns
# and the private-key marker are covered below, whole.
_PLUGINS = (
    _Gated(ArtifactoryDetector(), ("akc",)),
    _Gated(AWSKeyDetector(), ("akia", "asia", "abia", "acca", "a3t", "aws")),
    _Gated(AzureStorageKeyDetector(), ("accountkey=",)),
    _Gated(BasicAuthDetector(), ("://",)),
    _Gated(DiscordBotTokenDetector(), (".",)),
    _Gated(GitHubTokenDetector(), ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")),
    _Gated(GitLabTokenDetector(), ("gl", "gr1348941")),
    _Gated(MailchimpDetector(), ("-us",)),
    _Gated(OpenAIDetector(), ("t3blbkfj",)),
    _Gated(PypiTokenDetector(), ("pypi-age",)),
    _Gated(SendGridDetector(), ("sg.",)),
    _Gated(SlackDetector(), ("xox", "hooks.slack.com")),
    _Gated(SquareOAuthDetector(), ("sq0csp-",)),
    _Gated(StripeDetector(), ("k_live_",)),
    _Gated(TelegramBotTokenDetector(), (":aa",)),
    _Gated(TwilioKeyDetector(), ("ac", "sk")),
)

_WINDOW, _OVERLAP = 768, 256

_BEGIN_KEY = re.compile(r"-----BEGIN ((?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?)-----")
_PUTTY_KEY = re.compile(r"PuTTY-User-Key-File-\d:")
_LONGEST_KEY_BLOCK = 20_000

# Each starts at a token's start and takes runs possessively, so that looking for it is linear.
_TOKENS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("json web token", re.compile(r"(?<![\w-])eyJ[\w-]{8,}+\.eyJ[\w-]{4,}+(?:\.[\w-]*+)?")),
    ("openai key", re.compile(r"(?<![\w-])sk-(?:proj|svcacct|admin|None)-[\w-]{32,}+")),
    ("openai key", re.compile(r"(?<![\w-])sk-[A-Za-z0-9]{40,}+")),
    ("anthropic key", re.compile(r"(?<![\w-])sk-ant-[\w-]{32,}+")),
    ("google api key", re.compile(r"(?<![\w-])AIza[\w-]{35}(?![\w-])")),
    ("google oauth secret", re.compile(r"(?<![\w-])GOCSPX-[\w-]{28}(?![\w-])")),
    ("github token", re.compile(r"(?<!\w)github_pat_\w{40,}+")),
    ("hugging face token", re.compile(r"(?<!\w)hf_[A-Za-z0-9]{30,}+")),
    ("npm token", re.compile(r"(?<!\w)npm_[A-Za-z0-9]{36}(?!\w)")),
    ("digitalocean token", re.compile(r"(?<!\w)do[opr]_v1_[a-f0-9]{64}(?!\w)")),
    ("shopify token", re.compile(r"(?<!\w)shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}(?!\w)")),
    ("slack token", re.compile(r"(?<!\w)xapp-\d-[A-Z0-9]{6,}+-\d{6,}+-[a-f0-9]{32,}+")),
    ("stripe key", re.compile(r"(?<!\w)(?:whsec_|[rs]k_live_)[A-Za-z0-9]{24,}+")),
    ("password in url", re.compile(r"://[^\s/:@]{0,100}:([^\s/@]{3,200})@")),
    (
        "bearer token",
        re.compile(r"(?<!\w)[Aa]uthorization[\"']?\s{0,2}[:=]\s{0,2}[\"']?[Bb]earer\s([\w.~+/-]{20,}+=*+)"),
    ),
)
# A value given to a name that says it is secret: kept only if the value looks drawn at random.
_ASSIGNED = re.compile(
    r"(?:api_?key|secret_?key|access_?key|auth_?token|access_?token|client_?secret|secret|token|passw(?:or)?d|pwd)"
    r"[\"']?\s{0,2}(?:=|:|=>|:=)\s{0,2}[\"']?([A-Za-z0-9+/_\-.=!@#$%^&*]{12,120}+)",
    re.IGNORECASE,
)
_RANDOM_BITS = 3.6
_SAFE_GROUP_LENGTH = 16
_ENTROPY = Base64HighEntropyString()


def find_secrets(text: str) -> list[Secret]:
    """Return every credential that was found, in order; two findings may overlap."""
    found = {*_key_blocks(text), *_tokens(text), *_assigned(text), *_from_plugins(text)}
    return sorted(found, key=lambda secret: (secret.start, -secret.end, secret.kind))


def _key_blocks(text: str) -> Iterator[Secret]:
    done = 0
    for match in _BEGIN_KEY.finditer(text):
        if match.start() < done:
            continue
        footer = f"-----END {match[1]}-----"
        at = text.find(footer, match.end(), match.end() + _LONGEST_KEY_BLOCK)
        # Without its end, the block is cut short: everything that could still be the key goes.
        done = at + len(footer) if at >= 0 else _end_of_base64(text, match.end())
        yield Secret(start=match.start(), end=done, kind="private key")
    for match in _PUTTY_KEY.finditer(text):
        yield Secret(
            start=match.start(), end=min(len(text), match.end() + _LONGEST_KEY_BLOCK), kind="private key"
        )


_BASE64_LINES = re.compile(r"[A-Za-z0-9+/=\s\\:,-]*+")


def _end_of_base64(text: str, start: int) -> int:
    match = _BASE64_LINES.match(text, start, start + _LONGEST_KEY_BLOCK)
    return match.end() if match else start


def _tokens(text: str) -> Iterator[Secret]:
    for kind, pattern in _TOKENS:
        for match in pattern.finditer(text):
            start, end = match.span(pattern.groups)
            yield Secret(start=start, end=end, kind=kind)


def _assigned(text: str) -> Iterator[Secret]:
    for match in _ASSIGNED.finditer(text):
        if _looks_random(match[1]):
            yield Secret(start=match.start(1), end=match.end(1), kind="assigned secret")


def _looks_random(value: str) -> bool:
    # A dotted path, a call or a name in words has too little of one of these.
    mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    return (
        mixed
        and sum(map(str.isdigit, value)) >= 2
        and _ENTROPY.calculate_shannon_entropy(value) >= _RANDOM_BITS
    )


def _from_plugins(text: str) -> Iterator[Secret]:
    for offset in range(0, max(1, len(text) - _OVERLAP), _WINDOW - _OVERLAP):
        window = text[offset : offset + _WINDOW]
        lowered = window.lower()
        for gated in _PLUGINS:
            if any(literal in lowered for literal in gated.literals):
                yield from _run(gated.plugin, window, offset)


def _run(plugin: RegexBasedDetector, window: str, offset: int) -> Iterator[Secret]:
    kind = plugin.secret_type.lower()
    for pattern in plugin.denylist:
        for match in pattern.finditer(window):
            # Some patterns group the secret inside its context, others only group a prefix of it.
            groups = [match.span(group) for group in range(1, pattern.groups + 1) if match[group]]
            longest = max(groups, key=lambda span: span[1] - span[0], default=match.span())
            is_secret = isinstance(plugin, BasicAuthDetector) or longest[1] - longest[0] >= _SAFE_GROUP_LENGTH
            start, end = longest if is_secret else match.span()
            yield Secret(start=offset + start, end=offset + end, kind=kind)
