"""How good the shields are that need no weights: recall and false alarms on labelled data, and how long they take.

    python -m benchmarks.shield_quality [--data DIR] [--trusted DIR] [--json FILE]

Reads the labelled files (default ../shared/data beside the repository), Python's own standard library, and code in
other languages that this machine has. What the override detector learned from is scored by cross-validation. Intervals
are Wilson's at 95%.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import string
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from agentkit.shields.override_score import assess
from agentkit.shields.override_style import StyleModel
from agentkit.shields.secrets import secrets_in
from benchmarks.code_quality import judge_code, show_code
from benchmarks.fit_instruction_override import cross_validated_scores, fit, read_documents, read_rows
from benchmarks.measures import milliseconds, wilson

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
THRESHOLD = 0.5
_HARMLESS = ("benign_requests", "moderation_safe", "moderation_unsafe", "clean_tool_results", "own_benign")
_KEYS_OF_A_KIND = 50
_EACH_OF_LIBRARY = 10  # it reads a thousand lines in seconds
_PHRASES = Path(__file__).with_name("override_languages.jsonl")


def auc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Return how often a positive scores above a negative; ties count half."""
    below = np.searchsorted(np.sort(negative), positive, "left")
    upto = np.searchsorted(np.sort(negative), positive, "right")
    return float((below + upto).sum() / (2 * len(positive) * len(negative)))


def judge_overrides(data: Path) -> dict[str, Any]:
    """Score direct attacks by cross-validation, and injected tool results with a model that saw none of them."""
    documents = read_documents(data)
    scores = cross_validated_scores(documents)
    sources = np.array([document.source for document in documents])
    flagged = {source: _share(scores[sources == source]) for source in dict.fromkeys(sources.tolist())}
    style = fit([document for document in documents if document.source != "clean_tool_results"])
    rows = read_rows(data / "indirect_injection.jsonl")
    indirect = np.array([assess(row["text"], untrusted=True, style=style).score for row in rows])
    malicious = np.array([row["malicious"] for row in rows])
    strict = np.quantile(indirect[~malicious], 0.99, method="higher")
    texts = [document.text[:2048] for document in documents if len(document.text) >= 2048][:100]
    return {
        "flagged": flagged,
        "auc_jailbreaks": auc(scores[sources == "jailbreaks"], scores[np.isin(sources, _HARMLESS)]),
        "indirect_flagged": _share(indirect[malicious]),
        "indirect_false_alarms": _share(indirect[~malicious]),
        "indirect_auc": auc(indirect[malicious], indirect[~malicious]),
        "indirect_recall_at_1_percent": wilson(
            int((indirect[malicious] > strict).sum()), int(malicious.sum())
        ),
        "indirect_by_kind": _by_kind(rows, indirect),
        "phrases_by_language": _by_language(style),
        "p95_ms_2kb": float(
            np.quantile(milliseconds(lambda text: assess(text, untrusted=True, style=style), texts), 0.95)
        ),
    }


def _share(scores: NDArray[np.float64]) -> dict[str, Any]:
    hits = int((scores >= THRESHOLD).sum())
    return {"hits": hits, "total": len(scores), "share": wilson(hits, len(scores))}


def _by_kind(rows: Sequence[dict[str, Any]], scores: NDArray[np.float64]) -> dict[str, str]:
    total: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for row, score in zip(rows, scores.tolist(), strict=True):
        if row["malicious"]:
            total[row["kind"]] += 1
            hits[row["kind"]] += score >= THRESHOLD
    return {kind: f"{hits[kind]} of {total[kind]}" for kind in sorted(total)}


def _by_language(style: StyleModel) -> dict[str, dict[str, int]]:
    """Score short phrases, written after the rules and not used for them: attacks, and what only sounds like one."""
    counts: dict[str, Counter[str]] = {}
    for row in read_rows(_PHRASES):
        kind = "attacks" if row["malicious"] else "harmless"
        flagged = assess(row["text"], untrusted=False, style=style).score >= THRESHOLD
        counts.setdefault(row["language"], Counter()).update({kind: 1, f"{kind}_flagged": int(flagged)})
    return {language: dict(found) for language, found in counts.items()}


def judge_secrets(data: Path, library: Sequence[str]) -> dict[str, Any]:
    """Score the shield on keys that are made here, and its false alarms on text and code; and detect-secrets alone."""
    draw = random.Random(0)
    keys = {
        kind: [f"use {_key(form, draw)} here" for _ in range(_KEYS_OF_A_KIND)]
        for kind, form in _KEY_FORMS.items()
    }
    hidden = [base64.b64encode(text.encode()).decode() for texts in keys.values() for text in texts]
    found = {kind: sum(map(_holds_secret, texts)) for kind, texts in keys.items()}
    texts = [
        row["text"] for name in ("benign_requests", "moderation") for row in read_rows(data / f"{name}.jsonl")
    ]
    return {
        "recall": wilson(sum(found.values()), _KEYS_OF_A_KIND * len(found)),
        "missed": {kind: _KEYS_OF_A_KIND - hits for kind, hits in found.items() if hits < _KEYS_OF_A_KIND},
        "recall_in_base64": wilson(sum(map(_holds_secret, hidden)), len(hidden)),
        "texts_flagged": wilson(sum(map(_holds_secret, texts)), len(texts)),
        "library_files_flagged": wilson(sum(map(_holds_secret, library)), len(library)),
        "p95_ms_2kb": float(np.quantile(milliseconds(secrets_in, [text[:2048] for text in library]), 0.95)),
        "detect_secrets_alone": _judge_library_alone(keys, texts, library[::_EACH_OF_LIBRARY]),
    }


