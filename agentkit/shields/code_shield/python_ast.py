"""Python code -> the issues in it. Knows how to walk code and lines; what is wrong is in the rules and the checks."""

from __future__ import annotations

import ast
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from agentkit.shields.code_shield.checks import CHECKS, command_text
from agentkit.shields.code_shield.conditions import CONDITIONS
from agentkit.shields.code_shield.languages import Language
from agentkit.shields.code_shield.lexer import LogicalLine
from agentkit.shields.code_shield.pattern_scan import scan_patterns
from agentkit.shields.code_shield.rules import Issue, Rule, Severity, load_rules
from agentkit.shields.code_shield.scope import Scope, bind_imports, constant_text, dotted_names
from agentkit.shields.code_shield.source import parse_source

_SHELL_WORD = re.compile(r"\bshell\s*=\s*True\b")
_TEXT_RUNNERS = frozenset({"eval", "exec", "compile"})
_DEEPEST_TEXT = 3
_CONSTANT_COMMANDS = frozenset({"command-constant", "subprocess-shell-constant"})
# What is given to these is looked at, not called.
_ASKING = frozenset(
    {"isinstance", "issubclass", "hasattr", "getattr", "callable", "id", "type", "repr", "print"}
)
_ALWAYS_WHEN_UNPARSED = (None, "dynamic_argument", "any_dynamic", "no_safe_loader", "for_security")


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


def _issues_in(statements: list[ast.stmt], depth: int = 0) -> Iterator[Issue]:
    book = load_rules()
    module = Scope()
    bind_imports((node for statement in statements for node in ast.walk(statement)), module)
    for node, scope in _walk(statements, module):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Call):
            broken = set(_broken_call_rules(node, scope))
            yield from (book.issue(name, line) for name in broken)
            yield from _issues_in_text(node, scope, depth)
            yield from _issues_in_command(node, scope) if broken & _CONSTANT_COMMANDS else ()
        yield from (book.issue(name, line) for name in _handed_over(node, scope))
        for check in CHECKS:
            yield from (book.issue(name, line) for name in check(node, scope))


def _issues_in_text(call: ast.Call, scope: Scope, depth: int) -> Iterator[Issue]:
    """Judge the constant text that is executed as Python, at the line where it is executed."""
    if depth >= _DEEPEST_TEXT or not call.args or not _TEXT_RUNNERS & set(dotted_names(call.func, scope)):
        return
    text = constant_text(call.args[0], scope)
    for issue in _issues_in(parse_source(text).statements, depth + 1) if text else ():
        yield replace(issue, line=call.lineno)


def _issues_in_command(call: ast.Call, scope: Scope) -> Iterator[Issue]:
    """Judge the constant command that a shell is given, at the line where it is run."""
    for issue in scan_patterns(command_text(call, scope), Language.SHELL):
        if issue.severity is Severity.ERROR:
            yield replace(issue, line=call.lineno)


def _handed_over(node: ast.AST, scope: Scope) -> Iterator[str]:
    """Yield the rules about functions that others will call: `map(eval, texts)`, or as a decorator."""
    match node:
        case ast.Call(func=func, args=args, keywords=keywords):
            if _ASKING & set(dotted_names(func, scope)):
                return
            given = [*args, *(item.value for item in keywords)]
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            given = node.decorator_list
        case _:
            return
    by_call = load_rules().by_call
    for value in given:
        if isinstance(value, ast.Name) and not scope.knows(value.id):
            continue
        for rule in (rule for name in dotted_names(value, scope) for rule in by_call.get(name, ())):
            if rule.severity is Severity.ERROR and rule.when in (None, "dynamic_argument"):
                yield rule.name


def _walk(statements: list[ast.stmt], module: Scope) -> Iterator[tuple[ast.AST, Scope]]:
    """Yield every node with its scope, in the order of the code, binding names on the way. Needs no recursion."""
    pending: list[tuple[ast.AST, Scope]] = [(statement, module) for statement in reversed(statements)]
    # What is in a function runs when everything around it has been bound.
    later: deque[tuple[ast.AST, Scope]] = deque()
    while pending or later:
        node, scope = pending.pop() if pending else later.popleft()
        yield node, scope
        _bind(node, scope)
        inner = _inner_scope(node, scope)
        children = [(child, inner) for child in _in_order(node)]
        if inner is scope or isinstance(node, ast.ClassDef):
            pending += reversed(children)
        else:
            later += children


def _in_order(node: ast.AST) -> list[ast.AST]:
    """Return what is in a node as it runs: a comprehension binds its names before it uses them."""
    children = list(ast.iter_child_nodes(node))
    return sorted(children, key=lambda child: not isinstance(child, ast.comprehension))


def _bind(node: ast.AST, scope: Scope) -> None:
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                _assign_to(target, value, scope)
        case (
            ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            | ast.NamedExpr(target=ast.Name(id=name), value=value)
        ):
            scope.assign(name, value)
        case ast.AugAssign(target=ast.Name(id=name) as target, op=op, value=value):
            scope.assign(name, ast.BinOp(left=target, op=op, right=value))
        case (
            ast.For(target=target, iter=source)
            | ast.AsyncFor(target=target, iter=source)
            | ast.comprehension(target=target, iter=source)
        ):
            _shadow_all(target, scope)
            for part in source.elts if isinstance(source, ast.List | ast.Tuple | ast.Set) else ():
                _assign_to(target, part, scope)
        case ast.withitem(optional_vars=ast.expr() as target):
            _shadow_all(target, scope)


def _assign_to(target: ast.expr, value: ast.expr, scope: Scope) -> None:
    match target, value:
        case ast.Name(id=name), _:
            scope.assign(name, value)
        case (
            (ast.Tuple(elts=targets) | ast.List(elts=targets)),
            (ast.Tuple(elts=values) | ast.List(elts=values)),
        ) if len(targets) == len(values):
            for one, its_value in zip(targets, values, strict=True):
                _assign_to(one, its_value, scope)
        case _:
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
    for argument, default in _defaults(arguments):
        for name in dotted_names(default, scope):
            inner.refer(argument.arg, name)
    return inner


def _defaults(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    yield from zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True)
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if default is not None:
            yield argument, default


def _broken_call_rules(call: ast.Call, scope: Scope) -> Iterator[str]:
    by_call = load_rules().by_call
    names = dotted_names(call.func, scope)
    spellings = [*names, *(f"{module}.{name}" for module in scope.stars() for name in names)]
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
