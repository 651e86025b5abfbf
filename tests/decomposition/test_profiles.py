"""Maps in short, against sums made otherwise and shapes that are known."""

import numpy as np
import pytest
from average_century import at_the_average_century

from neurons.decomposition.effects import logit_effects
from neurons.decomposition.profiles import active_range, best_split, by_distance, contrast_by_part
from neurons.task.behaviour import contrast


def test_layers_and_the_rest_sum_to_the_models_contrast(mini_cache):
    effects = logit_effects(mini_cache)
    *parts, whole = contrast_by_part(effects)
    assert sum(part.mean for part in parts) == pytest.approx(whole.mean, rel=1e-9)
    logits = at_the_average_century(effects.cache.year_logits, effects.cache, effects.start_years)
    years = contrast(logits, np.array(effects.start_years))
    assert whole.mean == pytest.approx(years.mean(), rel=1e-9)


def test_distance_profile_of_a_triangle_is_a_step():
    years = tuple(range(2, 99))
    effect = np.where(np.arange(100)[None, :] > np.array(years)[:, None], 1.0, 0.0)
    distance, mean, sd = by_distance(effect, years)
    np.testing.assert_array_equal(mean, (np.array(distance) > 0).astype(float))
    assert not sd.any()


def test_best_split_finds_a_step():
    assert best_split(np.where(np.arange(100) > 31, 2.0, -1.0)) == (31, pytest.approx(3.0))


def test_active_range_is_the_shortest_run_with_most_of_the_activation():
    tuning = np.zeros(97)
    tuning[20:30] = -1.0
    assert active_range(tuning) in {(first, first + 7) for first in range(20, 23)}
