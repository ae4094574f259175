"""Finds SQL statements that are built from values, in Python's syntax tree. Knows SQL's verbs, not its grammar."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from agentkit.shields.code_shield.scope import (
    Scope,
    constant_text,
    dotted_name,
    is_constant,
    terms,
    written_name,
)

_SQL = re.compile(
    r"\s*+[(\"']*+\s*+(?:select\b.{0,400}\bfrom\b|insert\s+(?:\w+\s+)?into\b|update\b.{0,200}\bset\b|delete\s+from\b|"
    r"replace\s+into\b|drop\s+(?:table|database|index|view|user)\b|create\s+(?:\w+\s+){0,2}(?:table|database|"
    r"user|view|index)\b|"
    r"alter\s+(?:table|user|database)\b|truncate\s+table\b|grant\b.{0,80}\bto\b|merge\s+into\b|with\b.{1,80}\bas\s*\()",
    re.IGNORECASE | re.DOTALL,
)
# Right in `execute(...)`, the verb is enough.
_SQL_VERB = re.compile(
    r"\s*(?:select|insert|update|delete|replace|drop|create|alter|truncate|grant|revoke|merge|with|call|set|show|use|pragma|"
    r"explain|begin|lock|vacuum|analyze|copy)\s",
    re.IGNORECASE,
)
_DATABASE = re.compile(
    r"cur(?:sor)?s?$|^(?:db|conn|connection|engine|session|database|sql\w*)$|_(?:db|conn|cursor|session)$|^c$"
)
_SQL_METHOD_NAMES = (
    "execute executemany executescript raw query mogrify read_sql read_sql_query run_query execute_query fetch "
    "fetchrow fetchval scalar do_query runQuery exec_driver_sql extra query_db"
)
_SQL_METHODS = frozenset(_SQL_METHOD_NAMES.split())


def is_statement(text: str) -> bool:
    """Say whether a text begins an SQL statement."""
    return _SQL.match(text) is not None


def check_sql(node: ast.AST, scope: Scope) -> Iterator[str]:
    """An SQL statement made of values: by f-string, format, % or +, right in the call or in a variable before."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
        return
    method = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
    if method not in _SQL_METHODS:
        return
    given = [
        *node.args[:2],
        *(item.value for item in node.keywords if item.arg in ("sql", "query", "statement")),
    ]
    expressions = [part for argument in given for part in _assigned(_unwrapped(argument, scope), scope)]
    if any(
        _is_built_sql(part, scope, _SQL_VERB if method.startswith("execute") else _SQL)
        for part in expressions
    ) or (
        method.startswith("execute") and _is_database(node.func) and any(map(_is_formatting, expressions[:1]))
    ):
        yield "sql-built"


def check_sql_text(node: ast.AST, scope: Scope) -> Iterator[str]:
    """An SQL statement made of values, kept in a variable: the call that runs it may be elsewhere."""
    if (
        isinstance(node, ast.Assign | ast.AugAssign | ast.Return)
        and node.value is not None
        and _is_built_sql(node.value, scope, _SQL)
    ):
        yield "sql-built"


def _unwrapped(argument: ast.expr, scope: Scope) -> ast.expr:
    """Return what is inside `text(...)` of SQLAlchemy."""
    if (
        isinstance(argument, ast.Call)
        and (dotted_name(argument.func, scope) or "").rpartition(".")[2] == "text"
        and argument.args
    ):
        return argument.args[0]
    return argument


def _assigned(node: ast.expr, scope: Scope) -> list[ast.expr]:
    if isinstance(node, ast.Name):
        binding = scope.find(node.id)
        return binding.values if binding else []
    return [node]


def _is_built_sql(node: ast.expr, scope: Scope, pattern: re.Pattern[str]) -> bool:
    head = built_head(node, scope)
    return head is not None and pattern.match(head) is not None


def _is_database(function: ast.expr) -> bool:
    """Say whether `execute` is called on something that is named like a cursor or a connection."""
    receiver = function.value if isinstance(function, ast.Attribute) else None
    name = written_name(receiver) if receiver is not None else ""
    return _DATABASE.search(name.lower()) is not None


def _is_formatting(node: ast.expr) -> bool:
    """Say whether an expression fills values into a template that is kept elsewhere."""
    match node:
        case ast.Call(
            func=ast.Attribute(value=ast.Name() | ast.Attribute(), attr="format"),
            args=args,
            keywords=keywords,
        ):
            return bool(args or keywords)
        case ast.BinOp(left=ast.Name() | ast.Attribute(), op=ast.Mod()):
            return True
    return False


def built_head(node: ast.expr, scope: Scope) -> str | None:
    """Return the constant text of an expression that also holds values, or None."""
    match node:
        case ast.JoinedStr(values=values) if not all(is_constant(value, scope) for value in values):
            return "".join(constant_text(part, scope) or " x " for part in values)
        case ast.BinOp(left=left, op=ast.Mod(), right=right) if not is_constant(right, scope):
            return constant_text(left, scope)
        case ast.BinOp(op=ast.Add()) if not is_constant(node, scope):
            return "".join(
                constant_text(part, scope) or built_head(part, scope) or " x " for part in terms(node)
            )
        case ast.Call(func=ast.Attribute(value=template, attr="format")) if not is_constant(node, scope):
            return constant_text(template, scope)
    return None
