"""Fuzzes the parser of outputs and the encoder of prompts, guided by coverage.

`python -m benchmarks.fuzz_formats parser` (or `encoder`) runs for `--seconds` and prints libFuzzer's statistics; a
failure is written to a file in the working folder. Needs the extra `fuzz`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["agentkit.inference.formats"]):
    from tests.inference.fuzzing import OUTPUT_SEEDS, PROMPT_SEEDS, check_output, check_prompt

TARGETS = {
    "parser": (check_output, [b"\x01\x02\x03\x04" + seed.encode() for seed in OUTPUT_SEEDS]),
    "encoder": (
        check_prompt,
        [bytes([n, n % 2]) + seed.encode() for seed in PROMPT_SEEDS for n in range(28)],
    ),
}
MAX_BYTES = 2048
WORDS = (
    '{"name"', '"parameters": {', '"arguments": {', '"type": "function"', "get_weather", "get_time", "query=",
    "brave_search.call(", "<function=", "</function>", "<|python_tag|>", "\ufdd0", "```json\n", "```", "[get_time(",
    "\\u00e9", "\\ud83e", "<|eot_id|>", "<|start_header_id|>", "\u2003", "\ufdd1",
)  # fmt: skip


def main() -> None:
    """Run one target."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("target", choices=sorted(TARGETS))
    arguments.add_argument("--seconds", type=int, default=600)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    target, seeds = TARGETS[options.target]
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds):
            (corpus / str(number)).write_bytes(seed)
        words = Path(folder) / "words"
        words.write_text("\n".join(f'"{_escaped(word)}"' for word in WORDS))
        flags = (f"-max_total_time={options.seconds}", f"-max_len={MAX_BYTES}", f"-seed={options.seed}")
        limits = ("-timeout=10", "-print_final_stats=1", f"-dict={words}")
        atheris.Setup([sys.argv[0], *flags, *limits, str(corpus)], target)
        atheris.Fuzz()


def _escaped(word: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word.encode())


if __name__ == "__main__":
    main()
