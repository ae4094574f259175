"""What a name in Python code means: imports, aliases and constants, followed through scopes. Knows no rules."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

# Names lead to values that lead to names: each step may double the work.
_DEEPEST = 16
# What is in a container is up to eight expressions, which may be in containers: after two of them it is deep enough.
_CONTAINER_DEPTH = 6
_LONGEST_TEXT = 10_000
_MOST_NAMES = 8
_BUILTIN_HOMES = ("builtins.", "__builtin__.", "__builtins__.")
# What fragments call things whose import they leave out.
_CUSTOMARY = {
    "np": "numpy",
    "pd": "pandas",
    "ET": "xml.etree.ElementTree",
    "etree": "lxml.etree",
    "minidom": "xml.dom.minidom",
    "AES": "Crypto.Cipher.AES",
    "DES": "Crypto.Cipher.DES",
    "DES3": "Crypto.Cipher.DES3",
    "ARC4": "Crypto.Cipher.ARC4",
    "Blowfish": "Crypto.Cipher.Blowfish",
    "modes": "cryptography.hazmat.primitives.ciphers.modes",
    "algorithms": "cryptography.hazmat.primitives.ciphers.algorithms",
    "hashes": "cryptography.hazmat.primitives.hashes",
    "render_template_string": "flask.render_template_string",
    "check_output": "subprocess.check_output",
    "check_call": "subprocess.check_call",
    "Popen": "subprocess.Popen",
    "getoutput": "subprocess.getoutput",
    "getstatusoutput": "subprocess.getstatusoutput",
    "system": "os.system",
    "popen": "os.popen",
    "md5": "hashlib.md5",
    "sha1": "hashlib.sha1",
    "randint": "random.randint",
    "mktemp": "tempfile.mktemp",
    "rmtree": "shutil.rmtree",
    "mark_safe": "django.utils.safestring.mark_safe",
}
_LEAKED_MODULE = re.compile(r"\w[\w.]*\.((?:os|sys|builtins)\.\w)")
# However a C library is reached, its functions are called `ctypes.library.…` in the rules.
_NATIVE_LIBRARY = re.compile(r"^ctypes\.(?:cdll|windll|oledll|pydll)\.(?!LoadLibrary\b)\w+")
_NATIVE_LOADERS = frozenset(
    f"ctypes.{name}"
    for name in (
        "CDLL",
        "PyDLL",
        "WinDLL",
        "OleDLL",
        "cdll.LoadLibrary",
        "windll.LoadLibrary",
        "pydll.LoadLibrary",
    )
)
_SAME_MODULE = {"posix": "os", "nt": "os", "cPickle": "pickle", "_pickle": "pickle"}


@dataclass(slots=True)
class Binding:
    """What a name may be bound to in one scope: dotted names, the newest first, and the expressions that were assigned.

    `unknown` says that it may be something else too.
    """

    dotted: tuple[str, ...] = ()
    values: list[ast.expr] = field(default_factory=list)
    unknown: bool = False


@dataclass(slots=True)
class Scope:
    """The names of a module, class or function, and of what is around it."""

    parent: Scope | None = None
    names: dict[str, Binding] = field(default_factory=dict)
    star_imports: list[str] = field(default_factory=list)

    def find(self, name: str) -> Binding | None:
        """Return what a name is bound to here or further out."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent
        return None

    def knows(self, name: str) -> bool:
        """Say whether a name is bound in the code, or is a built-in one."""
        return self.find(name) is not None or hasattr(builtins, name)

    def stars(self) -> list[str]:
        """Return the modules of which everything was imported."""
        return self.star_imports if self.parent is None else self.parent.stars()

    def shadow(self, name: str) -> None:
        """Bind a name to something unknown, such as an argument. What it was before stays a possibility."""
        self._binding(name).unknown = True

    def assign(self, name: str, value: ast.expr) -> None:
        """Bind a name to a value. What it was before stays a possibility, as the code may branch."""
        found = dotted_names(value, self)
        binding = self._binding(name)
        binding.dotted = _distinct((*found, *binding.dotted))
        binding.values = [*binding.values[-7:], value]

    def refer(self, name: str, dotted: str) -> None:
        """Bind a name to what an import brings. What it was before stays a possibility."""
        binding = self._binding(name)
        binding.dotted = _distinct((dotted, *binding.dotted))

    def _binding(self, name: str) -> Binding:
        # A module's name is the built-in one until it is assigned, which may be never.
        is_built_in = self.parent is None and hasattr(builtins, name)
        return self.names.setdefault(name, Binding(dotted=(name,) if is_built_in else ()))


