"""Compiled steps give what torch gives, for any company, number of threads and type of weights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import agentkit
from agentkit.inference.config import ModelConfig, WeightType
from agentkit.inference.decoder import fits
from agentkit.inference.kv_sequence import KVSequence
from agentkit.inference.matrices import FEW_ROWS, Matrices
from agentkit.inference.model import LlamaModel, Part
from tests.inference.random_llama import random_llama

TOLERANCE = 1e-4
IDS = torch.arange(120) * 37 % 95
SHAPES: dict[str, dict[str, Any]] = {
    "grouped queries": {},
    "one key for all": {"num_key_value_heads": 1},
    "a key for each": {"num_key_value_heads": 4},
    "tied, an odd vocabulary": {"tie_word_embeddings": True, "vocab_size": 95},
}
COUNTING = """
import sys
import torch
if sys.argv[2] == "without numba":
    sys.modules["numba"] = None
from tests.inference.test_decoder import greedy, model_of
model = model_of(weights=sys.argv[1])
print(greedy(model, 30), sys.modules.get("agentkit.inference.kernels") is not None)
"""

ADDING = """
from agentkit.inference.kernels import compiled, compiled_for

@compiled
def add_one(number):
    return number + 1

print(compiled_for(add_one, (2,))(2))
"""

FORKING = """
import os
import torch
torch.set_num_threads(2)
from tests.inference.test_decoder import model_of
model = model_of()
kv = model.new_buffer()
for _ in range(20):
    model.forward(torch.tensor([3]), kv)
kv.truncate(10)
child = os.fork()
if child:
    os.waitpid(child, 0)
