"""Constraints: a mask that was begun elsewhere is the mask, ends are where the grammar may end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from agentkit.errors import GrammarError
from agentkit.inference.base import Grammar
from agentkit.inference.constraint import GrammarConstraint
from agentkit.inference.grammar import json_schema_grammar
from agentkit.inference.tokenizer import Tokenizer, load_tokenizer

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 10}},
    "required": ["city"],
    "additionalProperties": False,
}
TEXT = json.dumps({"city": "Paris", "days": 10})


@pytest.fixture(scope="module")
def vocabulary(tiny_checkpoint: Path) -> Tokenizer:
    return load_tokenizer(tiny_checkpoint)


def constraint(grammar: Grammar, vocabulary: Tokenizer, *stop_ids: int) -> GrammarConstraint:
    return GrammarConstraint(grammar, vocabulary, frozenset(stop_ids or vocabulary.eos_ids))


def text_grammar(lark: str) -> Grammar:
    return Grammar(lark=f"start: {lark}")


def masked(constraint: GrammarConstraint, width: int) -> torch.Tensor:
    logits = torch.arange(width, dtype=torch.float32)
    constraint.mask(logits)
    return logits


def allowed(constraint: GrammarConstraint, width: int) -> set[int]:
    return set(torch.nonzero(masked(constraint, width) > float("-inf")).flatten().tolist())


def test_a_mask_that_was_begun_is_the_mask(vocabulary: Tokenizer) -> None:
    grammar = json_schema_grammar(SCHEMA)
    ahead, at_once = constraint(grammar, vocabulary), constraint(grammar, vocabulary)

    for token_id in [*vocabulary.encode(TEXT), None]:
        ahead.begin_mask()
        ahead.begin_mask()
        assert torch.equal(masked(ahead, 320), masked(at_once, 320))
        if token_id is not None:
            ahead.advance(token_id)
            at_once.advance(token_id)


def test_many_masks_are_worked_out_beside_each_other(vocabulary: Tokenizer) -> None:
    grammar = json_schema_grammar(SCHEMA)
    ids = vocabulary.encode(TEXT)
    begun = [constraint(grammar, vocabulary) for _ in ids]
    for count, one in enumerate(begun):
        for token_id in ids[:count]:
            one.advance(token_id)
        one.begin_mask()

    for one, token_id in zip(begun, ids, strict=True):
        assert token_id in allowed(one, 320)


def test_a_token_may_be_taken_while_a_mask_is_worked_out(vocabulary: Tokenizer) -> None:
    walker = constraint(text_grammar('"ab"'), vocabulary)
    first, second = vocabulary.encode("a")[0], vocabulary.encode("b")[0]
    walker.begin_mask()
    walker.advance(first)
    assert allowed(walker, 320) == {second}


def test_the_logits_that_are_left_keep_their_values(vocabulary: Tokenizer) -> None:
    token_id = vocabulary.encode("a")[0]
    logits = masked(constraint(text_grammar('"a"'), vocabulary), 320)
    assert logits[token_id] == token_id
    assert int((logits > float("-inf")).sum()) == 1


def test_stop_ids_come_where_the_grammar_may_end_and_other_ends_never(vocabulary: Tokenizer) -> None:
    [end] = vocabulary.eos_ids
    token_id, stop_id = vocabulary.encode("a")[0], vocabulary.special_ids["<|turn|>"]
    walker = constraint(text_grammar('"a" "a"?'), vocabulary, stop_id)

    assert allowed(walker, 320) == {token_id}
    walker.advance(token_id)
    assert allowed(walker, 320) == {token_id, stop_id}
    walker.advance(token_id)
    assert allowed(walker, 320) == {stop_id}
    assert end != stop_id


def test_padding_and_tokens_without_a_logit_never_come(vocabulary: Tokenizer) -> None:
    anything = text_grammar("/(.|\\n)+/")
    assert max(allowed(constraint(anything, vocabulary), 400)) < vocabulary.vocab_size
    assert max(allowed(constraint(anything, vocabulary), 200)) < 200


def test_a_stop_id_beyond_the_vocabulary_is_one_all_the_same(vocabulary: Tokenizer) -> None:
    walker = constraint(text_grammar('""'), vocabulary, 330)
    assert allowed(walker, 400) == {330}


@pytest.mark.parametrize("begin", [GrammarConstraint.begin_mask, lambda walker: None])
def test_after_an_error_there_is_no_mask(
    vocabulary: Tokenizer, begin: Callable[[GrammarConstraint], None]
) -> None:
    walker = constraint(text_grammar('"ab"'), vocabulary)
    with pytest.raises(GrammarError, match="does not allow token"):
        walker.advance(vocabulary.encode("c")[0])
    begin(walker)
    with pytest.raises(GrammarError, match="cannot be followed"):
        masked(walker, 320)


def test_a_grammar_whose_tokens_have_no_logit_is_an_error(vocabulary: Tokenizer) -> None:
    with pytest.raises(GrammarError, match="allows no token"):
        masked(constraint(text_grammar('"z"'), vocabulary), 3)


def test_without_a_stop_id_there_is_no_end(vocabulary: Tokenizer) -> None:
    with pytest.raises(GrammarError, match="needs stop ids"):
        GrammarConstraint(text_grammar('"a"'), vocabulary, frozenset())
