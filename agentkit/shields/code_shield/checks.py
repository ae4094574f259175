"""The checks of Code Shield that are more than a call of a name: each takes a node and yields the rules it breaks."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from agentkit.shields.code_shield.conditions import first_argument, is_value, keyword
from agentkit.shields.code_shield.credentials import credential_rule, is_written_key
from agentkit.shields.code_shield.scope import (
    Scope,
    constant_text,
    dotted_name,
    is_constant,
    written_name,
    written_values,
)
from agentkit.shields.code_shield.sql import built_head, check_sql, check_sql_text

Check = Callable[[ast.AST, Scope], Iterator[str]]

_HTTP_METHOD_NAMES = "get post put patch delete head options request send Session Client AsyncClient stream"
_HTTP_METHODS = frozenset(_HTTP_METHOD_NAMES.split())
_EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104  # looked for, not bound to
_UNVERIFIED_NAMES = ("ssl._create_unverified_context", "ssl.CERT_NONE")
_OLD_PROTOCOLS = ("ssl.PROTOCOL_SSLv2", "ssl.PROTOCOL_SSLv3", "ssl.PROTOCOL_TLSv1", "ssl.PROTOCOL_TLSv1_1")
_RISKY_METHODS = (
    "system",
    "popen",
    "run",
    "call",
    "Popen",
    "check_output",
    "exec",
    "eval",
    "loads",
    "load",
    "spawn",
)
_DANGEROUS_MODULES = (
    "os",
    "subprocess",
    "builtins",
    "__builtins__",
    "shutil",
    "pickle",
    "importlib",
    "ctypes",
    "pty",
)

_NAME_OF_SECRET = re.compile(
    r"(?i)passw|secret|token|salt|nonce|session|csrf|\botp|captcha|credential|api_?key|ticket"
)
_DESTRUCTIVE = re.compile(
    r"\brm\s{1,8}(?:-[a-zA-Z-]{1,24}\s{1,8}){0,4}-[a-zA-Z]{0,12}[rR][a-zA-Z]{0,12}\s{1,8}(?:-[a-zA-Z-]{1,24}\s{1,8}){0,4}"
    r"[\"']?(?:/\*?|~/?\*?|\$HOME/?\*?|\.\./?\*?)[\"']?(?:\s|$|;|&)|"
    r"\brm\s.{0,40}--no-preserve-root|\bmkfs(?:\.\w+)?\s|\bdd\s.{0,80}of=/dev/(?:sd|nvme|hd|vd)|:\(\)\s*\{\s*:\|:&\s*\};:|"
    r">\s*/dev/sd[a-z]|\bformat\s+c:|\bdel\s+/[sfq]\s.{0,20}c:\\|\bchmod\s+-R\s+0?777\s+/(?:\s|$)",
)
_REVERSE_SHELL = re.compile(
    r"/dev/tcp/|\b(?:nc|ncat|netcat)\b.{0,60}\s-(?:e|c)\s|\bbash\s+-i\b|\bsh\s+-i\b.{0,10}[<>]"
)
_COMMANDS = re.compile(
    r"(?:os\.(?:system|popen|exec\w+|spawn\w+)|subprocess\.\w+|commands\.\w+|asyncio\.create_subprocess\w*)$"
)
_ROOTS = ("/", "/*", "~", "~/", "C:\\", "c:/", "/home", "/etc", "/usr", "/var", "..")


def check_tls(node: ast.AST, scope: Scope) -> Iterator[str]:
    """Verification of certificates is switched off."""
    match node:
        case ast.Call(func=func):
            method = func.attr if isinstance(func, ast.Attribute) else ""
            root = (dotted_name(func, scope) or "").partition(".")[0]
            if is_value(keyword(node, "verify"), False) and (
                root in ("requests", "httpx", "aiohttp") or method in _HTTP_METHODS
            ):
                yield "tls-unverified"
            if is_value(keyword(node, "verify_ssl"), False) or is_value(
                keyword(node, "check_hostname"), False
            ):
                yield "tls-unverified"
        case ast.Assign(
            targets=[ast.Attribute(attr="verify" | "check_hostname" | "verify_ssl")],
            value=ast.Constant(value=False),
        ):
            yield "tls-unverified"
        case ast.Attribute(ctx=ast.Load()) | ast.Name(ctx=ast.Load()):
            name = dotted_name(node, scope)
            if name in _UNVERIFIED_NAMES:
                yield "tls-unverified"
            if name in _OLD_PROTOCOLS:
                yield "tls-old"


def check_archive(node: ast.AST, scope: Scope) -> Iterator[str]:
    """`extractall` without a filter or a chosen list of members."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "extractall":
        chosen = (
            keyword(node, "filter")
            or keyword(node, "members")
            or (node.args[1] if len(node.args) > 1 else None)
        )
        if chosen is None or is_value(chosen, None):
            yield "archive-extract"


def check_secret(node: ast.AST, scope: Scope) -> Iterator[str]:
    """A credential is written in the code: assigned, compared, passed by name or kept in a dictionary."""
    for name, value in _named_values(node):
        text = value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
        rule = credential_rule(name, text) if text is not None else None
        if rule is not None:
            yield rule
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and is_written_key(node.value):
        yield "hardcoded-secret"


