"""The README's Python runs as it stands, on the embedded model."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
FIRST, SECOND = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.model
def test_the_examples_run(tmp_path: Path):
    script = (
        f"{FIRST}\n"
        "import anyio\n"
        "from pydantic import BaseModel\n\n"
        "class City(BaseModel):\n    name: str\n    country: str\n\n"
        f"async def main():\n{textwrap.indent(SECOND, '    ')}\n"
        "anyio.run(main)\n"
    )
    (tmp_path / "readme.py").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "readme.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    answer, called, tokens, city = done.stdout.strip().split("\n")
    assert answer.startswith("completed ")
    assert "22" in answer
    assert "get_current_temperature" in called
    assert all(int(number) > 0 for number in tokens.split())
    assert city.startswith("name='Lyon'")
