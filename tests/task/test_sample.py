"""The published prompt distribution: its years, its tokens, and what each prompt is compared with."""

import numpy as np
import pytest

from neurons.model.tokenizer import Gpt2Tokenizer
from neurons.task.nouns import NOUNS
from neurons.task.prompts import published_years
from neurons.task.sample import Sample, published_sample
from neurons.types import InputError


@pytest.fixture(scope="module")
def sample(mini_tokenizer: Gpt2Tokenizer) -> Sample:
    return published_sample(mini_tokenizer, size=3000)


def test_gpt2_s_tokenizer_offers_768_years(gpt2_tokenizer: Gpt2Tokenizer) -> None:
    found = published_sample(gpt2_tokenizer, size=50)
    assert found.n_years == 768
    assert [len(found.years[century]) for century in range(10, 19)] == [74, 53, 96, 89, 96, 89, 97, 97, 77]


def test_gpt2_s_prompt_has_13_tokens_with_the_year_at_8_and_ends_at_12(gpt2_tokenizer: Gpt2Tokenizer) -> None:
    found = published_sample(gpt2_tokenizer, size=50)
    assert found.tokens.shape == (50, 13)
    assert found.year_position == 8
    assert found.tokens[:, 12].tolist() == found.tokens[:, 7].tolist()
    assert found.tokens[0, :2].tolist() == [50256, 383]


def test_with_gpt2_s_tokenizer_century_10_alone_has_no_counterfactual(gpt2_tokenizer: Gpt2Tokenizer) -> None:
    found = published_sample(gpt2_tokenizer, size=500)
    assert (found.has_counterfactual == (found.century != 10)).all()
    assert not found.has_counterfactual.all()


def test_the_tokens_say_what_the_prompt_says(sample: Sample, mini_tokenizer: Gpt2Tokenizer) -> None:
    for row in (0, 1234, 2999):
        text = "".join(mini_tokenizer.decode(token) for token in sample.tokens[row].tolist()[1:])
        noun, year = sample.nouns[sample.noun[row]], sample.year[row]
        assert text == f" The {noun} lasted from the year {year} to the year {sample.century[row]}"


def test_a_counterfactual_differs_in_the_start_year_alone(sample: Sample) -> None:
    assert sample.has_counterfactual.any()
    rows = np.flatnonzero(sample.has_counterfactual)
    other = sample.counterfactual_tokens[sample.counterfactual[rows]]
    assert (other[:, sample.year_position] == sample.year_token_ids[1]).all()
    assert (np.delete(other - sample.tokens[rows], sample.year_position, 1) == 0).all()
    assert len(np.unique(sample.counterfactual_tokens, axis=0)) == len(sample.counterfactual_tokens)


def test_nouns_and_years_are_drawn_uniformly_and_independently(sample: Sample, mini_tokenizer: Gpt2Tokenizer) -> None:
    """Counts of each century and of nouns by halves within 5 standard deviations of a binomial's."""
    share = np.array([len(kept) for kept in sample.years.values()]) / sample.n_years
    for century, p in zip(sample.years, share, strict=True):
        assert abs((sample.century == century).sum() - 3000 * p) < 5 * np.sqrt(3000 * p * (1 - p))
    assert set(sample.noun.tolist()) == set(range(len(sample.nouns)))
    assert abs(np.corrcoef(sample.noun, sample.start_year)[0, 1]) < 5 / np.sqrt(3000)
    assert set(sample.nouns) <= set(NOUNS)
    allowed = {(c, y) for c in range(10, 19) for y in published_years(mini_tokenizer, c)}
    assert set(zip(sample.century.tolist(), sample.start_year.tolist(), strict=True)) <= allowed


def test_neighbours_share_what_stands_before_the_year(sample: Sample) -> None:
    prefixes = sample.tokens[:, : sample.shared]
    changes = (prefixes[1:] != prefixes[:-1]).any(1).sum()
    assert changes == len(set(sample.noun.tolist())) - 1


def test_the_seed_decides_the_draw(sample: Sample, mini_tokenizer: Gpt2Tokenizer) -> None:
    assert published_sample(mini_tokenizer, size=3000).digest == sample.digest
    assert published_sample(mini_tokenizer, size=3000, seed=1).digest != sample.digest


def test_no_prompts_are_refused(mini_tokenizer: Gpt2Tokenizer) -> None:
    with pytest.raises(InputError, match="0 prompts"):
        published_sample(mini_tokenizer, size=0)
