"""Populations made of arrays: neurons of known kinds, and the null in which start years mean nothing."""

from dataclasses import dataclass, replace

import numpy as np

from neurons.decomposition.population import Population

YEARS = np.arange(2, 99)
ANSWERS = np.arange(100)
TUNED = ("step", "bump", "periodic", "line", "ramp")
KINDS = ("constant", *TUNED)


def tuning_curve(kind: str, moved: float) -> np.ndarray:
    if kind == "step":
        return 1 / (1 + np.exp(-(YEARS - 55 - moved) / 2))
    if kind == "bump":
        return np.exp(-((YEARS - 35 - moved) ** 2) / (2 * 7**2))
    if kind == "periodic":
        return (1 + np.cos(2 * np.pi * (YEARS - 4 - moved) / 10)) / 2
    if kind == "line":
        return (YEARS + 20 - moved) / 120
    if kind == "ramp":
        return np.clip(60 + moved - YEARS, 0, None) / 60
    return np.ones(len(YEARS))


def readout_curve(kind: str, moved: float) -> np.ndarray:
    place = {"step": 70, "bump": 48, "line": 85, "ramp": 10, "periodic": 7, "constant": 30}[kind] + moved
    if kind in ("step", "line"):
        return 1 / (1 + np.exp(-(ANSWERS - place)))
    if kind in ("bump", "constant"):
        return np.exp(-((ANSWERS - place) ** 2) / (2 * 8**2))
    if kind == "ramp":
        return -np.exp(-((ANSWERS - place) ** 2) / (2 * 12**2))
    return (1 + np.cos(2 * np.pi * (ANSWERS - place) / 10)) / 2


@dataclass(frozen=True, eq=False)
class Held:
    """`Cells` in memory."""

    layer: np.ndarray
    index: np.ndarray
    sums: np.ndarray

    def __call__(self, layer: np.ndarray, index: np.ndarray) -> np.ndarray:
        column = {pair: i for i, pair in enumerate(zip(self.layer.tolist(), self.index.tolist(), strict=True))}
        wanted = zip(layer.tolist(), index.tolist(), strict=True)
        return self.sums[:, :, [column[pair] for pair in wanted]]


def sums_of(population: Population) -> np.ndarray:
    """The sums of all neurons, groups of prompts and start years at once."""
    return population.cells(population.layer, population.index)


def with_sums(population: Population, sums: np.ndarray) -> Population:
    """The same neurons with other sums."""
    return replace(population, cells=Held(population.layer, population.index, sums.astype(np.float32)))


def population(
    curves: np.ndarray, readout: np.ndarray, *, seed: int = 0, n_nouns: int = 20, noise: float = 0.1
) -> Population:
    """Curves [Y, N] seen through nouns: each has its own gain for each neuron (sd `noise`) and noise a cell."""
    rng = np.random.default_rng(seed)
    Y, N = curves.shape
    gain = 1 + noise * rng.normal(size=(n_nouns, 1, N))
    sums = curves * gain + noise * curves.std(0) * rng.normal(size=(n_nouns, Y, N))
    layer, index = np.repeat([8, 9], [N // 2, N - N // 2]), np.arange(N)
    return Population(
        model="synthetic",
        start_years=tuple(YEARS[:Y].tolist()),
        layer=layer,
        index=index,
        noun=np.arange(n_nouns),
        century=11 + np.arange(n_nouns) % 7,
        cells=Held(layer, index, sums.astype(np.float32)),
        counts=np.ones((n_nouns, Y), int),
        readout=readout - readout.mean(1, keepdims=True),
        bias_contrast={8: 0.01, 9: -0.02},
    )


def of_kinds(kinds: tuple[str, ...] = KINDS, *, each: int = 12, seed: int = 0) -> tuple[Population, np.ndarray]:
    """`each` neurons of every kind, one shape a kind moved by up to a year; and how far each was moved."""
    rng = np.random.default_rng(seed)
    moved = rng.uniform(-1, 1, len(kinds) * each)
    names = np.repeat(kinds, each)
    size = rng.uniform(1, 3, len(names))
    curves = np.stack([tuning_curve(*pair) for pair in zip(names, moved, strict=True)], 1) * size
    readout = np.stack([readout_curve(*pair) for pair in zip(names, moved, strict=True)]) * 0.2
    return population(curves, readout, seed=seed + 1), moved


def permuted(original: Population, *, seed: int) -> Population:
    """Start years permuted independently for each neuron (cells without a prompt keep none)."""
    rng = np.random.default_rng(seed)
    Y, N = original.curve.shape
    order = rng.permuted(np.tile(np.arange(Y)[:, None], (1, N)), axis=0)
    cells = sums_of(original) / np.maximum(original.counts, 1)[:, :, None]
    filled = np.where((original.counts > 0)[:, :, None], cells, original.curve)
    moved = np.take_along_axis(filled, np.broadcast_to(order, filled.shape), axis=1)
    return with_sums(original, moved * original.counts[:, :, None])
