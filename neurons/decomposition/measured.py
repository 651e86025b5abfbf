"""Behaviour on the cached prompts, with two reference values that do not depend on YY.

Prompts are read a block at a time; of each, a few numbers are kept, not its 100 probabilities.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields

import numpy as np
from jaxtyping import Float, Int

from neurons.cache.format import Cache
from neurons.intervals import Cells, year_means
from neurons.task.behaviour import Behaviour, measure, year_probabilities
from neurons.task.years import MEASURED, N_YEARS, check_measured
from neurons.types import InputError, check_is

BLOCK_WIDTH = 32 * N_YEARS
"""Numbers in memory for each prompt of a block: its logits, and what is made of them in float64."""


def measured_rows(cache: Cache, years: Sequence[int]) -> Int[np.ndarray, " P"]:
    """Return the cache's prompts whose start year is measured."""
    return np.flatnonzero(np.isin(cache.start_year, years))


def measured_behaviour(cache: Cache, years: Iterable[int] = MEASURED) -> dict[str, Behaviour]:
    """Measure each prompt's behaviour (`Behaviour`), scored against the true YY.

    model: the clean run. counterfactual: the corrupted run. average_distribution: the model's mean over
    all prompts of the cache, so over all start years, the same everywhere.

    Raises `InputError` for a start year outside 01-98, or if no prompt has one of them.
    """
    check_is("cache", cache, Cache, "what cache_activations or open_cache returns")
    measured, average = np.isin(cache.start_year, check_measured(years)), average_distribution(cache)
    if not measured.any():
        raise InputError("no prompt of this cache has one of these start years: choose other years")
    found: dict[str, list[Behaviour]] = {"model": [], "counterfactual": [], "average_distribution": []}
    for rows in cache.row_blocks(BLOCK_WIDTH):
        kept = np.flatnonzero(measured[rows]) + rows.start
        own = year_probabilities(_block(cache, rows), cache.logsumexp[rows])[kept - rows.start]
        answers = {
            "model": own,
            "counterfactual": _run_01(cache, kept),
            "average_distribution": np.broadcast_to(average, own.shape),
        }
        for name, probabilities in answers.items():
            found[name].append(measure(probabilities, cache.start_year[kept]))
    return {name: _joined(parts) for name, parts in found.items()}


def average_distribution(cache: Cache) -> Float[np.ndarray, "100"]:
    """Return p(y), the mean over all prompts of the cache."""
    total = np.zeros((1, N_YEARS))
    for _, probabilities in _answers(cache):
        total = np.concatenate([total, probabilities]).sum(0, keepdims=True)
    return total[0] / len(cache)


def mean_probability(cache: Cache, years: Sequence[int]) -> Float[np.ndarray, "Y 100"]:
    """Return p(y) at each start year, at the average century (`intervals.year_means`); NaN if there is none."""
    return _by_start_year(_answers(cache), cache, years)


def mean_year_logits(cache: Cache, years: Sequence[int]) -> Float[np.ndarray, "Y 100"]:
    """Return the year logits at each start year, at the average century; NaN if there is none."""
    blocks = ((rows, _block(cache, rows).astype(float)) for rows in cache.row_blocks(BLOCK_WIDTH))
    return _by_start_year(blocks, cache, years)


def _answers(cache: Cache) -> Iterator[tuple[slice, Float[np.ndarray, "n 100"]]]:
    for rows in cache.row_blocks(BLOCK_WIDTH):
        yield rows, year_probabilities(_block(cache, rows), cache.logsumexp[rows])


def _block(cache: Cache, rows: slice) -> Float[np.ndarray, "n 100"]:
    return cache.read("final/year_logits", rows)


def _run_01(cache: Cache, kept: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n 100"]:
    """Return p(y) on the 01-counterfactual of each of these prompts."""
    query, own = np.unique(cache.counterfactual[kept], return_inverse=True)
    part = slice(int(query[0]), int(query[-1]) + 1) if len(query) else slice(0, 0)
    logits, total = cache.read("counterfactual/year_logits", part), cache.read("counterfactual/logsumexp", part)
    return year_probabilities(logits, total)[query[own] - part.start]


def _joined(parts: Sequence[Behaviour]) -> Behaviour:
    return Behaviour(
        **{field.name: np.concatenate([vars(part)[field.name] for part in parts]) for field in fields(Behaviour)}
    )


def _by_start_year(
    blocks: Iterator[tuple[slice, Float[np.ndarray, "n 100"]]], cache: Cache, years: Sequence[int]
) -> Float[np.ndarray, "Y 100"]:
    centuries, century = np.unique(cache.century, return_inverse=True)
    cell = century.reshape(-1) * N_YEARS + cache.start_year
    counts = np.bincount(cell, minlength=len(centuries) * N_YEARS)
    total = np.zeros((len(counts), N_YEARS))
    for rows, values in blocks:
        for place, one in zip(cell[rows].tolist(), values, strict=True):
            total[place] += one
    means = (total / np.maximum(counts, 1)[:, None]).reshape(-1, N_YEARS, N_YEARS)[:, list(years)]
    return year_means(Cells(means, counts.reshape(-1, N_YEARS)[:, list(years)] > 0))
