"""A folder with a policy, tools and conversations, and a way to run commands in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.driving import POLICY, Cli
from tests.cli.kept_sessions import KeptSessions

_TOOLS = '''\
from pathlib import Path
from agentkit import tool

@tool(effect="read")
def current_temperature(location: str) -> float:
    """Get the current temperature.

    Args:
        location: The city.
    """
    return 22.0

@tool(effect="write", approval="always")
def send_mail(text: str) -> str:
    """Send a mail.

    Args:
        text: What it says.
    """
    with Path("outbox.txt").open("a") as outbox:
        outbox.write(text + "\\n")
    return "sent"

def plain(): ...
'''

_SHIELDS = """\
from agentkit import Verdict, register_shield

@register_shield("cli_test_shouting")
class Shouting:
    async def start(self): ...
    async def check(self, content): return Verdict(flagged=content.text.isupper(), category="shouting")
    async def close(self): ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shields.yaml").write_text(POLICY)
    (tmp_path / "untested.yaml").write_text(POLICY.partition("tests:")[0])
    (tmp_path / "mistyped.yaml").write_text(POLICY.replace("on_hit: withhold", "on_hitt: withhold", 1))
    (tmp_path / "foreign.yaml").write_text(POLICY.replace("instruction_override", "cli_test_shouting"))
    (tmp_path / "cli_test_tools.py").write_text(_TOOLS)
    (tmp_path / "cli_test_shields.py").write_text(_SHIELDS)
    (tmp_path / "cli_test_broken.py").write_text("raise ValueError('no')\n")
    (tmp_path / "broken.json").write_text("[{]")
    (tmp_path / "question.json").write_text('[{"role": "user", "content": "How warm is Paris?"}]')
    (tmp_path / "object.json").write_text("{}")
    (tmp_path / "empty.json").write_text("")
    return tmp_path


@pytest.fixture
def kept(folder: Path) -> KeptSessions:
    return KeptSessions(folder)


@pytest.fixture
def cli(folder: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(folder, capsys)
