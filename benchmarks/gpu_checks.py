"""What must hold before a figure means anything: kernels, graphs and masks give what plain torch gives."""

from __future__ import annotations

import random

import torch

from agentkit.inference.attention_paged import paged_attention
from agentkit.inference.config import ModelConfig
from agentkit.inference.kv_sequence import KVSequence
from agentkit.inference.matrices import KERNEL_ROWS, Matrices
from agentkit.inference.model import PAGE_TOKENS, LlamaModel
from agentkit.inference.quantized import dequantize
from agentkit.inference.runner import DecodeRunner, Row
from benchmarks.gpu_model import QuantizedWeights, tensor_shapes

LENGTHS = [1, 31, 64, 65, 1000, 4097]
# Of bf16 operands; fp32 stays far below it.
HIGHEST_ERROR = 2e-2


class CheckError(Exception):
    """Something computes another thing than it should."""


def relative_error(result: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the norm of the difference over that of the reference."""
    difference = result.float() - reference.float()
    return float(difference.norm() / reference.float().norm())


def check_kernel(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Compare the Triton kernel with the reference at the model's shapes; unused slots hold NaN."""
    from agentkit.inference.attention_triton import triton_paged_attention

    counts = [-(-length // PAGE_TOKENS) for length in LENGTHS]
    order = torch.randperm(sum(counts) + 1)
    pages = torch.full((len(LENGTHS), max(counts)), int(order[-1]), dtype=torch.int32)
    shape = (config.num_kv_heads, len(order) * PAGE_TOKENS, config.head_dim)
    keys, values = (torch.full(shape, torch.nan, dtype=dtype) for _ in range(2))
    taken = 0
    for row, (length, count) in enumerate(zip(LENGTHS, counts, strict=True)):
        pages[row, :count] = order[taken : taken + count]
        taken += count
        slots = (pages[row, :count, None] * PAGE_TOKENS + torch.arange(PAGE_TOKENS)).flatten()[:length]
        for content in (keys, values):
            content[:, slots] = torch.randn(config.num_kv_heads, length, config.head_dim).to(dtype)
    arguments = [
        tensor.to(device)
        for tensor in (
            torch.randn(len(LENGTHS), config.num_heads, config.head_dim).to(dtype),
            keys,
            values,
            pages,
            torch.tensor(LENGTHS, dtype=torch.int32),
        )
    ]
    reference = paged_attention(*arguments, page_tokens=PAGE_TOKENS)
    return {
        f"kernel, {splits} splits": relative_error(
            triton_paged_attention(*arguments, page_tokens=PAGE_TOKENS, splits=splits), reference
        )
        for splits in (1, 7, 64)
    }


def check_products(
    weights: QuantizedWeights, config: ModelConfig, device: torch.device, dtype: torch.dtype
) -> dict[str, float]:
    """Compare the Triton kernel of quantised weights with plain torch, at the shapes of the model's layers."""
    from agentkit.inference.matvec_triton import triton_product

    errors = {}
    shapes = {
        shape for name, shape in tensor_shapes(config).items() if "layers.0" in name and len(shape) == 2
    }
    for num_out, num_in in sorted(shapes):
        kept = Matrices([torch.randn(num_out, num_in, device=device, dtype=dtype)], weights)
        values, scales = kept.values[0], kept.scales[0]
        exact = dequantize(values, scales, dtype).float()
        for num_rows in (1, 5, KERNEL_ROWS):
            rows = torch.randn(num_rows, num_in, device=device, dtype=dtype)
            error = relative_error(triton_product(rows, values, scales), rows.float() @ exact.T)
            errors[f"{weights}, {num_rows} rows by {num_out} x {num_in}"] = error
    return errors


def check_steps(model: LlamaModel, runner: DecodeRunner, *, steps: int) -> dict[str, float]:
    """Compare the runner's logits with the model's own over steps that cross a page, and a split prefill with one."""
    ids = random.Random(0).choices(range(model.config.vocab_size), k=2 * PAGE_TOKENS + 9)
    rows, row = torch.tensor(ids), torch.tensor([ids[0]])
    whole, split = KVSequence(runner.pool), KVSequence(runner.pool)
    reference = model.forward(rows, whole)
    model.forward(rows[:PAGE_TOKENS], split)
    errors = {"prefill in two chunks": relative_error(model.forward(rows[PAGE_TOKENS:], split), reference)}
    worst = 0.0
    for _ in range(steps):
        outputs = runner.decode([Row(token_id=ids[0], kv=kv, draw=None) for kv in (whole, split)])
        whole.length -= 1
        expected = model.forward(row, whole)
        worst = max(worst, *(relative_error(output.logits, expected) for output in outputs))
    whole.close()
    split.close()
    return errors | {f"{steps} decode steps": worst}


def require_small(errors: dict[str, float]) -> None:
    """Stop where an error is too large, or not a number.

    Raises:
        CheckError: and says which.
    """
    for name, error in errors.items():
        if not error <= HIGHEST_ERROR:
            raise CheckError(
                f"{name}: the relative error is {error:.2e}, at most {HIGHEST_ERROR:.0e} is right"
            )
