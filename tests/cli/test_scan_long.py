"""A long `agentkit scan`: every row gets its verdict, and whoever watches sees how far it is."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

from tests.cli.driving import INJECTION
from tests.cli.terminal import AGENTKIT, SECONDS

ROWS = 1_000
SCAN = (*AGENTKIT, "scan", "--stage", "tool_result", "-p", "shields.yaml", "--jsonl")


def rows() -> str:
    texts = (INJECTION if number % 100 == 0 else f"row {number}" for number in range(ROWS))
    return "".join(json.dumps({"id": number, "text": text}) + "\n" for number, text in enumerate(texts))


def seen_on_a_terminal(folder: Path, command: str) -> tuple[int, str]:
    """Run a shell command whose stderr is a terminal; return its exit code and what the terminal showed."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["bash", "-c", command],
        cwd=folder,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:
            pass  # the last process with the terminal is gone
        os.close(ours)
        return process.wait(SECONDS), shown.decode()


def test_a_file_of_rows_has_a_bar_up_to_the_end_and_a_verdict_a_row(folder: Path) -> None:
    (folder / "rows.jsonl").write_text(rows())
    code, shown = seen_on_a_terminal(folder, f"{' '.join(SCAN)} < rows.jsonl > verdicts.jsonl")
    assert code == 1
    assert "1000 rows judged, 10 flagged" in shown
    assert "100%" in shown
    verdicts = [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]
    assert [verdict["id"] for verdict in verdicts] == list(range(ROWS))
    assert [verdict["id"] for verdict in verdicts if verdict["flagged"]] == list(range(0, ROWS, 100))


def test_from_a_pipe_the_rows_are_counted(folder: Path) -> None:
    (folder / "rows.jsonl").write_text(rows())
    code, shown = seen_on_a_terminal(folder, f"head -3 rows.jsonl | {' '.join(SCAN)} > verdicts.jsonl")
    assert (code, "3 rows judged, 1 flagged" in shown, "100%" in shown) == (1, True, False)


def test_a_row_is_judged_without_waiting_for_the_next(folder: Path) -> None:
    with subprocess.Popen(
        SCAN, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdin.write(json.dumps({"id": number, "text": "hello"}) + "\n")
            assert json.loads(process.stdout.readline())["id"] == number
        process.stdin.close()
        assert process.wait(SECONDS) == 0


def test_nobody_watches_a_file(folder: Path) -> None:
    ended = subprocess.run(
        SCAN, cwd=folder, input=rows()[:2_000].rpartition("\n")[0], capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (1, "")
