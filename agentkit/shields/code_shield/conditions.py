"""The conditions that `rules.yaml` names in `when`: what about a call makes it an issue. One small question each."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping

from agentkit.shields.code_shield.scope import (
    Scope,
    constant_text,
    dotted_name,
    is_constant,
    written_values,
)

Condition = Callable[[ast.Call, Scope], bool]

_SAFE_LOADERS = ("SafeLoader", "CSafeLoader", "BaseLoader", "CBaseLoader")
_WEAK_HASHES = ("md5", "md4", "sha1", "sha", "sha-1")
_SHELLS = ("sh", "bash", "zsh", "/bin/sh", "/bin/bash", "cmd", "cmd.exe", "powershell", "/usr/bin/env")
_WRITABLE_BY_ALL = 0o002


_FIRST_NAMES = ("args", "cmd", "command", "source", "object", "path", "string", "input")


def keyword(call: ast.Call, name: str, scope: Scope | None = None) -> ast.expr | None:
    """Return the value of a keyword argument; with a scope also of one in a `**` of a written dictionary."""
    for item in call.keywords:
        if item.arg == name:
            return item.value
        if item.arg is None and scope is not None:
            for value in written_values(item.value, scope):
                found = _entry(value, name)
                if found is not None:
                    return found
    return None


def _entry(node: ast.expr, name: str) -> ast.expr | None:
    match node:
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return next(
                (value for key, value in pairs if isinstance(key, ast.Constant) and key.value == name), None
            )
        case ast.Call(func=ast.Name(id="dict"), keywords=keywords):
            return next((item.value for item in keywords if item.arg == name), None)
    return None


def _is_true(node: ast.expr | None) -> bool:
    """Say whether an expression is written as a constant that counts as true."""
    return isinstance(node, ast.Constant) and bool(node.value)


def is_value(node: ast.expr | None, value: object) -> bool:
    """Say whether an expression is written as this constant."""
    return isinstance(node, ast.Constant) and node.value is value


def first_argument(call: ast.Call) -> ast.expr | None:
    """Return the first argument, also where it is given by name."""
    if call.args:
        return call.args[0]
    named = next((value for name in _FIRST_NAMES if (value := keyword(call, name)) is not None), None)
    return named or (call.keywords[0].value if call.keywords else None)


def _dynamic_argument(call: ast.Call, scope: Scope) -> bool:
    argument = first_argument(call)
    return argument is not None and not is_constant(argument, scope)


def _constant_argument(call: ast.Call, scope: Scope) -> bool:
    argument = first_argument(call)
    return argument is not None and is_constant(argument, scope)


def _any_dynamic(call: ast.Call, scope: Scope) -> bool:
    values = [*call.args, *(item.value for item in call.keywords)]
    return any(
        not is_constant(value, scope) and not (dotted_name(value, scope) or "").startswith("os.P_")
        for value in values
    )


def _all_constant(call: ast.Call, scope: Scope) -> bool:
    return not _any_dynamic(call, scope)


def _uses_shell(call: ast.Call, scope: Scope) -> bool:
    shell = keyword(call, "shell", scope)
    # `shell=flag` may be true; only a written falsehood is none.
    if shell is not None and not (isinstance(shell, ast.Constant) and not shell.value):
        return True
    # Positional: Popen(args, bufsize, executable, stdin, stdout, stderr, preexec_fn, close_fds, shell).
    return len(call.args) > 8 and _is_true(call.args[8])


def _shell_script(call: ast.Call, scope: Scope) -> ast.expr | None:
    """Return the script of a `["sh", "-c", script]`."""
    given = first_argument(call)
    for argument in written_values(given, scope) if given is not None else ():
        if not isinstance(argument, ast.List | ast.Tuple) or len(argument.elts) < 3:
            continue
        program, option = (constant_text(part, scope) for part in argument.elts[:2])
        if program in _SHELLS and option in ("-c", "/c", "/C", "-Command", "-lc"):
            return argument.elts[2]
    return None


def _shell_true_dynamic(call: ast.Call, scope: Scope) -> bool:
    script = _shell_script(call, scope)
    if script is not None:
        return not is_constant(script, scope)
    return _uses_shell(call, scope) and _dynamic_argument(call, scope)


def _shell_true_constant(call: ast.Call, scope: Scope) -> bool:
    script = _shell_script(call, scope)
    if script is not None:
        return is_constant(script, scope)
    return _uses_shell(call, scope) and not _dynamic_argument(call, scope)


def _no_safe_loader(call: ast.Call, scope: Scope) -> bool:
    loader = keyword(call, "Loader") or (call.args[1] if len(call.args) > 1 else None)
    name = dotted_name(loader, scope) if loader is not None else None
    return name is None or name.rpartition(".")[2] not in _SAFE_LOADERS


def _not_weights_only(call: ast.Call, scope: Scope) -> bool:
    return not is_value(keyword(call, "weights_only"), True)


def _allow_pickle(call: ast.Call, scope: Scope) -> bool:
    allowed = keyword(call, "allow_pickle", scope) or (call.args[2] if len(call.args) > 2 else None)
    return _is_true(allowed)


def _for_security(call: ast.Call, scope: Scope) -> bool:
    return not is_value(keyword(call, "usedforsecurity"), False)


def _weak_hash_name(call: ast.Call, scope: Scope) -> bool:
    if not _for_security(call, scope):
        return False
    values = [*call.args, *(item.value for item in call.keywords)]
    names = [constant_text(value, scope) or dotted_name(value, scope) or "" for value in values]
    return any(name.lower().removeprefix("hashlib.") in _WEAK_HASHES for name in names)


def _ecb_mode(call: ast.Call, scope: Scope) -> bool:
    mode = keyword(call, "mode") or (call.args[1] if len(call.args) > 1 else None)
    name = dotted_name(mode, scope) if mode is not None else None
    return mode is not None and ((name or "").endswith("MODE_ECB") or is_value(mode, 1))


def _no_timeout(call: ast.Call, scope: Scope) -> bool:
    return keyword(call, "timeout") is None and all(item.arg is not None for item in call.keywords)


def _no_autoescape(call: ast.Call, scope: Scope) -> bool:
    autoescape = keyword(call, "autoescape")
    return autoescape is None or is_value(autoescape, False)


def _world_writable(call: ast.Call, scope: Scope) -> bool:
    mode = keyword(call, "mode") or (call.args[1] if len(call.args) > 1 else None)
    return (
        isinstance(mode, ast.Constant) and isinstance(mode.value, int) and bool(mode.value & _WRITABLE_BY_ALL)
    )


CONDITIONS: Mapping[str, Condition] = {
    "dynamic_argument": _dynamic_argument,
    "constant_argument": _constant_argument,
    "any_dynamic": _any_dynamic,
    "all_constant": _all_constant,
    "shell_true_dynamic": _shell_true_dynamic,
    "shell_true_constant": _shell_true_constant,
    "no_safe_loader": _no_safe_loader,
    "not_weights_only": _not_weights_only,
    "allow_pickle": _allow_pickle,
    "for_security": _for_security,
    "weak_hash_name": _weak_hash_name,
    "ecb_mode": _ecb_mode,
    "no_timeout": _no_timeout,
    "no_autoescape": _no_autoescape,
    "world_writable": _world_writable,
}
