"""The kernel of quantised weights compiles for GPUs that need not be there; that it computes right, its tests show."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="needs Triton (pip install triton), which is for Linux on x86-64 only")

# In a process of its own, for here Triton interprets. Pointers and strides are multiples of 16, as they are there.
COMPILING = """
import sys
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from agentkit.inference import matvec_triton

packed = sys.argv[1] == "int4"
types = dict(rows="*bf16", values="*u8" if packed else "*i8", scales="*bf16", products="*bf16")
types |= dict(num_rows="i32", num_out="i32", row_stride="i32")
aligned = {(place,): [["tt.divisibility", 16]] for place, name in enumerate(types) if name != "num_rows"}
for capability, num_rows in ((80, 1), (80, 32), (90, 1), (90, 32)):
    constants = matvec_triton.constants(num_rows, 4096, packed=packed, dtype=torch.bfloat16)
    source = ASTSource(
        matvec_triton._multiply, types | dict.fromkeys(constants, "constexpr"), constants, aligned
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=matvec_triton.LAUNCH)
    print("mma" in compiled.asm["ptx"], "cp.async" in compiled.asm["ptx"], len(compiled.asm["cubin"]) > 0)
"""


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_it_multiplies_in_matrix_units_while_more_weights_are_on_their_way(tmp_path, weights):
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILING, weights]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True"] * 12
