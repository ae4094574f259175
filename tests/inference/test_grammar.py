"""Constrained decoding: schemas become grammars, masks allow exactly what may follow."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from itertools import islice
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from agentkit.errors import GrammarError
from agentkit.inference.base import Grammar
from agentkit.inference.grammar import GrammarMatcher, json_schema_grammar
from agentkit.inference.tokenizer import Tokenizer, load_tokenizer
from tests.inference.json_schemas import changed, schemas
from tests.inference.tiny import build_tiny_checkpoint

SCHEMA = {
    "type": "object",
    "properties": {
        "location": {"type": "string", "description": "The city"},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 10},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 3},
    },
    "required": ["location", "unit", "days", "tags"],
    "additionalProperties": False,
}
VALUE = {"location": 'Paris, "FR" 🙂', "unit": "celsius", "days": 7, "tags": ["a", "b c"]}


@cache
def tokenizer() -> Tokenizer:
    spec = importlib.util.find_spec("llama_models")
    assert spec is not None
    assert spec.origin is not None
    return load_tokenizer(Path(spec.origin).parent / "llama3")


def matcher(lark: str) -> GrammarMatcher:
    return GrammarMatcher(Grammar(lark=lark), tokenizer())


def allowed(walker: GrammarMatcher) -> set[int]:
    return set(np.nonzero(walker.allowed())[0].tolist())


def likeliest(logits: torch.Tensor, walker: GrammarMatcher) -> int:
    return int(logits.masked_fill(~torch.from_numpy(walker.allowed()), float("-inf")).argmax())


def walk(walker: GrammarMatcher, text: str) -> None:
    for token_id in tokenizer().encode(text):
        assert token_id in allowed(walker)
        walker.advance(token_id)


def test_a_value_of_the_schema_is_allowed_to_its_end():
    walker = GrammarMatcher(json_schema_grammar(SCHEMA), tokenizer())

    walk(walker, json.dumps(VALUE, ensure_ascii=False))

    assert walker.accepting
    assert walker.finished
    assert allowed(walker) == tokenizer().eos_ids


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_whatever_is_drawn_under_the_mask_fits_the_schema(seed):
    generator = torch.Generator().manual_seed(seed)
    walker = GrammarMatcher(json_schema_grammar(SCHEMA), tokenizer())
    quote = tokenizer().encode('"')[0]
    ids: list[int] = []

    while not walker.finished:
        logits = torch.randn(tokenizer().vocab_size, generator=generator)
        logits[quote] += 8.0  # so that strings end
        ids.append(likeliest(logits, walker))
        walker.advance(ids[-1])

    jsonschema.validate(json.loads(tokenizer().decode(ids)), SCHEMA)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(schema=schemas(), seed=st.integers(0, 2**32))
def test_what_any_grammar_accepts_fits_its_schema_and_what_does_not_fit_is_refused(
    small_vocabulary, schema, seed
):
    grammar = json_schema_grammar(schema)
    text = drawn(GrammarMatcher(grammar, small_vocabulary), small_vocabulary, seed)
    if text is None:
        reject()
    value = json.loads(text)
    validator = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )

    validator.validate(value)
    assert accepts(grammar, small_vocabulary, text)
    for other in islice(changed(value), 25):
        assert validator.is_valid(other) or not accepts(grammar, small_vocabulary, json.dumps(other))


@pytest.fixture(scope="module")
def small_vocabulary(tmp_path_factory):
    return load_tokenizer(build_tiny_checkpoint(tmp_path_factory.mktemp("tiny")))


def drawn(walker: GrammarMatcher, vocabulary: Tokenizer, seed: int) -> str | None:
    """Return a text drawn under the mask, None where it has no end in sight."""
    generator = torch.Generator().manual_seed(seed)
    closing = [token_id for text in ('"', "}", "]") for token_id in vocabulary.encode(text)]
    ids: list[int] = []
    while not walker.finished and len(ids) < 300:
        logits = torch.randn(vocabulary.vocab_size, generator=generator)
        logits[closing] += 3.0
        ids.append(likeliest(logits, walker))
        walker.advance(ids[-1])
    return vocabulary.decode(ids) if walker.finished else None


def accepts(grammar: Grammar, vocabulary: Tokenizer, text: str) -> bool:
    walker = GrammarMatcher(grammar, vocabulary)
    try:
        for token_id in vocabulary.encode(text):
            walker.advance(token_id)
    except GrammarError:
        return False
    return walker.accepting


def test_a_token_outside_the_grammar_is_refused():
    walker = GrammarMatcher(json_schema_grammar(SCHEMA), tokenizer())
    secret = tokenizer().encode("secret")[0]

    with pytest.raises(GrammarError, match=f"token {secret}") as error:
        walker.advance(secret)

    assert "secret" not in str(error.value)


@pytest.mark.parametrize("token_id", [-1, 10**9])
def test_an_id_out_of_range_is_refused(token_id):
    with pytest.raises(GrammarError, match=str(token_id)):
        matcher('start: "a"').advance(token_id)


def test_whitespace_cannot_run_away():
    walker = GrammarMatcher(json_schema_grammar(SCHEMA), tokenizer())

    walk(walker, '{"location":')

    assert {tokenizer().decode([token_id])[:2] for token_id in allowed(walker)} <= {' "', " "}
    walker.advance(tokenizer().encode(" ")[0])
    assert not any(tokenizer().decode([token_id]).isspace() for token_id in allowed(walker))


def test_an_optional_ending_is_accepting_but_not_finished():
    walker = matcher('start: "ab" "c"?')

    walk(walker, "ab")

    assert walker.accepting
    assert not walker.finished
    assert tokenizer().eos_ids < allowed(walker)
    walker.advance(min(tokenizer().eos_ids))
    assert walker.finished


def test_special_tokens_are_allowed_where_a_grammar_names_them_and_only_there():
    python_tag = tokenizer().special_ids["<|python_tag|>"]
    walker = matcher('start: <|python_tag|> "x"')

    assert allowed(walker) == {python_tag}
    walker.advance(python_tag)
    walk(walker, "x")
    assert python_tag not in allowed(matcher("start: /(.|\\n)+/"))


@pytest.mark.parametrize(
    ("fragment", "complaint"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems at properties.a;"),
        ({"type": "array", "contains": {"type": "string"}}, "contains at properties.a;"),
        ({"not": {"type": "string"}}, "not at properties.a;"),
        ({"if": {"type": "string"}, "then": {"minLength": 1}}, "if, then at properties.a;"),
        ({"type": "string", "format": "json-pointer"}, r"format at properties.a \(Unknown format"),
        ({"type": "text"}, "type at properties.a"),
        (
            {"type": "string", "pattern": "(?=a)b"},
            r"pattern at properties.a \(regex parse error: look-around",
        ),
        ({"$ref": "#/$defs/none"}, r"\$ref at properties.a"),
        (
            {"oneOf": [{"type": "string"}, {"type": "string", "minLength": 2}]},
            "oneOf at properties.a .*anyOf",
        ),
        ({"anyOf": [{}, {"items": {"not": {}}}]}, r"not at properties.a.anyOf\[1\].items"),
        ({"default": object()}, "not plain JSON"),
    ],
)
def test_what_cannot_be_constrained_is_named_in_one_line(fragment, complaint):
    with pytest.raises(GrammarError, match=complaint) as error:
        json_schema_grammar({"type": "object", "properties": {"a": fragment}})

    assert "\n" not in str(error.value)


def test_a_broken_grammar_is_refused_at_construction():
    with pytest.raises(GrammarError, match="unknown name") as error:
        matcher("start: nowhere")

    assert "\n" not in str(error.value)


def test_outputs_under_one_grammar_do_not_disturb_each_other():
    lark = "start: /[ab][cd]/"
    before = allowed(matcher(lark))
    first, second = matcher(lark), matcher(lark)

    walk(first, "a")

    assert allowed(first) != before
    assert allowed(second) == before
    assert allowed(matcher(lark)) == before


def test_a_grammar_that_was_forgotten_is_compiled_again():
    expected = allowed(matcher('start: "x0"'))
    for number in range(1, 40):
        matcher(f'start: "x{number}"')

    assert allowed(matcher('start: "x0"')) == expected
