"""Which engines run against each other, on what weights and in which environment."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from gguf import GGMLQuantizationType

from agentkit.inference.catalog import EMBEDDED_MODEL, resolve
from benchmarks.engines.weights import once, write_gguf, write_safetensors

Precision = Literal["fp32", "bf16", "int8"]
"""Of the weights; what fp32 names is fp32 throughout, the KV cache included."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

ROOT = Path(__file__).parents[2]
PEERS = ROOT / ".peers"
"""The environments that `make bench-peers` makes, and the weights."""

WEIGHTS = PEERS / "weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One engine at one precision; `environment` is None where it runs in agentkit's own.

    `bare_module` is the engine's model without the engine, where that can be measured.
    """

    engine: str
    module: str
    precision: Precision
    weights: str
    environment: str | None
    bare_module: str | None = None

    @property
    def name(self) -> str:
        """What reports and the command line call it."""
        return name_of(self.engine, self.precision)

    @property
    def bare(self) -> Contender | None:
        """Its model without the engine."""
        return None if self.bare_module is None else replace(self, module=self.bare_module)

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return Path(sys.executable) if self.environment is None else _python(self.environment)

    def why_not(self) -> str | None:
        """Return why it cannot run here, or None."""
        if self.environment is None:
            return None
        reason = reason_file(self.environment)
        if reason.exists():
            return reason.read_text()
        return None if self.python.exists() else "not installed (make bench-peers)"


def name_of(engine: str, precision: str) -> str:
    """Return the name of an engine at a precision; the plain one is fp32."""
    return engine if precision == "fp32" else f"{engine}-{precision}"


def engine_and_precision(name: str) -> tuple[str, str]:
    """Return what `name_of` made a name of."""
    engine, _, precision = name.partition("-")
    return engine, precision or "fp32"


def reason_file(environment: str) -> Path:
    """Return where it is written why an environment could not be made."""
    return PEERS / f"{environment}.reason"


def _agentkit(precision: Precision) -> Contender:
    return Contender(
        engine="agentkit",
        module="agentkit_peer",
        precision=precision,
        weights="f32.gguf",
        environment=None,
        bare_module="agentkit_forward",
    )


REFERENCE = _agentkit("fp32")
"""What every other engine's output is compared with."""


LOOKUP = replace(REFERENCE, engine="agentkit_lookup", module="agentkit_lookup_peer", bare_module=None)
"""agentkit with prompt lookup, which is on by default: apart, for no other engine drafts here."""


def contenders() -> tuple[Contender, ...]:
    """Return all of them, the reference first."""
    ours = (_agentkit("bf16"), _agentkit("int8"), LOOKUP)
    theirs = (
        replace(_peer("transformers", "fp32", "safetensors"), environment=None),
        replace(_peer("transformers", "bf16", "safetensors"), environment=None),
        _peer("llama_cpp", "fp32", "f32.gguf"),
        _peer("llama_cpp", "int8", "q8_0.gguf"),
        _peer("openvino", "fp32", "openvino-fp32"),
        _peer("openvino", "bf16", "openvino-fp32"),
        _peer("openvino", "int8", "openvino-int8"),
        _peer("vllm", "fp32", "safetensors"),
        _peer("vllm", "bf16", "safetensors"),
    )
    return (REFERENCE, *ours, *theirs)


def usual_contenders() -> tuple[Contender, ...]:
    """Return those of a run that names none: without other engines in bf16, which would add a third to its time."""
    return tuple(
        contender
        for contender in contenders()
        if contender.engine == REFERENCE.engine or contender.precision != "bf16"
    )


def weights_of(contender: Contender) -> Path:
    """Return the weights that a contender reads, written first where they are missing."""
    source = resolve(EMBEDDED_MODEL).path
    path = WEIGHTS / contender.weights
    match contender.weights:
        case "f32.gguf":
            return once(path, lambda new: write_gguf(source, new, GGMLQuantizationType.F32))
        case "q8_0.gguf":
            return once(path, lambda new: write_gguf(source, new, GGMLQuantizationType.Q8_0))
        case "safetensors":
            return once(path, lambda new: write_safetensors(source, new))
        case "openvino-fp32" | "openvino-int8":
            folder = once(WEIGHTS / "safetensors", lambda new: write_safetensors(source, new))
            precision = contender.weights.removeprefix("openvino-")
            return once(path, lambda new: _convert_to_openvino(folder, new, precision))
        case unknown:
            raise ValueError(f"no weights are called {unknown}")


def _peer(engine: str, precision: Precision, weights: str) -> Contender:
    return Contender(
        engine=engine,
        module=f"{engine}_peer",
        precision=precision,
        weights=weights,
        environment=engine,
    )


def _python(environment: str) -> Path:
    return PEERS / environment / "bin" / "python"


def _convert_to_openvino(source: Path, target: Path, precision: str) -> None:
    module = "benchmarks.peers.openvino_convert"
    command = [str(_python("openvino")), "-m", module, str(source), str(target), precision]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
