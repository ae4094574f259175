"""How good the `pii` shield is: recall by kind on samples made here, false alarms on labelled text, and time.

    python -m benchmarks.personal_data [--data DIR] [--json FILE]

Where `presidio-analyzer` is installed, its recognisers for the same kinds are measured beside ours, without a language
model: each is asked for its kind alone. A hit counts if it covers the sample. Intervals are Wilson's at 95%.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import random
import string
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import phonenumbers
from rich.console import Console
from rich.table import Table

from agentkit.shields.pii_patterns import PersonalKind, find_personal_data
from benchmarks.fit_instruction_override import read_rows
from benchmarks.measures import milliseconds, wilson
from benchmarks.shield_quality import DATA

_SAMPLES_OF_A_KIND = 200
_SENTENCES = (
    "{}",
    "Please write {} into the form, thanks.",
    "- {}\n- and the next line",
    "His {word} is {}.",
    '{{"{word}": "{}", "ok": true}}',
    "We saw {}; was it yours?",
    "({})",
)
_WORDS = {
    PersonalKind.EMAIL: "email",
    PersonalKind.IBAN: "IBAN",
    PersonalKind.CREDIT_CARD: "card",
    PersonalKind.SSN: "SSN",
    PersonalKind.IP_ADDRESS: "address",
    PersonalKind.PHONE: "phone number",
}
# Look-alikes of each kind, which are none.
_LOOK_ALIKES = (
    "order {d10} of {d4}",
    "{d3}-{d3}-{d3}",
    "commit {x40}",
    "{x8}-{x4}-{x4}-{x4}-{x12}",
    "at {d2}:{d2}:{d2}.{d6}",
    "{d4} {d4} {d4}",
    "v{d1}.{d2}.{d1}",
    "{d1},{d3},{d3} rows",
    "0.{d16}",
    "{a6}@{a5}",
    "AB{d2} {d4} {d4}",
    "192.168.{d1}.{d2}",
    "202{d1}-0{d1}-1{d1} 1{d1}:{d2}",
    "{d2} {d2} {d2} {d2} {d2}",
    "{d1}.{d3}.{d3},{d2}",
)
_Spans = list[tuple[int, int]]
_Finders = dict[PersonalKind, Callable[[str], _Spans]]


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of labelled files (default {DATA})")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        sys.exit(f"no labelled data at {arguments.data}: name the folder with --data")
    texts = [
        row["text"]
        for name in ("benign_requests", "moderation")
        for row in read_rows(arguments.data / f"{name}.jsonl")
    ]
    report = {name: measure(finders, texts) for name, finders in _candidates().items()}
    show(report, Console())
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure(finders: _Finders, texts: list[str]) -> dict[str, Any]:
    """Return recall by kind, false alarms on look-alikes and on texts, and how long 2 KB take with all kinds."""
    draw = random.Random(7)
    recall = {kind.value: _recall(kind, find, draw) for kind, find in finders.items()}
    decoys = [_filled(form, draw) for form in _LOOK_ALIKES for _ in range(50)]

    def judge(text: str) -> bool:
        return any(find(text) for find in finders.values())

    passages = ["\n".join(texts[i : i + 40])[:2048] for i in range(0, len(texts) - 40, 20)]
    return {
        "recall": recall,
        "look_alikes_flagged": wilson(sum(map(judge, decoys)), len(decoys)),
        "texts_flagged": wilson(sum(map(judge, texts)), len(texts)),
        "p95_ms_2kb": float(np.quantile(milliseconds(judge, passages), 0.95)),
    }


def show(report: dict[str, Any], console: Console) -> None:
    """Print one column a candidate."""
    table = Table("", *report)
    for kind in PersonalKind:
        table.add_row(f"recall of {kind}", *(row["recall"][kind.value] for row in report.values()))
    for name in ("look_alikes_flagged", "texts_flagged"):
        table.add_row(name, *(row[name] for row in report.values()))
    table.add_row("p95 ms for 2 KB", *(f"{row['p95_ms_2kb']:.2f}" for row in report.values()))
    console.print(table)


def _recall(kind: PersonalKind, find: Callable[[str], _Spans], draw: random.Random) -> str:
    hits = 0
    for index in range(_SAMPLES_OF_A_KIND):
        sample = _MAKERS[kind](draw)
        text = _SENTENCES[index % len(_SENTENCES)].format(sample, word=_WORDS[kind])
        start = text.index(sample)
        # What stands around may belong to a wider span; what is missing of the sample would leak.
        hits += any(first <= start and start + len(sample) <= last for first, last in find(text))
    return wilson(hits, _SAMPLES_OF_A_KIND)


def _candidates() -> dict[str, _Finders]:
    candidates: dict[str, _Finders] = {"agentkit": {kind: partial(_ours, kind) for kind in PersonalKind}}
    if importlib.util.find_spec("presidio_analyzer"):
        candidates["presidio"] = _presidio()
    return candidates


def _ours(kind: PersonalKind, text: str) -> _Spans:
    return [(data.start, data.end) for data in find_personal_data(text, (kind,), ("US",))]


def _presidio() -> _Finders:
    module = importlib.import_module("presidio_analyzer.predefined_recognizers")
    recognizers = {
        PersonalKind.EMAIL: module.EmailRecognizer(),
        PersonalKind.IBAN: module.IbanRecognizer(),
        PersonalKind.CREDIT_CARD: module.CreditCardRecognizer(),
        PersonalKind.SSN: module.UsSsnRecognizer(),
        PersonalKind.IP_ADDRESS: module.IpRecognizer(),
        PersonalKind.PHONE: module.PhoneRecognizer(),
    }

    def find(kind: PersonalKind, text: str) -> _Spans:
        recognizer = recognizers[kind]
        found = recognizer.analyze(text, recognizer.supported_entities, None)
        # Its own default: what has no word beside it that says what it is, and no checksum, scores below.
        return [(result.start, result.end) for result in found or () if result.score >= 0.3]

    return {kind: partial(find, kind) for kind in recognizers}


def _email(draw: random.Random) -> str:
    local = _filled("{a6}", draw) + draw.choice(["", ".{a4}", "+{a3}", "_{d2}", "-{a2}"])
    domain = draw.choice(["example.org", "mail.example.co.uk", "{a8}.com", "{a5}-{a4}.io", "x.{a6}.museum"])
    return _filled(f"{local}@{domain}", draw)


def _iban(draw: random.Random) -> str:
    forms = {"DE": "{d18}", "GB": "{A4}{d14}", "FR": "{d10}{A1}{d12}", "NL": "{A4}{d10}", "NO": "{d11}"}
    country, form = draw.choice(list(forms.items()))
    account = _filled(form, draw)
    digits = "".join(str(int(character, 36)) for character in f"{account}{country}00")
    compact = f"{country}{98 - int(digits) % 97:02d}{account}"
    if draw.random() < 0.5:
        return compact
    return " ".join(compact[i : i + 4] for i in range(0, len(compact), 4))


def _credit_card(draw: random.Random) -> str:
    prefix, length = draw.choice([("4", 16), ("51", 16), ("55", 16), ("37", 15), ("6011", 16), ("36", 14)])
    body = prefix + _filled(f"{{d{length - 1 - len(prefix)}}}", draw)
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in body[::-2]) + sum(map(int, body[-2::-2]))
    number = body + str(-doubled % 10)
    separator = draw.choice(["", " ", "-"])
    return separator.join(number[i : i + 4] for i in range(0, len(number), 4)) if length == 16 else number


def _social_security(draw: random.Random) -> str:
    separator = draw.choice(["-", " "])
    return separator.join(
        (f"{draw.randint(1, 665):03d}", f"{draw.randint(1, 99):02d}", f"{draw.randint(1, 9999):04d}")
    )


def _ip_address(draw: random.Random) -> str:
    if draw.random() < 0.3:
        return f"2a02:{draw.randint(1, 9999)}:{draw.randint(1, 9999)}::{draw.randint(1, 9999)}"
    return f"{draw.choice([8, 23, 52, 81, 93, 104, 142])}." + ".".join(
        str(draw.randint(1, 254)) for _ in range(3)
    )


def _phone(draw: random.Random) -> str:
    region = draw.choice(["US", "US", "DE", "GB", "FR", "IN", "BR", "JP"])
    example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    assert example is not None
    while True:
        number = phonenumbers.PhoneNumber(
            country_code=example.country_code,
            national_number=int(str(example.national_number)[:-5] + _filled("{d5}", draw)),
        )
        if phonenumbers.is_valid_number(number):
            break
    forms = [phonenumbers.PhoneNumberFormat.INTERNATIONAL, phonenumbers.PhoneNumberFormat.E164]
    if region == "US":
        forms.append(phonenumbers.PhoneNumberFormat.NATIONAL)
    return phonenumbers.format_number(number, draw.choice(forms))


_MAKERS: dict[PersonalKind, Callable[[random.Random], str]] = {
    PersonalKind.EMAIL: _email,
    PersonalKind.IBAN: _iban,
    PersonalKind.CREDIT_CARD: _credit_card,
    PersonalKind.SSN: _social_security,
    PersonalKind.IP_ADDRESS: _ip_address,
    PersonalKind.PHONE: _phone,
}
_ALPHABETS = {
    "a": string.ascii_lowercase,
    "A": string.ascii_uppercase,
    "d": string.digits,
    "x": "0123456789abcdef",
}


def _filled(form: str, draw: random.Random) -> str:
    """Return the form with each `{d4}` replaced by four random characters of its alphabet."""
    parts = form.replace("}", "{").split("{")
    return "".join(
        "".join(draw.choices(_ALPHABETS[part[0]], k=int(part[1:]))) if index % 2 else part
        for index, part in enumerate(parts)
    )


if __name__ == "__main__":
    main()
