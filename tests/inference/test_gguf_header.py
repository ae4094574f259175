"""GGUF headers: what the `gguf` package reads, and a clear error for a damaged file."""

from __future__ import annotations

import contextlib

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.errors import ModelLoadError
from agentkit.inference.gguf_header import TensorInfo, read_gguf_header
from tests.inference.known_tokenizers import byte_level, save_gguf, smollm2_path, trained


@pytest.mark.model
def test_every_value_of_the_embedded_model_is_what_the_gguf_package_reads():
    fields = gguf.GGUFReader(smollm2_path()).fields

    metadata = read_gguf_header(smollm2_path(), wanted=lambda key: True).metadata

    assert metadata == {key: field.contents() for key, field in fields.items() if not key.startswith("GGUF.")}


def test_only_wanted_keys_are_returned(tmp_path):
    path = save_gguf(tmp_path / "m.gguf", trained(byte_level()), pre="smollm")

    metadata = read_gguf_header(path, wanted=lambda key: key.endswith("token_id")).metadata

    assert metadata == {"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2}


@pytest.mark.parametrize("keep", [0, 3, 4, 8, 20, 30, 2000])
def test_a_truncated_file_is_refused_with_its_size(tmp_path, keep):
    path = save_gguf(tmp_path / "m.gguf", trained(byte_level()), pre="smollm")
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(ModelLoadError, match=f"{keep} bytes"):
        read_gguf_header(path, wanted=lambda key: True)


@pytest.mark.parametrize(
    ("damage", "message"), [(b"GGML", "not a GGUF file"), (b"GGUF\x63", "GGUF version 99 is not known")]
)
def test_a_foreign_file_is_refused(tmp_path, damage, message):
    path = save_gguf(tmp_path / "m.gguf", trained(byte_level()), pre="smollm")
    path.write_bytes(damage + path.read_bytes()[len(damage) :])

    with pytest.raises(ModelLoadError, match=message):
        read_gguf_header(path, wanted=lambda key: True)


@pytest.mark.model
def test_every_tensor_of_the_embedded_model_is_where_the_gguf_package_finds_it():
    expected = gguf.GGUFReader(smollm2_path()).tensors

    tensors = read_gguf_header(smollm2_path(), wanted=lambda key: False).tensors

    assert tensors == {
        tensor.name: TensorInfo(
            shape=tuple(map(int, reversed(tensor.shape))),
            kind=int(tensor.tensor_type),
            start=int(tensor.data_offset),
        )
        for tensor in expected
    }


def test_the_data_begins_at_the_alignment_that_the_file_names(tmp_path):
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(256)
    writer.add_tensor("one", np.ones((2, 3), dtype=np.float32))
    writer.add_tensor("two", np.ones(5, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    tensors = read_gguf_header(path, wanted=lambda key: False).tensors

    assert {name: info.shape for name, info in tensors.items()} == {"one": (2, 3), "two": (5,)}
    assert [info.start % 256 for info in tensors.values()] == [0, 0]
    assert path.read_bytes()[tensors["two"].start :][:20] == np.ones(5, dtype=np.float32).tobytes()


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_a_damaged_header_is_read_or_refused(damaged_header, data):
    path, content = damaged_header
    at = data.draw(st.integers(4, len(content) - 9))
    wrong = data.draw(st.sampled_from([b"\xff" * 8, b"\x00" * 8, b"\x09\x00\x00\x00\x09\x00\x00\x00"]))
    path.write_bytes(content[:at] + wrong + content[at + 8 :])

    with contextlib.suppress(ModelLoadError):
        read_gguf_header(path, wanted=lambda key: key.endswith("tokens"))


@pytest.fixture(scope="module")
def damaged_header(tmp_path_factory):
    path = save_gguf(tmp_path_factory.mktemp("gguf") / "m.gguf", trained(byte_level()), pre="smollm")
    return path, path.read_bytes()[:2000]
