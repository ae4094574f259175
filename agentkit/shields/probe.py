"""The shield `probe`: what a linear head finds in the hidden states of a model that runs here anyway.

Heads for the embedded model ship in the package; `agentkit probe fit` makes others. How good a head is, is a matter
of its data: see `agentkit probe eval` and docs/decisions/0021-probes.md.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

import anyio
import anyio.to_thread
from pydantic import Field

from agentkit.errors import ConfigurationError, InferenceError, ShieldError
from agentkit.shields.base import SharedStates, ShieldInput, Verdict
from agentkit.shields.normalize import View
from agentkit.shields.policy_errors import with_nearest
from agentkit.shields.readings import readings_of
from agentkit.shields.registry import EngineProvider, register_shield
from agentkit.shields.self_test import KnownTexts, known_user_texts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentkit.inference.probe_head import ProbeHead
    from agentkit.inference.probe_reader import ProbeReader

_SHIPPED: Final = "probe_heads"
_SUFFIX: Final = ".safetensors"


@register_shield("probe")
class Probe:
    """Flags content in some window of which the head finds what it was fit for.

    `head` is one that ships (`injection`, `harm`) or the path of a file. It works on the model that it was fit on and
    on no other: `model` says where that is, by default the reference that the head names. `threshold` replaces the
    head's own, which keeps to its budget of false alarms.
    """

    runs_model: ClassVar[bool] = True

    def __init__(
        self,
        *,
        head: Annotated[str, Field(min_length=1)],
        engines: EngineProvider,
        model: str | None = None,
        threshold: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None,
    ) -> None:
        self._path = head_path(head)
        self._reference = model
        self._engines = engines
        self._own_threshold = threshold
        self._head: ProbeHead | None = None
        self._reader: ProbeReader | None = None

    async def start(self) -> None:
        """Read the head and get its model.

        Raises:
            ConfigurationError: if the model is another than the head was fit on, or gives no hidden states.
            ModelLoadError: if the head or the model cannot be loaded.
        """
        # Here, so that checking a policy file does not load what reads a model.
        from agentkit.inference.probe_head import load_head
        from agentkit.inference.probe_reader import reader_for

        head = await anyio.to_thread.run_sync(load_head, self._path)
        reference = self._reference or head.model
        self._reader = reader_for(head, await self._engines(reference), reference)
        self._head = head

    async def check(self, content: ShieldInput) -> Verdict:
        """Judge by the window that looks worst, of the text or of a reading of it.

        Raises:
            ShieldError: if the probe is not started, or the model fails.
        """
        head, reader = self._head, self._reader
        if head is None or reader is None:
            raise ShieldError("probe is not started")
        threshold = head.threshold if self._own_threshold is None else self._own_threshold
        readings = [reading for reading in await readings_of(content.text) if reading.text]
        if not readings:
            return Verdict(flagged=False, score=0.0, threshold=threshold)
        try:
            scores = [await _score(head, reader, reading, content) for reading in readings]
        except InferenceError as exc:
            raise ShieldError(f"probe could not judge {len(content.text)} characters: {exc}") from exc
        score, reading = max(zip(scores, readings, strict=True), key=lambda scored: scored[0])
        hidden = f"; hidden by {', '.join(reading.transforms)}" if reading.transforms else ""
        flagged = score >= threshold
        return Verdict(
            flagged=flagged,
            score=score,
            threshold=threshold,
            category=head.name if flagged else None,
            reason=f"hidden states of {head.model}{hidden}" if flagged else None,
        )

    @property
    def state_layers(self) -> tuple[int, ...]:
        """The layers that the head reads: where the agent runs on the head's model, its own prefill gives them."""
        return () if self._head is None else self._head.layers

    async def close(self) -> None:
        """Forget the model; whoever provided it closes it."""
        self._head = self._reader = None

    def known_texts(self) -> KnownTexts:
        """Return the texts that the head brings; one that brings none is not tested by any."""
        if self._head is None or not self._head.known_good:
            return KnownTexts(bad=(), good=())
        return known_user_texts(bad=self._head.known_bad or None, good=self._head.known_good)


async def _score(head: ProbeHead, reader: ProbeReader, reading: View, content: ShieldInput) -> float:
    means = None if reading.transforms else await _shared_means(head, reader, content.states)
    if means is None:
        means = await reader.read(reading.text)
    return float(head.probabilities(means).max())


async def _shared_means(
    head: ProbeHead, reader: ProbeReader, states: SharedStates | None
) -> NDArray[np.float32] | None:
    """Return what the agent's own prefill of the text gives; None where that is another model's, or did not end."""
    if states is None or states.fingerprint != head.fingerprint or not set(head.layers) <= set(states.layers):
        return None
    received = await states.receive()
    if received is None:
        return None
    return reader.means_of(received[:, [states.layers.index(layer) for layer in head.layers]])


def shipped_heads() -> tuple[str, ...]:
    """Return the names of the heads in the package, sorted."""
    folder = resources.files("agentkit.shields") / _SHIPPED
    return tuple(
        sorted(one.name.removesuffix(_SUFFIX) for one in folder.iterdir() if one.name.endswith(_SUFFIX))
    )


def head_path(head: str) -> Path:
    """Return the file behind the name of a head that ships, or behind a path.

    Raises:
        ConfigurationError: if it is neither.
    """
    names = shipped_heads()
    if head in names:
        return Path(str(resources.files("agentkit.shields") / _SHIPPED / f"{head}{_SUFFIX}"))
    if not head.endswith(_SUFFIX):
        message = with_nearest(f"unknown head {head!r}", head, names)
        raise ConfigurationError(f"probe: {message}; or name a {_SUFFIX} file")
    return Path(head)
