import base64
import random
import string
import time

import pytest

from agentkit.errors import ShieldError
from agentkit.messages import MODEL
from agentkit.shields.base import ShieldInput, Stage, Verdict
from agentkit.shields.secrets import MAX_CHARACTERS, Secrets

ALNUM = string.ascii_letters + string.digits


def made(length: int, alphabet: str = ALNUM) -> str:
    return "".join(random.Random(length).choices(alphabet, k=length))  # test data


async def judged(text: str) -> Verdict:
    return await Secrets().check(ShieldInput(text=text, stage=Stage.MODEL_OUTPUT, provenance=MODEL))


def cut_out(text: str, verdict: Verdict) -> str:
    """Return what is left when every finding is removed."""
    hidden = {index for finding in verdict.findings for index in range(finding.start, finding.end)}
    return "".join(character for index, character in enumerate(text) if index not in hidden)


@pytest.mark.parametrize(
    "secret",
    [
        "AKIA" + made(16, string.ascii_uppercase + string.digits),
        "ghp_" + made(36),
        "github_pat_" + made(82),
        "glpat-" + made(20),
        f"sk-{made(20)}T3BlbkFJ{made(20)}",
        "sk-proj-" + made(80),
        "sk-ant-api03-" + made(90),
        "AIza" + made(35),
        "sk_live_" + made(24),
        f"xoxb-{made(12, string.digits)}-{made(12, string.digits)}-{made(24)}",
        f"eyJhbGciOiJIUzI1NiJ9.eyJ{made(30)}.{made(43)}",
        "hf_" + made(34),
        "npm_" + made(36),
        "pypi-AgEIcHlwaS5vcmc" + made(80),
        f"SG.{made(22)}.{made(43)}",
        f"123456789:AA{made(33)}",
    ],
)
async def test_a_known_token_is_flagged_and_cut_out_whole(secret: str):
    text = f"use {secret} please"

    verdict = await judged(text)

    assert verdict.flagged
    assert cut_out(text, verdict) == "use  please"
    assert secret not in (verdict.reason or "")


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f'password = "{made(18)}"', made(18)),
        (f"Authorization: Bearer {made(40)}", made(40)),
        ("postgres://bob:hunter2@db.example/x", "hunter2"),
        (f"AWS_SECRET_ACCESS_KEY={made(40)}", made(40)),
    ],
)
async def test_only_the_secret_is_cut_out_of_its_context(text: str, secret: str):
    verdict = await judged(text)

    assert verdict.flagged
    assert cut_out(text, verdict) == text.replace(secret, "")


async def test_a_private_key_is_one_finding_from_begin_to_end():
    key = (
        "-----BEGIN RSA PRIVATE KEY-----\n"
        + "\n".join(made(64) for _ in range(20))
        + "\n-----END RSA PRIVATE KEY-----"
    )
    text = f"here:\n{key}\ndone"

    verdict = await judged(text)

    assert verdict.category == "private key"
    assert cut_out(text, verdict) == "here:\n\ndone"


async def test_a_private_key_that_is_cut_short_is_hidden_as_far_as_it_goes():
    text = f"-----BEGIN PRIVATE KEY-----\n{made(64)}\n{made(64)}"

    assert cut_out(text, await judged(text)) == ""


@pytest.mark.parametrize(
    "text",
    [
        "The commit is 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08.",
        "id: 3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "password = get_password_from_environment()",
        'token = "your-token-goes-here"',
        "api_key: os.environ['OPENAI_API_KEY']",
        "See https://example.com/a/b?c=d and user@example.com",
        "secret = hashlib.sha256(value).hexdigest()",
        "",
    ],
)
async def test_what_only_looks_like_a_secret_passes(text: str):
    assert not (await judged(text)).flagged


async def test_several_secrets_are_all_found():
    first, second = "ghp_" + made(36), "AIza" + made(35)
    filler = "nothing here. " * 200

    verdict = await judged(f"{first} {filler} {second}")

    assert {finding.label for finding in verdict.findings} == {"github token", "google api key"}


GITHUB = "ghp_" + made(36)


@pytest.mark.parametrize(
    ("hidden", "transform"),
    [
        ("\u200b".join(GITHUB), "invisible"),
        ("".join(chr(ord(letter) + 0xFEE0) for letter in GITHUB), "compatibility"),
        ("hi" + "".join(chr(0xE0000 + ord(letter)) for letter in GITHUB), "tags"),
        (" ".join(GITHUB), "spaced"),
        ("|".join(GITHUB), "spaced"),
        (base64.b64encode(GITHUB.encode()).decode(), "base64"),
        (base64.b64encode(base64.b64encode(f"my key is {GITHUB}".encode())).decode(), "base64"),
        (GITHUB.encode().hex(), "hex"),
        ("".join(f"%{byte:02x}" for byte in GITHUB.encode()), "percent"),
        (f"sk%2Dproj%2D{made(80)}", "percent"),
        ("".join(f"&#{ord(letter)};" for letter in GITHUB), "entities"),
    ],
)
async def test_a_hidden_token_is_found_named_and_cut_out_with_its_disguise(hidden: str, transform: str):
    text = f"use {hidden} please"

    verdict = await judged(text)

    assert transform in (verdict.reason or "")
    assert cut_out(text, verdict).replace("hi", "").split() == ["use", "please"]


@pytest.mark.parametrize(
    "text",
    [
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==",
        "The letters a b c d e f g h i j k l m n o p q r s t u v w x y z are 26.",
        "0 1 0 0 1 1 0 1 0 0 1 0 1 1 0 1 1 0 0 1 0",
        "d2hhdCBpcyB0aGUgd2VhdGhlciBpbiBQYXJpcw==",
        "Précédent \u200b straße",
    ],
)
async def test_what_holds_nothing_once_it_is_read_passes(text: str):
    assert not (await judged(text)).flagged


async def test_text_that_is_too_long_is_an_error_and_no_verdict():
    with pytest.raises(ShieldError, match="judges up to"):
        await judged("a" * (MAX_CHARACTERS + 1))


@pytest.mark.parametrize(
    "unit",
    [
        "sk-",
        "://a:",
        "password = ",
        "eyJ",
        " ",
        "xoxb-1-",
        "-----BEGIN PRIVATE KEY-----",
        "sk-T3BlbkFJ",
        "aws key ",
    ],
)
async def test_hostile_text_takes_little_time(unit: str):
    before = time.process_time()

    await judged(unit * (MAX_CHARACTERS // len(unit)))

    assert time.process_time() - before < 30.0
