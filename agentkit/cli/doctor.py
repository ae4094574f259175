"""`agentkit doctor`: whether an agent under a policy would start here, and be guarded."""

from __future__ import annotations

import os
import platform
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from agentkit.agent.runtime import EngineRoom
from agentkit.cli.exit_codes import EXIT_FINDING, EXIT_OK
from agentkit.cli.loading import import_modules, load_policy
from agentkit.cli.output import write_json, write_line
from agentkit.errors import AgentKitError
from agentkit.inference.base import SamplingParams, collect
from agentkit.inference.catalog import known_models
from agentkit.shields.base import Stage
from agentkit.shields.pipeline import Pipeline
from agentkit.shields.policy import Policy
from agentkit.shields.policy_model import Mode
from agentkit.shields.policy_tests import run_policy_tests
from agentkit.tools.sandbox.choice import describe_sandbox, no_sandbox

if TYPE_CHECKING:
    from agentkit.inference.remote import RemoteEngine

_PACKAGES = ("agentkit", "torch", "transformers", "tokenizers", "llguidance", "gguf", "pydantic", "anyio")


_LOCAL_MODEL = "embedded model"
_SERVER = "model server"


class Status(StrEnum):
    """How a check ended. An agent is unsafe, or cannot start, where one failed."""

    OK = "ok"
    NOTE = "note"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that the doctor looked at."""

    name: str
    status: Status
    detail: str


def run_doctor(model: str | RemoteEngine, *, policy: Path | None, imports: list[str], as_json: bool) -> int:
    """Check everything; return 1 if the agent would be unsafe."""
    import_modules(imports)
    # An agent on the embedded model has probes; where it is not installed, agents run on another.
    installed = {one.name for one in known_models() if one.location() is not None}
    probed = model if isinstance(model, str) and model in installed else None
    checks = anyio.run(_doctor, model, load_policy(policy, model=probed))
    safe = all(check.status is not Status.FAILED for check in checks)
    if as_json:
        write_json({"safe": safe, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            write_line(f"{check.status.value:<6}  {check.name}: {check.detail}")
        write_line("The agent would be guarded." if safe else "Not safe: see what failed above.")
    return EXIT_OK if safe else EXIT_FINDING


async def _doctor(model: str | RemoteEngine, policy: Policy) -> list[Check]:
    checks = [_versions(), _machine(), _stages(policy), await anyio.to_thread.run_sync(_sandbox)]
    async with AsyncExitStack() as closing:
        room = EngineRoom(closing)
        checks.append(await _attempt("shields", Status.FAILED, lambda: _shields(policy, room)))
        if isinstance(model, str):
            # An agent may run on another model, so this one only deserves a note.
            checks.append(await _attempt(_LOCAL_MODEL, Status.NOTE, lambda: _model(model, room)))
        else:
            checks.append(await _attempt(_SERVER, Status.FAILED, lambda: _server(model)))
    return checks


async def _attempt(name: str, otherwise: Status, check: Callable[[], Awaitable[Check]]) -> Check:
    try:
        return await check()
    except AgentKitError as error:
        return Check(name=name, status=otherwise, detail=str(error))


def _versions() -> Check:
    missing = []
    found = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        detail = f"not installed: {', '.join(missing)}; install agentkit with its dependencies"
        return Check(name="versions", status=Status.FAILED, detail=detail)
    return Check(name="versions", status=Status.OK, detail=", ".join(found))


def _machine() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    detail = f"{platform.system()} {platform.machine()}, {cores} cores"
    if find_spec("numba") is None:
        detail += "; numba is not installed: without it a CPU decodes more slowly, from weights in fp32"
        return Check(name="machine", status=Status.NOTE, detail=detail)
    return Check(name="machine", status=Status.OK, detail=detail)


def _sandbox() -> Check:
    """Say where `code_interpreter` would run code; an agent without it needs no sandbox."""
    problem = no_sandbox()
    if problem is not None:
        detail = f"none, so code_interpreter cannot be used: {problem}"
        return Check(name="sandbox", status=Status.NOTE, detail=detail)
    return Check(name="sandbox", status=Status.OK, detail=describe_sandbox())


def _stages(policy: Policy) -> Check:
    """Say where nothing decides: a written choice, which somebody should see."""
    open_stages = [
        stage.value
        for stage in Stage
        if all(policy.mode_of(rule) is Mode.SHADOW for rule in policy.rules(stage))
    ]
    if len(open_stages) == len(Stage):
        detail = f"{policy.path}: no shield decides anything at any stage"
        return Check(name="policy", status=Status.FAILED, detail=detail)
    if open_stages:
        detail = f"{policy.path}: no shield decides at {', '.join(open_stages)}"
        return Check(name="policy", status=Status.NOTE, detail=detail)
    return Check(name="policy", status=Status.OK, detail=f"{policy.path}: shields decide at every stage")


async def _shields(policy: Policy, room: EngineRoom) -> Check:
    """Start every shield and run the policy's own tests: a shield that tells nothing apart fails them."""
    async with Pipeline(policy, engines=room.shield_engine) as pipeline:
        results = await run_policy_tests(pipeline)
        untested = pipeline.untested
    names = ", ".join(policy.shields) or "none"
    failed = [str(number) for number, result in enumerate(results, start=1) if not result.passed]
    if failed:
        detail = f"{names} started; of {len(results)} policy tests failed: {', '.join(failed)} (`agentkit policy test`)"
        return Check(name="shields", status=Status.FAILED, detail=detail)
    if not results:
        detail = f"{names} started; the policy has no tests, so nothing shows that they work"
        return Check(name="shields", status=Status.NOTE, detail=detail)
    detail = f"{names} started; {len(results)} policy tests passed"
    if untested:
        detail += f"; no self-test at the start has {', '.join(untested)}"
        return Check(name="shields", status=Status.NOTE, detail=detail)
    return Check(name="shields", status=Status.OK, detail=detail)


async def _model(model: str, room: EngineRoom) -> Check:
    engine = await room.engine(model)
    prompt = engine.tokenizer.encode("The capital of France is")
    completion = await collect(engine.generate(prompt, SamplingParams(max_tokens=8)))
    speed = completion.usage.output_tokens / max(completion.usage.decode_seconds, 1e-9)
    detail = f"{model}, context {engine.context_length}, about {speed:.0f} tokens/s here"
    return Check(name=_LOCAL_MODEL, status=Status.OK, detail=detail)


async def _server(engine: RemoteEngine) -> Check:
    """Say what the server of a model cannot do: all of that leaves an agent guarded, and some of it costs."""
    capabilities = await engine.start()
    detail = f"{engine.name}, context {engine.context_length}"
    if capabilities.missing:
        detail += "".join(f"; it lacks {missing}" for missing in capabilities.missing)
        return Check(name=_SERVER, status=Status.NOTE, detail=detail)
    return Check(name=_SERVER, status=Status.OK, detail=f"{detail}; it lacks nothing")
