"""What the model does, read from a cache a block of prompts at a time."""

from dataclasses import replace

import numpy as np
import pytest
from average_century import at_the_average_century

from neurons.cache.format import Cache
from neurons.decomposition.measured import (
    average_distribution,
    mean_probability,
    mean_year_logits,
    measured_behaviour,
    measured_rows,
)
from neurons.task.behaviour import measure, year_probabilities
from neurons.types import InputError

YEARS = tuple(range(20, 70))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch, mini_cache: Cache) -> None:
    monkeypatch.setattr("neurons.cache.format.BLOCK_NUMBERS", 1)
    assert len(list(mini_cache.row_blocks(100))) > 10


def probabilities(cache: Cache) -> np.ndarray:
    return year_probabilities(cache.year_logits, cache.logsumexp)


def test_behaviour_is_that_of_all_prompts_at_once(mini_cache: Cache) -> None:
    rows = measured_rows(mini_cache, YEARS)
    run_01 = year_probabilities(
        mini_cache.read("counterfactual/year_logits"), mini_cache.read("counterfactual/logsumexp")
    )
    whole = {
        "model": probabilities(mini_cache)[rows],
        "counterfactual": run_01[mini_cache.counterfactual[rows]],
        "average_distribution": np.broadcast_to(probabilities(mini_cache).mean(0), (len(rows), 100)),
    }
    found = measured_behaviour(mini_cache, YEARS)
    assert found.keys() == whole.keys()
    for name, values in whole.items():
        expected = measure(values, mini_cache.start_year[rows])
        np.testing.assert_array_equal(found[name].probability_difference, expected.probability_difference)
        np.testing.assert_array_equal(found[name].cutoff_sharpness, expected.cutoff_sharpness)


def test_no_prompt_measured_is_refused(mini_cache: Cache) -> None:
    """Means over nothing would be NaN."""
    with pytest.raises(InputError, match="no start year chosen"):
        measured_behaviour(mini_cache, ())
    others = replace(mini_cache, start_year=np.full(len(mini_cache), 50))
    with pytest.raises(InputError, match="no prompt of this cache has one of these start years"):
        measured_behaviour(others, [31])


def test_means_are_those_of_all_prompts_at_once(mini_cache: Cache) -> None:
    np.testing.assert_array_equal(average_distribution(mini_cache), probabilities(mini_cache).mean(0))
    for found, values in (
        (mean_probability(mini_cache, YEARS), probabilities(mini_cache)),
        (mean_year_logits(mini_cache, YEARS), mini_cache.year_logits),
    ):
        np.testing.assert_allclose(found, at_the_average_century(values, mini_cache, YEARS), rtol=1e-9, atol=1e-12)
