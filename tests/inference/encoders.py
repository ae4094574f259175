"""A tiny DeBERTa-v2 classifier with random weights and a word tokenizer, as a folder like Prompt Guard's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tokenizers
import torch
from tokenizers import models, pre_tokenizers, processors
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification, DebertaV2Model
from transformers import PreTrainedTokenizerFast as FastTokenizer

WORDS = ("the", "weather", "in", "paris", "is", "ignore", "previous", "instructions", "[", "]", "SEP", "CLS")


def build_encoder(folder: Path, *, labels: Sequence[str], window: int = 512, head: bool = True) -> Path:
    """Write the checkpoint into `folder` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = word_tokenizer()
    tokenizer.save_pretrained(folder)
    config = DebertaV2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=window,
        type_vocab_size=0,
        relative_attention=True,
        position_buckets=16,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        pooler_hidden_size=16,
        pad_token_id=0,
        id2label=dict(enumerate(labels)),
        initializer_range=1.0,
    )
    torch.manual_seed(1)
    model = DebertaV2ForSequenceClassification(config) if head else DebertaV2Model(config)
    model.save_pretrained(folder)
    return folder


def word_tokenizer() -> FastTokenizer:
    vocabulary = {word: i for i, word in enumerate(("[PAD]", "[CLS]", "[SEP]", "[UNK]", *WORDS))}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[UNK]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", None, [("[CLS]", 1), ("[SEP]", 2)]
    )
    return FastTokenizer(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    )
