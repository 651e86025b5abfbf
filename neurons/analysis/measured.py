"""What the model does on the cached prompts, beside the two references that know nothing of YY."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from neurons.cache.format import Cache
from neurons.task.behaviour import Behaviour, measure, year_probabilities
from neurons.task.years import MEASURED


def measured_rows(cache: Cache, years: Sequence[int]) -> Int[np.ndarray, " P"]:
    """The cache's prompts whose start year is measured."""
    return np.flatnonzero(np.isin(cache.start_year, years))


def measured_probabilities(cache: Cache, years: Sequence[int]) -> dict[str, Float[np.ndarray, "P 100"]]:
    """p(y) for each measured prompt: of the model, and what each reference would say there.

    counterfactual: the run with YY replaced by 01. average_distribution: the model's mean over all prompts of
    the cache, so over all start years, the same everywhere.
    """
    rows = measured_rows(cache, years)
    everywhere = year_probabilities(cache.year_logits, cache.logsumexp)
    actual = everywhere[rows]
    run_01 = year_probabilities(cache.read("counterfactual/year_logits"), cache.read("counterfactual/logsumexp"))
    return {
        "model": actual,
        "counterfactual": run_01[cache.counterfactual[rows]],
        "average_distribution": np.broadcast_to(everywhere.mean(0), actual.shape),
    }


def measured_behaviour(cache: Cache, years: Sequence[int] = MEASURED) -> dict[str, Behaviour]:
    """Probability difference and cutoff sharpness of each, scored against the true YY."""
    start_year = cache.start_year[measured_rows(cache, years)]
    return {name: measure(values, start_year) for name, values in measured_probabilities(cache, years).items()}
