"""The checks of Code Shield that are more than a call of a name: each takes a node and yields the rules it breaks."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from agentkit.shields.code_shield.conditions import first_argument, is_value, keyword
from agentkit.shields.code_shield.scope import Scope, constant_text, dotted_name, is_constant, terms

Check = Callable[[ast.AST, Scope], Iterator[str]]

_SQL = re.compile(
    r"\s*[(\"']*\s*(?:select\b.{0,400}\bfrom\b|insert\s+(?:\w+\s+)?into\b|update\b.{0,200}\bset\b|delete\s+from\b|"
    r"replace\s+into\b|drop\s+(?:table|database|index|view|user)\b|create\s+(?:\w+\s+){0,2}(?:table|database|user|view|index)\b|"
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
_SQL_METHODS = frozenset(
    "execute executemany executescript raw query mogrify read_sql read_sql_query run_query execute_query fetch "
    "fetchrow fetchval scalar do_query runQuery exec_driver_sql extra query_db".split()  # noqa: SIM905
)
_HTTP_METHODS = frozenset(
    "get post put patch delete head options request send Session Client AsyncClient stream".split()  # noqa: SIM905
)
_UNVERIFIED_NAMES = ("ssl._create_unverified_context", "ssl.CERT_NONE")
_OLD_PROTOCOLS = ("ssl.PROTOCOL_SSLv2", "ssl.PROTOCOL_SSLv3", "ssl.PROTOCOL_TLSv1", "ssl.PROTOCOL_TLSv1_1")
_DANGEROUS_MODULES = frozenset(
    "os subprocess builtins __builtins__ shutil pickle importlib ctypes pty".split()  # noqa: SIM905
)

_SECRET_NAME = re.compile(
    r"(?:^|_|\b)(?:password|passwd|pwd|passphrase|secret|api_?key|apikey|auth_?token|access_?token|access_?key|"
    r"secret_?key|private_?key|client_?secret|token|credentials?|db_?pass)$",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"|none|null|true|false|x+|\*+|\.+|-+|password|passwd|secret|token|test\w*|example|changeme|change_me|default|username|"
    r"user|admin|foo|bar|key|.*(?:your|my|enter|insert|example|placeholder|dummy|fake|sample|change).*|<.*>|\{.*\}|\$.*|"
    r"%.*|[a-z]+[ :].*|.*[\s:/\\<>\[\]].*",
    re.IGNORECASE,
)
_DESTRUCTIVE = re.compile(
    r"\brm\s+(?:-[a-zA-Z-]+\s+)*-[a-zA-Z]*[rR][a-zA-Z]*\s+(?:-[a-zA-Z-]+\s+)*[\"']?(?:/\*?|~/?\*?|\$HOME/?\*?|\.\./?\*?)[\"']?(?:\s|$|;|&)|"
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
_WRITTEN_KEY = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]{0,24}PRIVATE KEY-----|gh[pousr]_\w{36}|sk_live_\w{24}|xox[bp]-\d|AIza[\w-]{35}|Bearer ya29\."
)


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
    ):
        yield "sql-built"
    elif (
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
    head = _built_head(node, scope)
    return head is not None and pattern.match(head) is not None


def _is_database(function: ast.expr) -> bool:
    """Say whether `execute` is called on something that is named like a cursor or a connection."""
    receiver = function.value if isinstance(function, ast.Attribute) else None
    name = _target_name(receiver) if receiver is not None else ""
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


def _built_head(node: ast.expr, scope: Scope) -> str | None:
    """Return the constant text of an expression that also holds values, or None."""
    match node:
        case ast.JoinedStr(values=values) if not all(is_constant(value, scope) for value in values):
            return "".join(part.value if isinstance(part, ast.Constant) else " x " for part in values)
        case ast.BinOp(left=left, op=ast.Mod(), right=right) if not is_constant(right, scope):
            return constant_text(left, scope)
        case ast.BinOp(op=ast.Add()) if not is_constant(node, scope):
            return "".join(
                constant_text(part, scope) or _built_head(part, scope) or " x " for part in terms(node)
            )
        case ast.Call(func=ast.Attribute(value=template, attr="format")) if not is_constant(node, scope):
            return constant_text(template, scope)
    return None


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
            if name in _UNVERIFIED_NAMES and not (isinstance(node, ast.Name) and scope.find(node.id) is None):
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
        if text is None or not _SECRET_NAME.search(name) or len(text) < 3:
            continue
        if _PLACEHOLDER.fullmatch(text):
            continue
        looks_drawn = len(text) >= 8 and any(map(str.isdigit, text)) and any(map(str.isalpha, text))
        yield "hardcoded-secret" if looks_drawn else "hardcoded-password"
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and _WRITTEN_KEY.search(node.value):
        yield "hardcoded-secret"


def _named_values(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield _target_name(target), value
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            yield _target_name(target), value
        case ast.Compare(left=left, comparators=[right]):
            yield _target_name(left), right
            yield _target_name(right), left
        case ast.Call(keywords=keywords):
            for item in keywords:
                yield item.arg or "", item.value
        case ast.Dict(keys=keys, values=values):
            for key, value in zip(keys, values, strict=True):
                yield _target_name(key) if key is not None else "", value
        case ast.arguments(posonlyargs=first, args=args, defaults=defaults) if defaults:
            for argument, value in zip([*first, *args][-len(defaults) :], defaults, strict=True):
                yield argument.arg, value


def _target_name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str() as name)) | ast.Constant(value=str() as name):
            return name
    return ""


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
                constant_text(part, scope) in ("0.0.0.0", "::")
                for part in parts  # noqa: S104  # looked for, not bound
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
        command = _command_text(node, scope)
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


def _command_text(call: ast.Call, scope: Scope) -> str:
    argument = first_argument(call)
    if argument is None:
        return ""
    if isinstance(argument, ast.List | ast.Tuple):
        return " ".join(constant_text(part, scope) or "?" for part in argument.elts)
    return constant_text(argument, scope) or _built_head(argument, scope) or ""


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
        case ast.Call(func=ast.Call(func=getter, args=[module, name, *_])):
            if dotted_name(getter, scope) == "getattr" and dotted_name(module, scope) in _DANGEROUS_MODULES:
                if constant_text(name, scope) is None:
                    yield "dynamic-attribute"
        case ast.Call(func=ast.Attribute(value=ast.Call(func=importer, args=[module, *_]), attr=attribute)):
            imports = ("__import__", "importlib.import_module")
            if (
                dotted_name(importer, scope) in imports
                and not is_constant(module, scope)
                and attribute in _RISKY_METHODS
            ):
                yield "dynamic-attribute"


_RISKY_METHODS = frozenset("system popen run call Popen check_output exec eval loads load spawn".split())  # noqa: SIM905

CHECKS: tuple[Check, ...] = (
    check_sql,
    check_sql_text,
    check_tls,
    check_archive,
    check_secret,
    check_server,
    check_assert,
    check_destruction,
    check_reverse_shell,
    check_dynamic_attribute,
)
