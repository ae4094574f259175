"""A folder of safetensors to OpenVINO's format: `python -m benchmarks.peers.openvino_convert FROM TO PRECISION`."""

from __future__ import annotations

import sys

from optimum.intel import OVModelForCausalLM


def main() -> None:
    source, target, precision = sys.argv[1:]
    model = OVModelForCausalLM.from_pretrained(
        source, export=True, compile=False, load_in_8bit=precision == "int8"
    )
    model.save_pretrained(target)


if __name__ == "__main__":
    main()
