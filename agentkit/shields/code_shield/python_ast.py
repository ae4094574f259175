"""Python code -> the issues in it. Knows how to walk code and lines; what is wrong is in the rules and the checks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

from agentkit.shields.code_shield.checks import CHECKS
from agentkit.shields.code_shield.conditions import CONDITIONS
from agentkit.shields.code_shield.lexer import LogicalLine
from agentkit.shields.code_shield.rules import Issue, Rule, Severity, load_rules
from agentkit.shields.code_shield.scope import Scope, bind_imports, dotted_name
from agentkit.shields.code_shield.source import parse_source

_SHELL_WORD = re.compile(r"\bshell\s*=\s*True\b")
_ALWAYS_WHEN_UNPARSED = (None, "dynamic_argument", "no_safe_loader", "for_security")


def scan_python(code: str) -> list[Issue]:
    """Return the issues in a piece of Python, by line. Fragments, prompts and broken lines are judged too.

    Raises:
        ShieldError: if the code is made so that judging it would take too long.
    """
    parsed = parse_source(code)
    found = {
        *_issues_in(parsed.statements),
        *(issue for line in parsed.unparsed for issue in _issues_in_words(line)),
    }
    if parsed.unparsed:
        found.add(load_rules().issue("not-parsed", parsed.unparsed[0].line))
    return sorted(found, key=lambda issue: (issue.line, -issue.severity.rank, issue.rule))


def _issues_in(statements: list[ast.stmt]) -> Iterator[Issue]:
    book = load_rules()
    module = Scope()
    bind_imports((node for statement in statements for node in ast.walk(statement)), module)
    for node, scope in _walk(statements, module):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Call):
            yield from (book.issue(name, line) for name in _broken_call_rules(node, scope))
        for check in CHECKS:
            yield from (book.issue(name, line) for name in check(node, scope))


def _walk(statements: list[ast.stmt], module: Scope) -> Iterator[tuple[ast.AST, Scope]]:
    """Yield every node with its scope, in the order of the code, binding names on the way. Needs no recursion."""
    pending: list[tuple[ast.AST, Scope]] = [(statement, module) for statement in reversed(statements)]
    while pending:
        node, scope = pending.pop()
        yield node, scope
        _bind(node, scope)
        inner = _inner_scope(node, scope)
        pending += ((child, inner) for child in reversed(list(ast.iter_child_nodes(node))))


def _bind(node: ast.AST, scope: Scope) -> None:
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                if isinstance(target, ast.Name):
                    scope.assign(target.id, value)
                else:
                    _shadow_all(target, scope)
        case (
            ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            | ast.NamedExpr(target=ast.Name(id=name), value=value)
        ):
            scope.assign(name, value)
        case ast.AugAssign(target=ast.Name(id=name) as target, op=op, value=value):
            scope.assign(name, ast.BinOp(left=target, op=op, right=value))
        case ast.For(target=target) | ast.AsyncFor(target=target) | ast.comprehension(target=target):
            _shadow_all(target, scope)
        case ast.withitem(optional_vars=ast.expr() as target):
            _shadow_all(target, scope)


def _shadow_all(target: ast.expr, scope: Scope) -> None:
    for node in ast.walk(target):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            scope.shadow(node.id)


def _inner_scope(node: ast.AST, scope: Scope) -> Scope:
    if isinstance(node, ast.ClassDef):
        return Scope(parent=scope)
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return scope
    inner = Scope(parent=scope)
    arguments = node.args
    everything = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    for argument in everything:
        if argument is not None:
            inner.shadow(argument.arg)
    return inner


def _broken_call_rules(call: ast.Call, scope: Scope) -> Iterator[str]:
    name = dotted_name(call.func, scope)
    if name is None:
        return
    by_call = load_rules().by_call
    spellings = [name, *(f"{module}.{name}" for module in scope.stars())]
    for rule in (rule for spelling in spellings for rule in by_call.get(spelling, ())):
        if rule.when is None or CONDITIONS[rule.when](call, scope):
            yield rule.name


def _issues_in_words(line: LogicalLine) -> Iterator[Issue]:
    """Judge a line that does not parse by the names that it calls, strings and comments left out."""
    book = load_rules()
    for match in _call_pattern().finditer(line.code):
        at = line.line + line.code.count("\n", 0, match.start())
        for rule in book.by_call[_spelling(match[1])]:
            if _applies_to_words(rule, line.code):
                yield book.issue(rule.name, at)


def _applies_to_words(rule: Rule, code: str) -> bool:
    if rule.when == "shell_true_dynamic":
        return _SHELL_WORD.search(code) is not None
    return rule.when in _ALWAYS_WHEN_UNPARSED and rule.severity is not Severity.INFO


@cache
def _spellings() -> dict[str, str]:
    """Return how fragments write each call: the last two parts of its name."""
    return {".".join(name.split(".")[-2:]): name for name in load_rules().by_call}


def _spelling(written: str) -> str:
    return _spellings()[re.sub(r"\s", "", written)]


@cache
def _call_pattern() -> re.Pattern[str]:
    names = "|".join(re.escape(name) for name in sorted(_spellings(), key=len, reverse=True))
    # Python 2's `exec text` is a call without brackets.
    return re.compile(rf"(?<![\w.])({names})(?=\s{{0,4}}\(|(?<=exec)\s+\w)")
