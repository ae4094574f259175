"""The README's Python runs as it stands, on the embedded model."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
FIRST, SECOND, THIRD = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.model
def test_the_examples_run(tmp_path: Path):
    city = "from pydantic import BaseModel\n\nclass City(BaseModel):\n    name: str\n    country: str"
    answer, called, tokens, described = ran(tmp_path, f"{FIRST}\n{city}\n{as_main(SECOND)}")
    assert answer.startswith("completed ")
    assert "22" in answer
    assert "get_current_temperature" in called
    assert all(int(number) > 0 for number in tokens.split())
    assert described.startswith("name='Lyon'")


@pytest.mark.model
def test_the_example_of_a_session_that_survives_runs(tmp_path: Path):
    assert ran(tmp_path, f"{FIRST}\n{as_main(THIRD)}")[-1] == "completed False"


def as_main(block: str) -> str:
    """Return a block that awaits as a script that runs it."""
    return f"import anyio\n\nasync def main():\n{textwrap.indent(block, '    ')}\nanyio.run(main)\n"


def ran(folder: Path, script: str) -> list[str]:
    """Run a script in a process of its own and return the lines it prints."""
    (folder / "readme.py").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "readme.py"], cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split("\n")