def _named_values(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield written_name(target), value
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            yield written_name(target), value
        case ast.Compare(left=left, comparators=[right]):
            yield written_name(left), right
            yield written_name(right), left
        case ast.Call(keywords=keywords):
            for item in keywords:
                yield item.arg or "", item.value
        case ast.Dict(keys=keys, values=values):
            for key, value in zip(keys, values, strict=True):
                yield written_name(key) if key is not None else "", value
        case ast.arguments(posonlyargs=first, args=args, defaults=defaults) if defaults:
            for argument, value in zip([*first, *args][-len(defaults) :], defaults, strict=True):
                yield argument.arg, value


def check_predictable_secret(node: ast.AST, scope: Scope) -> Iterator[str]:
    """What has the name of a secret is made with the module `random`."""
    for name, value in _named_values(node):
        if _NAME_OF_SECRET.search(name) and any(
            isinstance(part, ast.Call) and _is_predictable(part, scope) for part in ast.walk(value)
        ):
            yield "predictable-secret"


def _is_predictable(call: ast.Call, scope: Scope) -> bool:
    name = dotted_name(call.func, scope) or ""
    return name.startswith("random.") and name != "random.SystemRandom"


def check_server(node: ast.AST, scope: Scope) -> Iterator[str]:
    """A server that lets everybody debug it, or that everybody reaches."""
    match node:
        case ast.Call(func=ast.Attribute(attr=method)):
            if method in ("run", "runserver", "run_app") and is_value(keyword(node, "debug"), True):
                yield "debug-server"
            values = [
                *node.args,
                *(item.value for item in node.keywords if item.arg in ("host", "address", "bind")),
            ]
            parts = [
                part for value in values for part in (value.elts if isinstance(value, ast.Tuple) else [value])
            ]
            if method in ("bind", "run", "listen", "start_server", "run_app") and any(
                constant_text(part, scope) in _EVERY_ADDRESS for part in parts
            ):
                yield "bind-all"
        case ast.Assign(
            targets=[ast.Attribute(attr="debug", value=ast.Name(id="app"))], value=ast.Constant(value=True)
        ):
            yield "debug-server"


def check_assert(node: ast.AST, scope: Scope) -> Iterator[str]:
    """An assert is no check in optimised code."""
    if isinstance(node, ast.Assert):
        yield "assert-check"


def check_destruction(node: ast.AST, scope: Scope) -> Iterator[str]:
    """The root or the home folder is deleted, or a command destroys the system."""
    if not isinstance(node, ast.Call):
        return
    name = dotted_name(node.func, scope) or ""
    if name in ("shutil.rmtree", "os.removedirs", "os.rmdir"):
        target = first_argument(node)
        if target is not None and _is_root(target, scope):
            yield "delete-tree"
    elif _COMMANDS.match(name):
        command = command_text(node, scope)
        if _DESTRUCTIVE.search(command):
            yield "destructive-command"
        if _REVERSE_SHELL.search(command):
            yield "reverse-shell"


def _is_root(node: ast.expr, scope: Scope) -> bool:
    if constant_text(node, scope) in _ROOTS:
        return True
    match node:
        case ast.Call(func=func, args=args):
            name = dotted_name(func, scope) or ""
            if name in ("pathlib.Path.home", "Path.home"):
                return True
            wrappers = (
                "os.path.expanduser",
                "pathlib.Path",
                "Path",
                "str",
                "os.path.abspath",
                "os.path.expandvars",
                "os.fspath",
            )
            in_environment = (
                name in ("os.getenv", "os.environ.get")
                and bool(args)
                and constant_text(args[0], scope) == "HOME"
            )
            return in_environment or (name in wrappers and bool(args) and _is_root(args[0], scope))
        case ast.Subscript(value=value, slice=key):
            return dotted_name(value, scope) == "os.environ" and constant_text(key, scope) == "HOME"
    return constant_text(node, scope) in ("$HOME", "${HOME}")


def command_text(call: ast.Call, scope: Scope) -> str:
    """Return what is known of the command that a call runs."""
    argument = first_argument(call)
    if argument is None:
        return ""
    if isinstance(argument, ast.List | ast.Tuple):
        return " ".join(constant_text(part, scope) or "?" for part in argument.elts)
    return constant_text(argument, scope) or built_head(argument, scope) or ""


def check_reverse_shell(node: ast.AST, scope: Scope) -> Iterator[str]:
    """A socket becomes the standard input or output of a process."""
    match node:
        case ast.Call(
            func=func,
            args=[
                ast.Call(func=ast.Attribute(value=ast.Name(), attr="fileno")),
                ast.Constant(value=0 | 1 | 2),
            ],
        ):
            if dotted_name(func, scope) == "os.dup2":
                yield "reverse-shell"


def check_dynamic_attribute(node: ast.AST, scope: Scope) -> Iterator[str]:
    """`getattr(os, name)(...)`: which function runs is not in the code."""
    match node:
        case ast.Call(func=ast.Call() | ast.Name() as func) if any(
            _is_unknown_member(value, scope) for value in written_values(func, scope)
        ):
            yield "dynamic-attribute"
        case ast.Call(func=ast.Attribute(value=ast.Call(func=importer, args=[module, *_]), attr=attribute)):
            imports = ("__import__", "importlib.import_module")
            if (
                dotted_name(importer, scope) in imports
                and not is_constant(module, scope)
                and attribute in _RISKY_METHODS
            ):
                yield "dynamic-attribute"


def _is_unknown_member(node: ast.expr, scope: Scope) -> bool:
    match node:
        case ast.Call(func=getter, args=[module, name, *_]):
            return (
                dotted_name(getter, scope) == "getattr"
                and dotted_name(module, scope) in _DANGEROUS_MODULES
                and constant_text(name, scope) is None
            )
    return False


CHECKS: tuple[Check, ...] = (
    check_sql,
    check_sql_text,
    check_tls,
    check_archive,
    check_secret,
    check_predictable_secret,
    check_server,
    check_assert,
    check_destruction,
    check_reverse_shell,
    check_dynamic_attribute,
)