def bind_imports(nodes: Iterable[ast.AST], scope: Scope) -> None:
    """Bind every import, wherever it stands: a function may run after an import further down."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                scope.refer(name, alias.name if alias.asname else name)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                if alias.name == "*":
                    scope.star_imports.append(module)
                else:
                    scope.refer(alias.asname or alias.name, f"{module}.{alias.name}".lstrip("."))


def dotted_name(node: ast.expr, scope: Scope, depth: int = 0) -> str | None:
    """Return the dotted name that an expression most likely stands for, or None."""
    return next(iter(dotted_names(node, scope, depth)), None)


def dotted_names(node: ast.expr, scope: Scope, depth: int = 0) -> tuple[str, ...]:
    """Return the dotted names that an expression may stand for. A name bound nowhere stands for itself."""
    if depth > _DEEPEST:
        return ()
    names: Iterable[str | None] = ()
    match node:
        case ast.Name():
            names = _plain_names(node.id, scope)
        case ast.Attribute(value=value, attr=attr):
            names = [_member(base, attr) for base in dotted_names(value, scope, depth + 1)]
        case ast.Call(func=func, args=args, keywords=keywords):
            given = [*args, *(keyword.value for keyword in keywords)]
            found = dotted_names(func, scope, depth + 1)
            names = [_called(function, given, scope, depth) for function in found]
        case ast.Subscript(value=value, slice=key):
            text = constant_text(key, scope, depth + 1)
            names = [_item(base, text) for base in dotted_names(value, scope, depth + 1)]
            names += [
                name
                for part in _elements(value, scope)
                for name in dotted_names(part, scope, depth + _CONTAINER_DEPTH)
            ]
        case ast.NamedExpr(value=value):
            names = dotted_names(value, scope, depth + 1)
        case ast.IfExp(body=first, orelse=second):
            names = dotted_names(first, scope, depth + 1) + dotted_names(second, scope, depth + 1)
        case ast.BoolOp(values=values):
            names = [name for value in values for name in dotted_names(value, scope, depth + 1)]
    return _distinct(canonical(name) for name in names if name)


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))[:_MOST_NAMES]


def written_values(node: ast.expr, scope: Scope) -> list[ast.expr]:
    """Return the expressions that a name was assigned, or the expression itself."""
    if isinstance(node, ast.Name):
        binding = scope.find(node.id)
        return binding.values if binding else []
    return [node]


def _elements(node: ast.expr, scope: Scope) -> list[ast.expr]:
    """Return what is in a list, tuple or dictionary that is written in the code."""
    found: list[ast.expr] = []
    for value in written_values(node, scope):
        match value:
            case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Dict(values=parts):
                found += parts
            case ast.Call(func=ast.Name(id="dict"), keywords=keywords):
                found += [keyword.value for keyword in keywords]
    return found[:_MOST_NAMES]


def canonical(name: str) -> str:
    """Return the usual spelling of a dotted name."""
    for home in _BUILTIN_HOMES:
        name = name.removeprefix(home)
    if name.startswith("ctypes."):
        name = _NATIVE_LIBRARY.sub("ctypes.library", name)
    # Modules are also reached through the modules that import them: `shutil.os.system`.
    if module := _LEAKED_MODULE.match(name):
        name = name[module.start(1) :]
    first, dot, rest = name.partition(".")
    return _SAME_MODULE.get(first, first) + dot + rest


def _plain_names(name: str, scope: Scope) -> tuple[str, ...]:
    binding = scope.find(name)
    return (_CUSTOMARY.get(name, name),) if binding is None else binding.dotted


def _member(base: str | None, attribute: str) -> str | None:
    if base is None:
        return None
    return base if attribute in ("__dict__", "__call__") else f"{base}.{attribute}"


def _called(function: str | None, args: list[ast.expr], scope: Scope, depth: int) -> str | None:
    if function in _NATIVE_LOADERS:
        return "ctypes.library"
    if function == "getattr" and len(args) >= 2:
        attribute = constant_text(args[1], scope, depth + 1)
        return _member(dotted_name(args[0], scope, depth + 1), attribute) if attribute else None
    if function in ("__import__", "importlib.import_module", "importlib.__import__") and args:
        return constant_text(args[0], scope, depth + 1)
    if function is not None and args and function.endswith((".get", ".__getattribute__", ".__getitem__")):
        return _item(function.rpartition(".")[0], constant_text(args[0], scope, depth + 1))
    if function == "vars" and args:
        return dotted_name(args[0], scope, depth + 1)
    return "builtins" if function in ("globals", "locals") else None


def _item(base: str | None, key: str | None) -> str | None:
    if base is None or key is None:
        return None
    if base in ("sys.modules", "builtins", "__builtins__"):
        return key
    return f"{base}.{key}" if key.isidentifier() else None


def constant_text(node: ast.expr, scope: Scope, depth: int = 0) -> str | None:
    """Return the text that an expression always has, following names, sums, joins and reversals."""
    if depth > _DEEPEST:
        return None
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.Name(id=name):
            binding = scope.find(name)
            if binding and not binding.unknown and len(binding.values) == 1 and binding.values[0] is not node:
                return constant_text(binding.values[0], scope, depth + 1)
        case ast.BinOp(op=ast.Add()):
            return _joined(terms(node), "", scope, depth)
        case ast.JoinedStr(values=values):
            return _joined(values, "", scope, depth)
        case ast.FormattedValue(value=value):
            return constant_text(value, scope, depth + 1)
        case ast.Call(
            func=ast.Attribute(value=glue, attr="join"), args=[ast.List(elts=parts) | ast.Tuple(elts=parts)]
        ):
            between = constant_text(glue, scope, depth + 1)
            return None if between is None else _joined(parts, between, scope, depth)
        case ast.Subscript(
            value=value, slice=ast.Slice(lower=None, upper=None, step=ast.UnaryOp(op=ast.USub()))
        ):
            text_or_none = constant_text(value, scope, depth + 1)
            return None if text_or_none is None else text_or_none[::-1]
    return None


def _joined(parts: list[ast.expr], glue: str, scope: Scope, depth: int) -> str | None:
    texts: list[str] = []
    length = 0
    for part in parts:
        text = constant_text(part, scope, depth + 1)
        length += len(text or "")
        if text is None or length > _LONGEST_TEXT:
            return None
        texts.append(text)
    return glue.join(texts)


def terms(node: ast.expr) -> list[ast.expr]:
    """Return the parts of a sum, in order, however long it is."""
    parts: list[ast.expr] = []
    pending = [node]
    while pending:
        part = pending.pop()
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Add):
            pending += [part.left, part.right]
        else:
            parts.append(part)
    return parts[::-1]


def is_constant(node: ast.expr, scope: Scope, depth: int = 0) -> bool:
    """Say whether an expression is made of constants alone."""
    if depth > _DEEPEST:
        return False
    match node:
        case ast.Constant():
            return True
        case ast.Name(id=name):
            binding = scope.find(name)
            if binding is None or binding.unknown or not binding.values:
                return False
            return all(value is not node and is_constant(value, scope, depth + 1) for value in binding.values)
        case ast.BinOp(op=ast.Add()):
            return all(is_constant(part, scope, depth + 1) for part in terms(node))
        case ast.BinOp(left=left, right=right):
            return is_constant(left, scope, depth + 1) and is_constant(right, scope, depth + 1)
        case ast.JoinedStr(values=parts) | ast.List(elts=parts) | ast.Tuple(elts=parts):
            return all(is_constant(part, scope, depth + 1) for part in parts)
        case ast.FormattedValue(value=value) | ast.Starred(value=value):
            return is_constant(value, scope, depth + 1)
        case ast.IfExp(body=body, orelse=orelse):
            return is_constant(body, scope, depth + 1) and is_constant(orelse, scope, depth + 1)
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str())), args=args, keywords=keywords):
            values = [*args, *(keyword.value for keyword in keywords)]
            return all(is_constant(value, scope, depth + 1) for value in values)
    return False


def written_name(node: ast.expr) -> str:
    """Return the last name or key that is written in a target, or nothing."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str() as name)) | ast.Constant(value=str() as name):
            return name
    return ""
