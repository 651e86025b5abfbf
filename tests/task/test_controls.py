"""Control prompts differ from year spans in meaning alone, and what a tokenizer cannot express is left out."""

import numpy as np
import pytest

from neurons.model.tokenizer import Gpt2Tokenizer
from neurons.task.controls import KINDS, Controls, controls
from neurons.task.prompts import year_tokens
from neurons.types import InputError

NOUNS = ("war", "siege")


@pytest.fixture(scope="module")
def mini_controls(mini_tokenizer: Gpt2Tokenizer) -> Controls:
    return controls(mini_tokenizer, nouns=NOUNS, century=17)


def test_minis_tokenizer_has_no_months_and_says_so(mini_controls: Controls) -> None:
    assert [kind.name for kind in mini_controls.kinds] == ["year_span", "no_order", "counts", "prices"]
    assert mini_controls.left_out == {
        "months": "'January' is not a single token with a leading space",
        "weekdays": "'Monday' is not a single token with a leading space",
    }


def test_gpt2s_tokenizer_has_every_kind(gpt2_tokenizer: Gpt2Tokenizer) -> None:
    found = controls(gpt2_tokenizer, nouns=NOUNS, century=17)
    assert [kind.name for kind in found.kinds] == [kind.name for kind in KINDS]
    months = found.kinds[-2]
    assert months.example == "The war lasted from January to"
    assert (len(months.labels), len(months.tokens)) == (12, 24)


def test_numbers_are_the_same_tokens_as_the_years(mini_tokenizer: Gpt2Tokenizer, mini_controls: Controls) -> None:
    span, *others = mini_controls.kinds
    bare = year_tokens(mini_tokenizer)
    for kind in others:
        assert kind.labels == span.labels
        assert kind.example != span.example
        assert set(kind.tokens[:, -1]) == set(span.tokens[:, -1])
        years = np.array([int(kind.labels[label]) for label in kind.label])
        assert ((kind.tokens == bare[years][:, None]).sum(1) == 1).all()


def test_prompts_of_a_noun_agree_in_what_is_shared(mini_controls: Controls) -> None:
    for kind in mini_controls.kinds:
        assert len(np.unique(kind.tokens[:, : kind.shared], axis=0)) == len(NOUNS)
        assert len(np.unique(kind.tokens, axis=0)) == len(kind.tokens)


def test_words_that_make_no_year_span_are_told(mini_tokenizer: Gpt2Tokenizer) -> None:
    with pytest.raises(InputError, match="is not a single token"):
        controls(mini_tokenizer, nouns=["xylophone"], century=17)
    with pytest.raises(InputError, match="century 10 has no 01-counterfactual"):
        controls(mini_tokenizer, nouns=NOUNS, century=10)