print(model.forward(torch.tensor([5]), kv).double().sum().item(), flush=True)
os._exit(0)
"""


def model_of(
    weights: WeightType | None = None, kv_dtype: torch.dtype | None = None, **shape: Any
) -> LlamaModel:
    config, tensors = random_weights(**shape)
    model = LlamaModel(config, tensors, weights=weights, kv_dtype=kv_dtype)
    assert model.compiled == ("numba" in sys.modules and sys.modules["numba"] is not None)
    return model


def random_weights(**shape: Any) -> tuple[ModelConfig, dict[str, torch.Tensor]]:
    oracle = random_llama(head_dim=32, **shape)
    config = ModelConfig.from_hf(oracle.config.to_dict() | {"architectures": ["LlamaForCausalLM"]})
    return config, dict(oracle.state_dict())


def greedy(model: LlamaModel, count: int) -> list[int]:
    kv, ids = model.new_buffer(), IDS[:20].tolist()
    logits = model.forward(torch.tensor(ids), kv)
    for _ in range(count):
        ids.append(int(logits[-1].argmax()))
        logits = model.forward(torch.tensor(ids[-1:]), kv)
    return ids[20:]


def steps(model: LlamaModel, start: int = 40, end: int = 100) -> torch.Tensor:
    """Return the logits of ids given one at a time, after a prefill."""
    kv = model.new_buffer()
    model.forward(IDS[:start], kv)
    return torch.cat([model.forward(IDS[index : index + 1], kv) for index in range(start, end)])


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_compiled_steps_give_the_logits_of_torch(shape: dict[str, Any]) -> None:
    model = model_of(**shape)
    in_torch = model.forward(IDS[:100], model.new_buffer(), last_only=False)
    torch.testing.assert_close(steps(model), in_torch[40:], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_compiled_steps_give_what_the_kept_weights_stand_for(weights: WeightType) -> None:
    config, tensors = random_weights()
    stand_for = {
        name: tensor
        if tensor.ndim == 1
        else Matrices([tensor], weights).look_up(torch.arange(len(tensor)), torch.float32)
        for name, tensor in tensors.items()
    }
    widened = LlamaModel(config, stand_for)
    in_torch = widened.forward(IDS[:100], widened.new_buffer(), last_only=False)

    kept = LlamaModel(config, tensors, weights=weights)

    torch.testing.assert_close(steps(kept, start=1), in_torch[1:], rtol=0, atol=TOLERANCE)


def test_compiled_steps_round_keys_and_values_as_torch_does() -> None:
    model = model_of(kv_dtype=torch.bfloat16)
    compiled, in_torch = model.new_buffer(), model.new_buffer()
    model.forward(IDS[:1], compiled)
    model.forward_parts([Part(ids=[int(IDS[0])], kv=in_torch, layers=(0,))])  # observed rows stay with torch
    for ours, theirs in (
        (compiled.pool.keys, in_torch.pool.keys),
        (compiled.pool.values, in_torch.pool.values),
    ):
        torch.testing.assert_close(ours[0, :, 0].float(), theirs[0, :, 0].float(), rtol=2**-8, atol=1e-5)


def test_several_ids_of_a_sequence_see_what_comes_before_each() -> None:
    model = model_of()
    kv = model.new_buffer()
    model.forward(IDS[:40], kv)
    several = model.forward(IDS[40 : 40 + FEW_ROWS], kv, last_only=False)
    assert torch.equal(several, steps(model, end=40 + FEW_ROWS))


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8"])
def test_company_and_threads_change_no_bit(weights: WeightType) -> None:
    model = model_of(weights)
    pool = model.new_pool(100, 16)
    sequences = [KVSequence(pool) for _ in range(7)]
    for number, sequence in enumerate(sequences):
        model.forward(IDS[: 20 + 7 * number], sequence)
    parts = [Part(ids=[5 + number], kv=sequence) for number, sequence in enumerate(sequences)]

    together = [output.logits for output in model.forward_parts(parts)]

    for part, in_company in zip(parts, together, strict=True):
        part.kv.truncate(part.kv.length - 1)
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            (alone,) = model.forward_parts([part])
            part.kv.truncate(part.kv.length - 1)
            assert torch.equal(alone.logits, in_company)


def test_scattered_pages_change_no_bit() -> None:
    model = model_of()
    pool = model.new_pool(30, 4)
    taken = pool.allocate(30)
    pool.release(taken[::2])  # no two free pages are neighbours
    scattered, whole = KVSequence(pool), model.new_buffer()
    for start in range(0, 50, 10):
        model.forward(IDS[start : start + 10], scattered)
        model.forward(IDS[start : start + 10], whole)

    assert len(scattered.slots(0, 50)) > 10
    assert torch.equal(model.forward(IDS[50:51], scattered), model.forward(IDS[50:51], whole))


def test_keys_and_values_of_bfloat16_take_half_the_memory() -> None:
    assert 2 * model_of(kv_dtype=torch.bfloat16).page_bytes(32) == model_of().page_bytes(32)


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_without_numba_torch_gives_the_same_text(weights: WeightType) -> None:
    expected = greedy(model_of(weights), 30)
    for mode, has_kernels in (("with numba", True), ("without numba", False)):
        done = subprocess.run(
            [sys.executable, "-c", COUNTING, weights, mode], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == f"{expected} {has_kernels}"


def test_a_forked_process_decodes_without_the_threads_of_its_parent() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING], capture_output=True, text=True, check=True, timeout=120
    )
    parent, child = done.stdout.split()
    assert parent == child


def test_steps_of_several_threads_at_once_disturb_each_other_in_nothing() -> None:
    model = model_of()
    expected = steps(model)
    with ThreadPoolExecutor(4) as threads:
        for logits in threads.map(lambda _: steps(model), range(8)):
            assert torch.equal(logits, expected)


def test_a_machine_without_a_folder_for_compiled_functions_compiles_them_again(tmp_path: Path) -> None:
    package = tmp_path / "agentkit"
    shutil.copytree(Path(agentkit.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "file"
    for path in (file, package / "inference" / "__pycache__"):  # no folder can be made where a file is
        path.write_text("")
    program = (
        "from agentkit.inference.kernels import compiled, __file__\n"
        "print(__file__, compiled(lambda number: number + 1)(2))"
    )

    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "HOME": str(file), "XDG_CACHE_HOME": str(file)},
    )

    assert done.stdout.strip() == f"{package / 'inference' / 'kernels.py'} 3"


def test_damaged_files_of_compiled_functions_are_named_and_done_without(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(ADDING)
    command = [sys.executable, str(program)]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.getcwd()}
    first = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    for path in tmp_path.rglob("*.nbi"):
        path.write_bytes(b"damaged")

    again = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)

    assert (first.stdout, first.stderr) == ("3\n", "")
    assert again.stdout == "3\n"
    assert str(tmp_path) in again.stderr
    assert "delete that folder" in again.stderr


def test_sizes_that_are_no_whole_groups_stay_with_torch() -> None:
    narrow = random_llama(head_dim=16)
    config = ModelConfig.from_hf(narrow.config.to_dict() | {"architectures": ["LlamaForCausalLM"]})
    assert not fits(config, torch.ones(64))
