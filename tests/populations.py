"""Populations made of arrays: neurons of known kinds, and the null in which start years mean nothing."""

from dataclasses import replace

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


def population(
    curves: np.ndarray, readout: np.ndarray, *, seed: int = 0, centuries: int = 20, noise: float = 0.1
) -> Population:
    """Curves [Y, N] seen through centuries: each has its own gain for each neuron (sd `noise`) and noise a cell."""
    rng = np.random.default_rng(seed)
    Y, N = curves.shape
    gain = 1 + noise * rng.normal(size=(centuries, 1, N))
    value = curves * gain + noise * curves.std(0) * rng.normal(size=(centuries, Y, N))
    layer, index = np.repeat([8, 9], [N // 2, N - N // 2]), np.arange(N)
    return Population(
        model="synthetic",
        start_years=tuple(YEARS[:Y].tolist()),
        layer=layer,
        index=index,
        value=value.astype(np.float32),
        held=np.ones((centuries, Y), bool),
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
    filled = np.where(original.held[:, :, None], original.value, original.curve)
    moved = np.take_along_axis(filled, np.broadcast_to(order, filled.shape), axis=1)
    return replace(original, value=moved.astype(np.float32))
