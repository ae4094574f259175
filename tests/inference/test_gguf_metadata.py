"""GGUF metadata: what the `gguf` package reads, and a clear error for a damaged file."""

from __future__ import annotations

import gguf
import pytest

from agentkit.errors import ModelLoadError
from agentkit.inference.gguf_metadata import read_gguf_metadata
from tests.inference.known_tokenizers import byte_level, save_gguf, smollm2_path, trained


@pytest.mark.model
def test_every_value_of_the_embedded_model_is_what_the_gguf_package_reads():
    fields = gguf.GGUFReader(smollm2_path()).fields

    metadata = read_gguf_metadata(smollm2_path(), wanted=lambda key: True)

    assert metadata == {key: field.contents() for key, field in fields.items() if not key.startswith("GGUF.")}


def test_only_wanted_keys_are_returned(tmp_path):
    path = save_gguf(tmp_path / "m.gguf", trained(byte_level()), pre="smollm")

    metadata = read_gguf_metadata(path, wanted=lambda key: key.endswith("token_id"))

    assert metadata == {"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2}


@pytest.mark.parametrize("keep", [0, 3, 4, 8, 20, 30, 2000])
def test_a_truncated_file_is_refused_with_its_size(tmp_path, keep):
    path = save_gguf(tmp_path / "m.gguf", trained(byte_level()), pre="smollm")
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(ModelLoadError, match=f"{keep} bytes"):
        read_gguf_metadata(path, wanted=lambda key: True)


@pytest.mark.parametrize("damage", [b"GGML", b"GGUF\x63"])
def test_a_foreign_file_is_refused(tmp_path, damage):
    path = save_gguf(tmp_path / "m.gguf", trained(byte_level()), pre="smollm")
    path.write_bytes(damage + path.read_bytes()[len(damage) :])

    with pytest.raises(ModelLoadError, match="not a GGUF file"):
        read_gguf_metadata(path, wanted=lambda key: True)
