"""What a model is and how an engine runs it: checked settings. Knows no files and no tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from agentkit.errors import ConfigurationError, ModelLoadError
from agentkit.inference.settings import integer, number

ARCHITECTURE = "LlamaForCausalLM"
_MAX_THREADS = 1024  # more than systems give one process; OpenMP ends the process where they do not
_MAX_LAYERS = 1024  # far more than any Llama has; a damaged number would have us count tensors for ever


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearScaling:
    """Every position is divided by `factor`."""

    factor: float

    def __post_init__(self) -> None:
        _require_positive("rope scaling factor", self.factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama3Scaling:
    """Llama 3.1's: low frequencies are divided by `factor`, high ones kept, the band between interpolated."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context_length: int

    def __post_init__(self) -> None:
        _require_positive("rope scaling factor", self.factor)
        _require_positive("rope original_max_position_embeddings", self.original_context_length)
        if not 0 < self.low_freq_factor < self.high_freq_factor:
            raise ModelLoadError(
                "rope scaling needs 0 < low_freq_factor < high_freq_factor, "
                f"got {self.low_freq_factor!r} and {self.high_freq_factor!r}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrequencyDivisors:
    """One divisor for each frequency: how a GGUF file carries Llama 3.1's scaling, worked out beforehand."""

    divisors: tuple[float, ...]

    def __post_init__(self) -> None:
        for divisor in self.divisors:
            _require_positive("rope frequency divisor", divisor)


RopeScaling: TypeAlias = LinearScaling | Llama3Scaling | FrequencyDivisors


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The shape of a Llama model. `rope_scaling` is None where positions are not scaled."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    context_length: int
    tie_embeddings: bool

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_layers",
            "num_heads",
            "num_kv_heads",
            "head_dim",
            "rms_norm_eps",
            "rope_theta",
            "context_length",
        ):
            _require_positive(name, getattr(self, name))
        if self.num_layers > _MAX_LAYERS:
            raise ModelLoadError(f"num_layers must be at most {_MAX_LAYERS}, got {self.num_layers}")
        if self.num_heads % self.num_kv_heads:
            raise ModelLoadError(
                f"num_heads must be a multiple of num_kv_heads, got {self.num_heads} and {self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise ModelLoadError(f"head_dim must be even for rotary positions, got {self.head_dim}")
        if isinstance(self.rope_scaling, FrequencyDivisors):
            given = len(self.rope_scaling.divisors)
            if given != self.head_dim // 2:
                raise ModelLoadError(f"rope needs {self.head_dim // 2} frequency divisors, got {given}")

    @staticmethod
    def from_hf(config: Mapping[str, Any]) -> ModelConfig:
        """Read a `config.json`, with rope settings as transformers 4 or 5 writes them.

        Raises:
            ModelLoadError: if it is not a Llama model that we can run, naming the key and its value.
        """
        _refuse_foreign(config)
        hidden_size = integer(config, "hidden_size")
        num_heads = integer(config, "num_attention_heads")
        context_length = integer(config, "max_position_embeddings", 2048)
        rope = _rope_settings(config)
        return ModelConfig(
            vocab_size=integer(config, "vocab_size"),
            hidden_size=hidden_size,
            intermediate_size=integer(config, "intermediate_size"),
            num_layers=integer(config, "num_hidden_layers"),
            num_heads=num_heads,
            num_kv_heads=integer(config, "num_key_value_heads", num_heads),
            head_dim=integer(config, "head_dim", hidden_size // max(num_heads, 1)),
            rms_norm_eps=number(config, "rms_norm_eps", 1e-6),
            rope_theta=number(rope, "rope_theta", number(config, "rope_theta", 10_000.0)),
            rope_scaling=_scaling_from_hf(rope, context_length),
            context_length=context_length,
            tie_embeddings=bool(config.get("tie_word_embeddings", False)),
        )

    @staticmethod
    def from_gguf(
        metadata: Mapping[str, Any], *, tie_embeddings: bool, divisors: tuple[float, ...] | None = None
    ) -> ModelConfig:
        """Read the metadata of a GGUF file; `divisors` are its tensor `rope_freqs.weight`, where it has one.

        Raises:
            ModelLoadError: if it is not a Llama model that we can run, naming the key and its value.
        """
        architecture = metadata.get("general.architecture")
        if architecture != "llama":
            raise ModelLoadError(
                f"architecture is {architecture!r}; agentkit runs GGUF files of 'llama' only"
            )
        if metadata.get("split.count", 1) > 1:
            raise ModelLoadError(
                f"the model is split over {metadata['split.count']} GGUF files; merge them first"
            )
        hidden_size = integer(metadata, "llama.embedding_length")
        num_heads = integer(metadata, "llama.attention.head_count")
        head_dim = integer(metadata, "llama.attention.key_length", hidden_size // max(num_heads, 1))
        for key in ("llama.attention.value_length", "llama.rope.dimension_count"):
            if integer(metadata, key, head_dim) != head_dim:
                raise ModelLoadError(
                    f"{key!r} is {metadata[key]}; agentkit needs it to be the head size, {head_dim}"
                )
        return ModelConfig(
            vocab_size=integer(metadata, "llama.vocab_size"),
            hidden_size=hidden_size,
            intermediate_size=integer(metadata, "llama.feed_forward_length"),
            num_layers=integer(metadata, "llama.block_count"),
            num_heads=num_heads,
            num_kv_heads=integer(metadata, "llama.attention.head_count_kv", num_heads),
            head_dim=head_dim,
            rms_norm_eps=number(metadata, "llama.attention.layer_norm_rms_epsilon"),
            rope_theta=number(metadata, "llama.rope.freq_base", 10_000.0),
            rope_scaling=FrequencyDivisors(divisors=divisors) if divisors else _scaling_from_gguf(metadata),
            context_length=integer(metadata, "llama.context_length"),
            tie_embeddings=tie_embeddings,
        )


SpeculationMode: TypeAlias = Literal["prompt_lookup", "off"]
"""How tokens are drafted ahead of their turn, for one pass to verify several."""

WeightType: TypeAlias = Literal["float32", "bfloat16", "int8", "int4"]
"""How the matrices of a model are kept in memory: int8 have one scale per 32 weights, int4 a scale and a least weight.

With int4, the embedding and the head are int8.
"""

KVType: TypeAlias = Literal["float32", "bfloat16"]
"""How keys and values are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How an engine runs a model.

    `kv_cache_bytes` is the memory of all key-value pairs, in use and cached: no request can be longer than what
    fits. They are kept in pages of `page_tokens`. `prefill_chunk` is how many prompt tokens run before others get
    their turn; `threads` and `context_length` are torch's and the model's where None; `device` is `auto`, or a
    name that torch knows, such as `cpu` or `cuda`. `weights` is how the model's matrices are kept: fewer bytes are
    read faster, and are less exact; None for float32 on a CPU and bfloat16 on a GPU, and int4 is for a GPU alone.
    `kv_dtype` is how keys and values are kept; None for the type that the model computes in, which is float32 on a
    CPU; on a GPU it is the only one, bfloat16 unless the weights are float32. `host_kv_bytes` is host memory for
    key-value pairs that gave way on a GPU: 2 GiB where None, 0 for no such memory. Beside a CPU there is none: its
    cache is host memory itself. `speculation` changes how fast an output comes, never which.
    """

    kv_cache_bytes: int = 1 << 30
    host_kv_bytes: int | None = None
    page_tokens: int = 32
    prefill_chunk: int = 256
    threads: int | None = None
    context_length: int | None = None
    device: str = "auto"
    speculation: SpeculationMode = "prompt_lookup"
    weights: WeightType | None = None
    kv_dtype: KVType | None = None

    def __post_init__(self) -> None:
        _require_whole("kv_cache_bytes", self.kv_cache_bytes)
        _require_whole("page_tokens", self.page_tokens)
        _require_whole("prefill_chunk", self.prefill_chunk)
        if self.host_kv_bytes is not None:
            _require_whole("host_kv_bytes", self.host_kv_bytes, least=0)
        if self.threads is not None:
            _require_whole("threads", self.threads, most=_MAX_THREADS)
        if self.context_length is not None:
            _require_whole("context_length", self.context_length, least=2)
        _require_one_of("weights", self.weights, (None, *get_args(WeightType)))
        _require_one_of("kv_dtype", self.kv_dtype, (None, *get_args(KVType)))
        _require_one_of("speculation", self.speculation, get_args(SpeculationMode))


def _refuse_foreign(config: Mapping[str, Any]) -> None:
    architectures = config.get("architectures")
    if architectures is None and config.get("model_type") != "llama":
        raise ModelLoadError(
            f"the configuration names no architecture and its model_type is {config.get('model_type')!r}; "
            f"agentkit runs {ARCHITECTURE}"
        )
    if architectures is not None and architectures != [ARCHITECTURE]:
        named = ", ".join(map(str, architectures)) if isinstance(architectures, list) else repr(architectures)
        raise ModelLoadError(f"architecture is {named}; agentkit runs {ARCHITECTURE}")
    if config.get("quantization_config"):
        raise ModelLoadError(
            "the weights are quantised (quantization_config); use the original ones or a GGUF file"
        )
    for key, expected in (("attention_bias", False), ("mlp_bias", False), ("hidden_act", "silu")):
        if config.get(key, expected) != expected:
            raise ModelLoadError(f"{key} is {config[key]!r}; agentkit needs {expected!r}")


def _rope_settings(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the rope settings: `rope_parameters` of transformers 5, or the older `rope_scaling`."""
    for key in ("rope_parameters", "rope_scaling"):
        settings = config.get(key)
        if settings is None or settings == {}:  # an empty one must not hide the other
            continue
        if not isinstance(settings, Mapping):
            raise ModelLoadError(f"{key} must be an object, got {settings!r}")
        return settings
    return {}


def _scaling_from_hf(rope: Mapping[str, Any], context_length: int) -> RopeScaling | None:
    if number(rope, "partial_rotary_factor", 1.0) != 1.0:
        raise ModelLoadError(
            f"partial_rotary_factor is {rope['partial_rotary_factor']!r}; agentkit needs 1.0"
        )
    kind = rope.get("rope_type", rope.get("type", "default"))
    match kind:
        case "default":
            return None
        case "linear":
            return LinearScaling(factor=number(rope, "factor"))
        case "llama3":
            return Llama3Scaling(
                factor=number(rope, "factor"),
                low_freq_factor=number(rope, "low_freq_factor"),
                high_freq_factor=number(rope, "high_freq_factor"),
                original_context_length=integer(rope, "original_max_position_embeddings", context_length),
            )
        case _:
            raise ModelLoadError(f"rope type is {kind!r}; agentkit runs 'default', 'linear' and 'llama3'")


def _scaling_from_gguf(metadata: Mapping[str, Any]) -> RopeScaling | None:
    kind = metadata.get("llama.rope.scaling.type", "none")
    match kind:
        case "none":
            return None
        case "linear":
            return LinearScaling(factor=number(metadata, "llama.rope.scaling.factor"))
        case _:
            raise ModelLoadError(f"rope scaling is {kind!r}; agentkit runs 'none' and 'linear'")


def _require_whole(name: str, value: object, *, least: int = 1, most: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise ConfigurationError(f"{name} must be at least {least}, got {value}")
    if most is not None and value > most:
        raise ConfigurationError(f"{name} must be at most {most}, got {value}")


def _require_one_of(name: str, value: object, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        raise ConfigurationError(f"{name} must be one of {', '.join(filter(None, choices))}, got {value!r}")


def _require_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ModelLoadError(f"{name} must be above 0, got {value!r}")
