"""The families of curves that describe how a neuron is tuned, or what it writes.

1. Each family is a shape over the years, scaled and shifted freely: `curve = level + height * shape`.
   Line, periodic (last digit) and staircase (tens digit) are linear in all they have. Step, ramp and
   bump also have a place (and a width): those are tried on a grid, all curves at once, the level and
   the height by least squares for each.
2. Cross-validation picks the family: it is fitted to some years of one mean curve and predicts the years
   left out of another.
3. The family chosen is then refined from its best grid point with `scipy.optimize.least_squares`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from neurons.rounding import MARGIN, largest, reaches

Family = Literal["constant", "line", "step", "ramp", "bump", "periodic", "staircase", "none"]
FAMILIES: tuple[Family, ...] = get_args(Family)[:-1]
PLACED = ("step", "ramp", "bump")
"""Families with a place, found on a grid."""

STEP_WIDTHS: tuple[float, ...] = (0.3, 0.5, 0.8, 1.2, 2.0, 3.0, 4.5, 7.0, 10.0)
BUMP_WIDTHS: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0, 4.5, 6.5, 9.0, 13.0, 18.0, 25.0)
EDGE = 2.5
"""Years required on either side of a step or hinge: two, so that one odd year makes none."""


def step(x: np.ndarray, threshold: float, width: float) -> np.ndarray:
    """0 long before the threshold, 1 long after it, logistic in between."""
    return 1 / (1 + np.exp(-np.clip((x - threshold) / width, -60, 60)))


def ramp(x: np.ndarray, threshold: float, side: float) -> np.ndarray:
    """0 on one side of the threshold, the distance from it on the other (`side` 1: above, -1: below)."""
    return np.maximum(0, side * (x - threshold))


def bump(x: np.ndarray, centre: float, width: float) -> np.ndarray:
    """A Gaussian of height 1; `width` is its standard deviation in years."""
    return np.exp(-(((x - centre) / width) ** 2) / 2)


SHAPES = {"step": step, "ramp": ramp, "bump": bump}


@dataclass(frozen=True, eq=False)
class Grid:
    """Shapes [g, Y] of one placed family, and the place and width (or side) of each [g, 2]."""

    settings: Float[np.ndarray, "g 2"]
    shapes: Float[np.ndarray, "g Y"]


@lru_cache(maxsize=8)
def grid(family: str, years: tuple[int, ...]) -> Grid:
    """Every place (each year; half years for a step) with every width."""
    x = np.array(years, float)
    inner = (x.min() + EDGE - 1, x.max() - EDGE + 1)
    places = {
        "step": np.arange(inner[0], inner[1] + 0.01, 0.5),
        "ramp": np.arange(inner[0], inner[1] + 0.01),
        "bump": x,
    }
    widths = {"step": STEP_WIDTHS, "ramp": (1.0, -1.0), "bump": BUMP_WIDTHS}
    settings = np.array([(place, width) for place in places[family] for width in widths[family]], float).reshape(-1, 2)
    return Grid(settings, np.array([SHAPES[family](x, *row) for row in settings]).reshape(-1, len(x)))


def design(family: str, years: Sequence[int]) -> Float[np.ndarray, "Y p"]:
    """Columns of a family that is linear in its parameters."""
    x = np.asarray(years, float)
    one = np.ones((len(x), 1))
    if family == "constant":
        return one
    if family == "line":
        return np.column_stack([one, x])
    if family == "periodic":
        turns = 2 * np.pi * np.outer(x, [1, 2]) / 10
        return np.column_stack([one, np.cos(turns), np.sin(turns)])
    tens = np.unique(x // 10)
    return (x[:, None] // 10 == tens).astype(float)


def n_parameters(family: str, years: Sequence[int]) -> int:
    """Free numbers of the family: level, height, place and width; a ramp's side counts as none."""
    placed = {"ramp": 3, "step": 4, "bump": 4}
    return placed.get(family) or design(family, years).shape[1]


def fit(
    family: str,
    years: tuple[int, ...],
    curves: Float[np.ndarray, "Y M"],
    fitted: Bool[np.ndarray, " Y"],
) -> Float[np.ndarray, "Y M"]:
    """Least squares on the years `fitted`; the fit's value at every year, for each of the M curves."""
    if family in PLACED:
        best = best_on_grid(family, years, curves, fitted)
        return _on_shape(grid(family, years).shapes[best].T, curves, fitted)
    X = design(family, years)
    return X @ (np.linalg.pinv(X[fitted], MARGIN) @ curves[fitted])


def best_on_grid(
    family: str,
    years: tuple[int, ...],
    curves: Float[np.ndarray, "Y M"],
    fitted: Bool[np.ndarray, " Y"],
) -> Int[np.ndarray, " M"]:
    """Which grid point explains most of each curve: the highest squared correlation, the first of equals."""
    unit = _unit_shapes(family, years, tuple(fitted.tolist()))
    return largest((unit @ curves[fitted]) ** 2)


