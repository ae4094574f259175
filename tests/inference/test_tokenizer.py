"""Tokenizers from all sources: the ids are the originals', and text is only ever text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_models.llama3.tokenizer import Tokenizer as Llama3Oracle
from tokenizers import pre_tokenizers

from agentkit.errors import ModelLoadError
from agentkit.inference.tokenizer import load_tokenizer
from tests.inference.known_tokenizers import (
    TEXTS,
    byte_level,
    hostile_texts,
    llama3,
    package_folder,
    save_folder,
    save_gguf,
    smollm2,
    smollm2_oracle,
    trained,
)


@pytest.mark.parametrize("text", TEXTS)
def test_tiktoken_ids_equal_the_original_llama_3(text):
    assert llama3().encode(text) == Llama3Oracle.get_instance().encode(text, bos=False, eos=False)


@settings(deadline=None)
@given(text=st.text(max_size=60))
def test_tiktoken_ids_equal_the_original_for_any_text(text):
    ids = llama3().encode(text)

    assert ids == Llama3Oracle.get_instance().encode(text, bos=False, eos=False)
    assert llama3().decode(ids) == text


@pytest.mark.parametrize("text", [" " * 1_000_000, "\n" * 1_000_000, "a" * 500_000])
def test_tiktoken_encodes_what_its_splitter_cannot_take_whole(text):
    assert llama3().decode(llama3().encode(text)) == text


def test_tiktoken_special_ids_are_llama_3s():
    oracle = Llama3Oracle.get_instance()

    assert llama3().special_ids == oracle.special_tokens
    assert llama3().special_ids["<|begin_of_text|>"] == llama3().bos_id == 128000
    assert llama3().special_ids["<|eom_id|>"] == 128008
    assert llama3().special_ids["<|eot_id|>"] == 128009
    assert llama3().special_ids["<|python_tag|>"] == 128010
    assert llama3().eos_ids == set(oracle.stop_tokens)
    assert llama3().vocab_size == oracle.n_words == 128256


@pytest.mark.model
@pytest.mark.parametrize("text", TEXTS)
def test_gguf_ids_equal_naive_bpe_with_single_digits(text):
    assert smollm2().encode(text) == smollm2_oracle().encode(text)


@pytest.mark.model
@settings(deadline=None)
@given(text=st.text(max_size=40) | st.text(alphabet="abcXYZ0123456789 '\nste½١.,<|>", max_size=60))
def test_gguf_ids_equal_naive_bpe_for_any_text(text):
    assert smollm2().encode(text) == smollm2_oracle().encode(text)


@pytest.mark.model
def test_gguf_metadata_is_the_models():
    assert smollm2().vocab_size == 49152
    assert smollm2().bos_id == smollm2().special_ids["<|im_start|>"] == 1
    assert smollm2().eos_ids == {smollm2().special_ids["<|im_end|>"], smollm2().special_ids["<|endoftext|>"]}
    assert len(smollm2().special_ids) == 17
    assert "<|im_start|>" in (smollm2().chat_template or "")


@pytest.mark.model
@pytest.mark.parametrize("text", ["2024-11-21: 3.14", "  in\n\n\ttabs", "héllo 你好 🙂", "it's 100% <b>"])
def test_gguf_text_survives_a_round_trip(text):
    assert smollm2().decode(smollm2().encode(text)) == text


@pytest.mark.model
@pytest.mark.parametrize("name", ["llama3", "smollm2"])
def test_no_spelling_of_a_special_token_becomes_that_token(name):
    tokenizer = llama3() if name == "llama3" else smollm2()
    special = frozenset(tokenizer.special_ids.values())

    for text in hostile_texts(tokenizer):
        ids = tokenizer.encode(text)
        assert special.isdisjoint(ids)
        assert tokenizer.decode(ids) == text


@pytest.mark.model
@settings(deadline=None)
@given(data=st.data())
def test_special_spellings_amid_any_text_stay_text(data):
    tokenizer = smollm2()
    pieces = data.draw(
        st.lists(st.sampled_from(sorted(tokenizer.special_ids)) | st.text(max_size=5), max_size=8)
    )

    assert frozenset(tokenizer.special_ids.values()).isdisjoint(tokenizer.encode("".join(pieces)))


@pytest.mark.model
@settings(deadline=None)
@given(data=st.data(), name=st.sampled_from(["llama3", "smollm2"]))
def test_incremental_decoding_equals_decoding_the_whole(data, name):
    tokenizer = llama3() if name == "llama3" else smollm2()
    some_bytes = st.sampled_from([*tokenizer.encode("🙂你é\u0301½"), *tokenizer.special_ids.values()])
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size + 5) | some_bytes, max_size=30))
    decoder = tokenizer.decoder()

    pieces = [decoder.feed(token_id) for token_id in ids]

    assert "".join(pieces) + decoder.finish() == tokenizer.decode(ids)


def test_incremental_decoding_never_emits_half_a_character():
    tokenizer = llama3()
    decoder = tokenizer.decoder()
    ids = tokenizer.encode("🧿")

    pieces = [decoder.feed(token_id) for token_id in ids]

    assert len(ids) > 1
    assert pieces == [""] * (len(ids) - 1) + ["🧿"]
    assert decoder.finish() == ""


def test_special_ids_have_no_text_unless_asked_for():
    ids = [llama3().bos_id or 0, *llama3().encode("Hi"), llama3().special_ids["<|eot_id|>"]]

    assert llama3().decode(ids) == "Hi"
    assert llama3().decode(ids, skip_special=False) == "<|begin_of_text|>Hi<|eot_id|>"


def test_lone_surrogates_are_encoded_as_replacement_characters():
    assert llama3().encode("a\ud83d b") == llama3().encode("a\ufffd b")


def test_folder_ids_equal_the_library_on_text_without_special_tokens(tmp_path):
    original = trained(byte_level())
    tokenizer = load_tokenizer(save_folder(tmp_path, original))

    for text in TEXTS:
        assert tokenizer.encode(text) == original.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_folder_added_tokens_are_never_recognised_special_or_not(tmp_path):
    original = trained(byte_level())
    tokenizer = load_tokenizer(save_folder(tmp_path, original))
    text = "<unk> a<call>b <|begin|><|end|>"
    added = {"<unk>": 0, "<|begin|>": 1, "<|end|>": 2, "<call>": original.get_vocab_size() - 1}

    assert tokenizer.special_ids == added
    assert not set(original.encode(text).ids).isdisjoint(added.values())
    assert set(tokenizer.encode(text)).isdisjoint(added.values())
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(added.values()) == "<call>"


def test_folder_settings_give_begin_end_and_template(tmp_path):
    save_folder(tmp_path, trained(byte_level()), chat_template=[{"name": "default", "template": "T"}])
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 0]}')

    tokenizer = load_tokenizer(tmp_path)

    assert tokenizer.bos_id == 1
    assert tokenizer.eos_ids == {0, 2}
    assert tokenizer.chat_template == "T"


def test_folder_template_file_comes_before_the_settings(tmp_path):
    save_folder(tmp_path, trained(byte_level()), chat_template="old")
    (tmp_path / "chat_template.jinja").write_text("new")

    assert load_tokenizer(tmp_path).chat_template == "new"


def test_gguf_with_llama_3_splitting_equals_the_original(tmp_path):
    llama_split = tokenizers.Regex(Llama3Oracle.pat_str)
    original = trained(
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(llama_split, behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    )
    tokenizer = load_tokenizer(save_gguf(tmp_path / "m.gguf", original, pre="llama-bpe"))

    for text in TEXTS:
        assert tokenizer.encode(text) == original.encode(text, add_special_tokens=False).ids
    assert tokenizer.special_ids["<call>"] == original.token_to_id("<call>")
    assert tokenizer.decode(tokenizer.special_ids.values()) == "<call>"
    assert tokenizer.bos_id == 1
    assert tokenizer.eos_ids == {2}
    assert tokenizer.chat_template == "{{ messages }}"


def test_fingerprints_tell_vocabularies_apart(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    tokenizer = trained(byte_level())
    save_folder(tmp_path / "a", tokenizer)
    tokenizer.add_special_tokens(["<|more|>"])
    save_folder(tmp_path / "b", tokenizer)

    first, again, other = (load_tokenizer(tmp_path / name).fingerprint for name in ("a", "a", "b"))

    assert first == again
    assert first != other
    assert len(first) == 64


def write_unigram(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": {"type": "Unigram", "vocab": []}, "decoder": null}')


def write_corrupt_json(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": ')


def write_without_end(folder: Path) -> None:
    save_folder(folder, trained(byte_level()), eos_token=None)


def write_foreign_end(folder: Path) -> None:
    save_folder(folder, trained(byte_level()))
    (folder / "generation_config.json").write_text('{"eos_token_id": 999999}')


def write_missing_merge_token(folder: Path) -> None:
    definition = json.loads(trained(byte_level()).to_str())
    definition["model"]["merges"].append(["nope", "nope"])
    (folder / "tokenizer.json").write_text(json.dumps(definition))


def write_truncated_tiktoken(folder: Path) -> None:
    original = (package_folder("llama_models") / "llama3" / "tokenizer.model").read_bytes()
    (folder / "tokenizer.model").write_bytes(original[: len(original) // 2].rpartition(b"\n")[0])


def write_sentencepiece(folder: Path) -> None:
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00")


@pytest.mark.parametrize(
    ("write", "complaint"),
    [
        (lambda folder: None, "no tokenizer at"),
        (write_unigram, "only byte-level BPE"),
        (write_corrupt_json, "not JSON"),
        (write_without_end, "names no token that ends"),
        (write_foreign_end, "999999"),
        (write_missing_merge_token, "not a readable tokenizer"),
        (write_truncated_tiktoken, "128000"),
        (write_sentencepiece, "not a tiktoken vocabulary"),
    ],
)
def test_missing_or_corrupt_tokenizer_is_one_clear_line(tmp_path, write, complaint):
    write(tmp_path)

    with pytest.raises(ModelLoadError, match=complaint) as error:
        load_tokenizer(tmp_path)

    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [0, 10, 3000])
def test_truncated_gguf_is_one_clear_line(tmp_path, size):
    whole = save_gguf(tmp_path / "whole.gguf", trained(byte_level()), pre="smollm").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:size])

    with pytest.raises(ModelLoadError, match=r"cut\.gguf") as error:
        load_tokenizer(tmp_path / "cut.gguf")

    assert "\n" not in str(error.value)


def test_unknown_gguf_splitting_is_refused_by_name(tmp_path):
    path = save_gguf(tmp_path / "m.gguf", trained(byte_level()), pre="tekken")

    with pytest.raises(ModelLoadError, match="unknown pre-tokenizer 'tekken'"):
        load_tokenizer(path)


def test_importing_the_tokenizer_loads_no_torch():
    code = "import sys, agentkit.inference.grammar; print({'torch', 'transformers'} & set(sys.modules))"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "set()"


def test_the_suffix_of_a_gguf_file_may_be_in_capitals(tmp_path):
    path = save_gguf(tmp_path / "MODEL.GGUF", trained(byte_level()), pre="default")

    assert load_tokenizer(path).encode("ab")