def _holds_secret(text: str) -> bool:
    return bool(secrets_in(text)[0])


def _judge_library_alone(
    keys: dict[str, list[str]], texts: Sequence[str], library: Sequence[str]
) -> dict[str, str]:
    """Score detect-secrets with all of its own plugins and filters, on files, as it is meant to be used."""
    made = [text for of_kind in keys.values() for text in of_kind]
    with tempfile.TemporaryDirectory() as folder, default_settings():
        path = Path(folder) / "text.txt"

        def flags(text: str) -> bool:
            path.write_text(text, encoding="utf-8", errors="replace")
            return any(True for _ in scan_file(str(path)))

        return {
            "recall": wilson(sum(map(flags, made)), len(made)),
            "texts_flagged": wilson(sum(map(flags, texts)), len(texts)),
            "library_files_flagged": wilson(sum(map(flags, library)), len(library)),
        }


# a: letters and digits, A: capitals and digits, 0: digits, x: hexadecimal; a number says how many.
_KEY_FORMS = {
    "AWS key id": "AKIA{A16}",
    "AWS secret": 'aws_secret_access_key = "{a40}"',
    "GitHub": "ghp_{a36}",
    "GitHub fine-grained": "github_pat_{a82}",
    "GitLab": "glpat-{a20}",
    "OpenAI": "sk-{a20}T3BlbkFJ{a20}",
    "OpenAI project": "sk-proj-{a80}",
    "Anthropic": "sk-ant-api03-{a90}",
    "Google": "AIza{a35}",
    "Stripe": "sk_live_{a24}",
    "Slack": "xoxb-{012}-{012}-{a24}",
    "JWT": "eyJhbGciOiJIUzI1NiJ9.eyJ{a30}.{a43}",
    "Hugging Face": "hf_{a34}",
    "npm": "npm_{a36}",
    "PyPI": "pypi-AgEIcHlwaS5vcmc{a80}",
    "SendGrid": "SG.{a22}.{a43}",
    "Telegram": "{09}:AA{a33}",
    "Twilio": "SK{x32}",
    "Azure storage": "AccountKey={a86}==",
    "password in URL": "postgres://bob:{a9}@db.example/x",
    "assigned password": 'password = "{a18}"',
    "bearer": "Authorization: Bearer {a40}",
    "private key": "-----BEGIN PRIVATE KEY-----\n{a64}\n{a64}\n-----END PRIVATE KEY-----",
}
_ALPHABETS = {
    "a": string.ascii_letters + string.digits,
    "A": string.ascii_uppercase + string.digits,
    "0": string.digits,
    "x": "0123456789abcdef",
}


def _key(form: str, draw: random.Random) -> str:
    parts = form.replace("}", "{").split("{")
    return "".join(
        "".join(draw.choices(_ALPHABETS[part[0]], k=int(part[1:]))) if index % 2 else part
        for index, part in enumerate(parts)
    )


def library_sources() -> list[str]:
    """Return the texts of the standard library's modules, its tests left out."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    skipped = {"test", "tests", "idlelib", "site-packages", "idle_test"}
    paths = [
        path for path in sorted(folder.rglob("*.py")) if not skipped & set(path.relative_to(folder).parts)
    ]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in paths]
    return [text for text in texts if text.strip()]


def show(report: dict[str, Any], console: Console) -> None:
    """Print the figures, one table a shield."""
    overrides, secrets = report["instruction_override"], report["secrets"]
    table = Table("instruction_override (threshold 0.5)", "flagged", "of", "share [95%]")
    for source, row in overrides["flagged"].items():
        table.add_row(source, str(row["hits"]), str(row["total"]), row["share"])
    for name in ("indirect_flagged", "indirect_false_alarms"):
        table.add_row(
            name, str(overrides[name]["hits"]), str(overrides[name]["total"]), overrides[name]["share"]
        )
    console.print(table)
    console.print(
        f"AUC jailbreaks {overrides['auc_jailbreaks']:.3f}, injected tool results {overrides['indirect_auc']:.3f}; "
        f"injected tool results at 1% false alarms: {overrides['indirect_recall_at_1_percent']}; "
        f"p95 {overrides['p95_ms_2kb']:.1f} ms for 2 KB"
    )
    for language, found in overrides["phrases_by_language"].items():
        console.print(
            f"phrases in {language}: {found['attacks_flagged']} of {found['attacks']} attacks and "
            f"{found['harmless_flagged']} of {found['harmless']} harmless ones flagged"
        )
    show_code(report["code_shield"], console)
    console.print(
        f"secrets: {secrets['recall']} of made keys found; flagged {secrets['texts_flagged']} of harmless texts and "
        f"{secrets['library_files_flagged']} of library files; in base64 {secrets['recall_in_base64']} are found; "
        f"p95 {secrets['p95_ms_2kb']:.1f} ms for 2 KB"
    )
    alone = secrets["detect_secrets_alone"]
    console.print(
        f"detect-secrets alone: {alone['recall']} of made keys found; flagged {alone['texts_flagged']} of harmless "
        f"texts and {alone['library_files_flagged']} of every {_EACH_OF_LIBRARY}th library file"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of labelled files (default {DATA})")
    parser.add_argument("--trusted", type=Path, help="a folder of code that nobody doubts, in any language")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        sys.exit(f"no labelled data at {arguments.data}: name the folder with --data")
    library = library_sources()
    report = {
        "instruction_override": judge_overrides(arguments.data),
        "code_shield": judge_code(arguments.data, library, arguments.trusted),
        "secrets": judge_secrets(arguments.data, library),
    }
    show(report, Console())
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
