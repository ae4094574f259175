"""`agentkit models` and `agentkit doctor`: what is here, and whether it is safe to run."""

from __future__ import annotations

import json
import platform
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import anyio
import typer

from agentkit.agent.runtime import EngineRoom
from agentkit.errors import AgentKitError
from agentkit.inference.base import SamplingParams, collect
from agentkit.inference.catalog import CatalogEntry, known_models
from agentkit.shields.pipeline import Pipeline
from agentkit.shields.policy import Policy
from agentkit.shields.policy_tests import run_policy_tests

_PACKAGES = ("agentkit", "torch", "transformers", "tokenizers", "llguidance", "gguf", "pydantic")


def run_models(*, as_json: bool) -> int:
    """List the catalogue."""
    entries = [_describe(entry) for entry in known_models()]
    if as_json:
        typer.echo(json.dumps(entries))
        return 0
    for entry in entries:
        where = entry["location"] or ("needs a download, gated" if entry["gated"] else "needs a download")
        typer.echo(
            f"{entry['name']:<30} {entry['role']:<10} {entry['size']:>8}  {entry['licence']:<34} {where}"
        )
    return 0


def _describe(entry: CatalogEntry) -> dict[str, object]:
    location = entry.location()
    return {
        "name": entry.name,
        "hub_id": entry.hub_id,
        "role": entry.role,
        "parameters": entry.parameters,
        "size": _size(entry.download_bytes),
        "download_bytes": entry.download_bytes,
        "licence": entry.licence,
        "gated": entry.gated,
        "location": str(location) if location is not None else None,
    }


def _size(num_bytes: int | None) -> str:
    if num_bytes is None:
        return "?"
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that the doctor looked at. An agent is unsafe where a `required` check is not `ok`."""

    name: str
    ok: bool
    required: bool
    detail: str


def run_doctor(model: str, *, policy: Path | None, as_json: bool) -> int:
    """Check everything; return 1 if the agent would be unsafe."""
    checks = anyio.run(_doctor, model, policy)
    safe = all(check.ok for check in checks if check.required)
    if as_json:
        typer.echo(json.dumps({"safe": safe, "checks": [asdict(check) for check in checks]}))
    else:
        for check in checks:
            mark = "ok  " if check.ok else ("FAIL" if check.required else "none")
            typer.echo(f"{mark} {check.name}: {check.detail}")
    return 0 if safe else 1


async def _doctor(model: str, policy: Path | None) -> list[Check]:
    checks = [_versions()]
    async with AsyncExitStack() as closing:
        room = EngineRoom(closing)
        checks.append(await _attempt("shields", required=True, check=lambda: _shields(policy, room)))
        checks.append(await _attempt("embedded model", required=False, check=lambda: _model(model, room)))
    return checks


def _versions() -> Check:
    found = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} missing")
    return Check(name="versions", ok=True, required=False, detail=", ".join(found))


async def _attempt(name: str, *, required: bool, check: Callable[[], Awaitable[Check]]) -> Check:
    try:
        return await check()
    except AgentKitError as error:
        return Check(name=name, ok=False, required=required, detail=str(error))


async def _shields(policy: Path | None, room: EngineRoom) -> Check:
    """Start every shield of the policy and run the policy's own tests: a shield that tells nothing apart fails."""
    loaded = Policy.load(policy) if policy is not None else Policy.default()
    async with Pipeline(loaded, engines=room.shield_engine) as pipeline:
        results = await run_policy_tests(pipeline)
    failed = [str(number) for number, result in enumerate(results, start=1) if not result.passed]
    names = ", ".join(loaded.shields)
    if failed:
        return Check(
            name="shields",
            ok=False,
            required=True,
            detail=f"policy tests {', '.join(failed)} failed ({names})",
        )
    return Check(
        name="shields", ok=True, required=True, detail=f"{names}; {len(results)} policy tests passed"
    )


async def _model(model: str, room: EngineRoom) -> Check:
    engine = await room.engine(model)
    prompt = engine.tokenizer.encode("The capital of France is")
    completion = await collect(engine.generate(prompt, SamplingParams(max_tokens=4)))
    speed = completion.usage.output_tokens / max(completion.usage.decode_seconds, 1e-9)
    return Check(
        name="embedded model",
        ok=True,
        required=False,
        detail=f"{model}, context {engine.context_length}, about {speed:.0f} tokens/s on this machine",
    )
