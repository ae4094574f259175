"""What commands load by name: policy files, modules with shields, tools as `module:object`."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from agentkit.errors import AgentKitError, ConfigurationError
from agentkit.nearest import nearest

if TYPE_CHECKING:
    from agentkit.shields.policy import Policy
    from agentkit.tools.base import Tool


def load_policy(path: Path | None, *, model: str | None = None) -> Policy:
    """Read a policy file; None is the policy that an agent on the model has by default.

    Raises:
        ConfigurationError: if there is no such file; the message has the nearest one.
        PolicyError: if the file is not a policy.
    """
    from agentkit.shields.policy import Policy

    if path is None:
        return Policy.for_model(model)
    check_file(path, "policy file", suffixes=(".yaml", ".yml", ".json"))
    return Policy.load(path)


def import_modules(names: Iterable[str]) -> None:
    """Import modules that register shields. The current folder is looked in first.

    Raises:
        ConfigurationError: if one cannot be imported.
    """
    for name in names:
        _import(name, f"--import {name!r}")


def load_tools(references: Sequence[str]) -> list[Tool]:
    """Import tools by name. The current folder is looked in first.

    Raises:
        ConfigurationError: if a reference is malformed, cannot be imported, or is no tool.
    """
    return [_load_tool(reference) for reference in references]


def check_file(path: Path, noun: str, *, suffixes: tuple[str, ...]) -> None:
    """Accept a path that exists; what it holds is for its reader to say.

    Raises:
        ConfigurationError: otherwise, with the nearest file of these suffixes beside it.
    """
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder; name a {noun} in it")
    if path.exists():
        return
    folder = path.parent
    if not folder.is_dir():
        raise ConfigurationError(f"there is no {noun} {path}: there is no folder {folder}")
    beside = [file.name for file in folder.iterdir() if file.suffix in suffixes]
    near = nearest(path.name, beside)
    hint = f"; did you mean {str(folder / near)!r}?" if near else ""
    raise ConfigurationError(f"there is no {noun} {path}{hint}")


def _load_tool(reference: str) -> Tool:
    from agentkit.tools.base import Tool

    option = f"--tool {reference!r}"
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute or "/" in module_name or module_name.endswith(".py"):
        raise ConfigurationError(
            f"{option} must be module:object, for instance examples.weather:get_current_temperature"
        )
    module = _import(module_name, option)
    found = getattr(module, attribute, None)
    if isinstance(found, Tool):
        return found
    tools = [name for name, value in vars(module).items() if isinstance(value, Tool)]
    if callable(found):
        raise ConfigurationError(f"{option}: {attribute} is a plain function; write @tool above it")
    near = nearest(attribute, tools)
    hint = f"did you mean {near!r}?" if near else f"its tools are {', '.join(tools) or 'none'}"
    raise ConfigurationError(f"{option}: {module_name} has no tool {attribute!r}; {hint}")


def _import(name: str, option: str) -> ModuleType:
    if "" not in sys.path:
        sys.path.insert(0, "")
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{option}: {_not_found(name, error)}") from error
    except AgentKitError as error:
        raise ConfigurationError(f"{option}: {error}") from error
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"{option}: importing {name} failed: {_told(error)}") from error


def _not_found(name: str, error: ModuleNotFoundError) -> str:
    if error.name is None or not f"{name}.".startswith(f"{error.name}."):
        return f"importing {name} failed: {error}"
    near = nearest(error.name, _siblings(error.name))
    hint = f"did you mean {near!r}?" if near else "run in the folder that holds it, or install it"
    return f"there is no module {error.name!r}; {hint}"


def _siblings(name: str) -> list[str]:
    """Return the modules that there are beside one, in its package or in the current folder."""
    package = name.rpartition(".")[0]
    folders: Iterable[str] = [""]
    if package:
        spec = importlib.util.find_spec(package)
        folders = (spec.submodule_search_locations if spec else None) or []
    prefix = f"{package}." if package else ""
    return [prefix + module.name for module in pkgutil.iter_modules(list(folders))]


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