@lru_cache(maxsize=64)
def _unit_shapes(family: str, years: tuple[int, ...], fitted: tuple[bool, ...]) -> np.ndarray:
    """The shapes at the years `fitted`, without their means and of norm 1; 0 where a shape does not vary there."""
    shapes = grid(family, years).shapes[:, np.array(fitted)]
    centred = shapes - shapes.mean(1, keepdims=True)
    size = np.sqrt((centred**2).sum(1, keepdims=True))
    return np.divide(centred, size, out=np.zeros_like(centred), where=size > 1e-6)


def _on_shape(shape: np.ndarray, curves: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """Each column of `curves` [Y, M] regressed on its own shape and a level, at the years `fitted`."""
    level, height = _level_and_height(shape[fitted], curves[fitted])
    return level + height * shape


def _level_and_height(shape: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """[2, M] least squares of each column of `curves` on the same column of `shape`."""
    centred = shape - shape.mean(0)
    size = (centred**2).sum(0)
    height = np.divide((centred * curves).sum(0), size, out=np.zeros_like(size), where=size > 1e-12)
    return np.stack([curves.mean(0) - height * shape.mean(0), height])


@dataclass(frozen=True, eq=False)
class Refined:
    """One curve's final fit: the named parameters and the fitted values [Y]."""

    parameters: dict[str, float]
    values: Float[np.ndarray, " Y"]


def refine(family: str, years: tuple[int, ...], curve: Float[np.ndarray, " Y"]) -> Refined:
    """The chosen family fitted to the whole curve; placed families are refined from their best grid point."""
    everywhere = np.ones(len(years), bool)
    if family not in PLACED:
        X = design(family, years)
        weights = np.linalg.pinv(X, MARGIN) @ curve
        return Refined(_linear_parameters(family, years, weights), X @ weights)
    start = grid(family, years).settings[best_on_grid(family, years, curve[:, None], everywhere)[0]]
    place, width = _refine_place(family, np.array(years, float), curve, start)
    shape = SHAPES[family](np.array(years, float), place, width)
    level, height = _level_and_height(shape[:, None], curve[:, None])[:, 0]
    return Refined(_placed_parameters(family, place, width, level, height), level + height * shape)


def _refine_place(family: str, x: np.ndarray, curve: np.ndarray, start: np.ndarray) -> tuple[float, float]:
    """Least squares over place and log width, level and height solved for inside (variable projection).

    A result that leaves the years or the range of widths is not taken: the grid point stands.
    """
    from scipy.optimize import least_squares

    side = float(start[1]) if family == "ramp" else None
    theta = start[:1] if family == "ramp" else np.array([start[0], np.log(start[1])])
    data = (family, x, curve, side)
    found = least_squares(_residual, theta, args=data, method="lm", max_nfev=60, ftol=1e-7, xtol=1e-6)
    place, width = _setting(found.x, side)
    widths = {"step": STEP_WIDTHS, "bump": BUMP_WIDTHS}.get(family, (-1.0, 1.0))
    inside = x.min() <= place <= x.max() and widths[0] <= width <= widths[-1]
    better = reaches((_residual(theta, *data) ** 2).sum(), 2 * found.cost)
    return (place, width) if inside and better else (float(start[0]), float(start[1]))


def _setting(theta: np.ndarray, side: float | None) -> tuple[float, float]:
    """Place and width; a ramp keeps its side."""
    return float(theta[0]), float(np.exp(np.clip(theta[1], -9, 9))) if side is None else side


def _residual(theta: np.ndarray, family: str, x: np.ndarray, curve: np.ndarray, side: float | None) -> np.ndarray:
    shape = SHAPES[family](x, *_setting(theta, side))[:, None]
    level, height = _level_and_height(shape, curve[:, None])
    return (level + height * shape)[:, 0] - curve


def _placed_parameters(family: str, place: float, width: float, level: float, height: float) -> dict[str, float]:
    level, height = float(level), float(height)
    if family == "step":
        return {"threshold": place, "slope": 1 / width, "before": level, "after": level + height}
    if family == "ramp":
        return {"threshold": place, "side": width, "level": level, "slope": width * height}
    return {"centre": place, "width": width, "base": level, "height": height}


def _linear_parameters(family: str, years: Sequence[int], weights: np.ndarray) -> dict[str, float]:
    if family == "constant":
        return {"level": float(weights[0])}
    if family == "line":
        return {"intercept": float(weights[0]), "slope": float(weights[1])}
    if family == "staircase":
        tens = sorted({year // 10 for year in years})
        return {f"level_{ten}0s": float(w) for ten, w in zip(tens, weights, strict=True)}
    digits = np.arange(0, 10, 0.1)
    peak = digits[largest(_periodic_curve(digits, weights))]
    names = ("mean", "cos_10", "cos_5", "sin_10", "sin_5")
    return {"centre": float(peak)} | {name: float(w) for name, w in zip(names, weights, strict=True)}


def _periodic_curve(digits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    turns = 2 * np.pi * np.outer(digits, [1, 2]) / 10
    return weights[0] + np.cos(turns) @ weights[1:3] + np.sin(turns) @ weights[3:5]
