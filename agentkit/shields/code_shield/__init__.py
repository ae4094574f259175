"""Code Shield: insecure Python is found by reading it, not by running it. `scan_python` is the analyser."""

from agentkit.shields.code_shield.python_ast import scan_python
from agentkit.shields.code_shield.rules import Issue, Severity
from agentkit.shields.code_shield.shield import CodeShield

__all__ = ["CodeShield", "Issue", "Severity", "scan_python"]
