"""Year averages with century effects taken out, the plain way: one least squares with a column for each of both."""

from collections.abc import Sequence

import numpy as np

from neurons.cache.format import Cache


def at_the_average_century(values: np.ndarray, cache: Cache, years: Sequence[int]) -> np.ndarray:
    """[Y, ...]: least squares of cell means on years and centuries whose effects add up to zero, in float64."""
    rows = np.flatnonzero(np.isin(cache.start_year, years))
    pairs, cell = np.unique(np.stack([cache.century, cache.start_year], 1)[rows], axis=0, return_inverse=True)
    mean = np.stack([values[rows[cell.reshape(-1) == i]].astype(float).mean(0) for i in range(len(pairs))])
    X = np.concatenate([pairs[:, 1:] == list(years), pairs[:, :1] == np.unique(pairs[:, 0])], 1).astype(float)
    X = np.concatenate([X, [np.arange(X.shape[1]) >= len(years)]])
    y = np.concatenate([mean.reshape(len(mean), -1), np.zeros((1, mean[0].size))])
    return np.linalg.lstsq(X, y)[0][: len(years)].reshape(-1, *mean.shape[1:])
