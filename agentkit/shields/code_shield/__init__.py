"""Code Shield: insecure code is found by reading it, not by running it. `scan_code` is the analyser."""

from agentkit.shields.code_shield.languages import Language
from agentkit.shields.code_shield.python_ast import scan_python
from agentkit.shields.code_shield.rules import Issue, Severity
from agentkit.shields.code_shield.scan import scan_code
from agentkit.shields.code_shield.shield import CodeShield

__all__ = ["CodeShield", "Issue", "Language", "Severity", "scan_code", "scan_python"]
