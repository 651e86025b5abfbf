"""Published values of GPT-2 small's greater-than, and the rules that judge a measurement against them.

Four types of claim. A standard error of a measurement comes from a bootstrap over nouns and years, that of a map
from a jackknife over centuries; tolerances are three standard errors, never the spread of single prompts.
1. A number (`judge_number`): agrees within 3 sqrt(measured SE^2 + published SE^2) of the published value. The
   published SE is its standard deviation over the root of its number of prompts. A tolerance of more than half
   the published value judges nothing.
2. Yes or no (`judge_bound`): a value must lie beyond a bound, and agrees only if it does so by more than 3 SE of the
   distance, so that chance alone never makes it agree.
3. An order (`judge_order`): each must not be exceeded by the one after it by more than 3 SE of their difference,
   and each must be above zero by more than 3 SE.
4. A fact about tokens (`judge_exact`): equal or not, tolerance 0.
Comparisons have a margin of 1e-6 of the sizes compared, beside the tolerance: rounding decides none of them.
Without a standard error (maps with one century) there is no verdict.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float

from neurons.cache.format import format_layers
from neurons.comparison.results import Check, Value, Verdict
from neurons.rounding import clearly_above, descending, largest, reaches
from neurons.types import InputError

Side = Literal["above", "below"]

SIGMAS = 3
TOO_WIDE = 0.5
"""Share of a published number: with a larger tolerance, agreement would mean nothing."""
PAPER = "Hanna, Liu and Variengien (NeurIPS 2023)"
CODE = "code"
"""Read in the authors' released code."""
SECOND_HAND = "second-hand"
"""Quoted elsewhere; the paper's own text was not available."""
REPLICATION = "replication"
"""Measured by others with TransformerLens."""
COMPUTED = "computed"
"""Follows from GPT-2's byte-pair merges, and equals the authors' stored list."""


@dataclass(frozen=True)
class Number:
    """A published number with its standard error (0 if unknown) and its source."""

    value: float
    error: float
    source: str


SAMPLE = 1_000
"""Prompts drawn from the published distribution, unless another number is asked for."""
PROMPTS_PUBLISHED = 10_000
PROBABILITY_DIFFERENCE = Number(0.817, 0.193 / math.sqrt(PROMPTS_PUBLISHED), f"{CODE}; SD {SECOND_HAND}")
CUTOFF_SHARPNESS = Number(0.060, 0.072 / math.sqrt(PROMPTS_PUBLISHED), SECOND_HAND)
"""The authors' code says 0.059."""
RUN_01 = Number(-0.556, PROBABILITY_DIFFERENCE.error, REPLICATION)
"""Judged by its sign: it was measured on 128 prompts of unknown spread. The error is the clean run's, as a stand-in."""
CIRCUIT = Number(0.727, 0.0, SECOND_HAND)
CIRCUIT_SHARE = Number(0.895, 0.0, SECOND_HAND)

YEARS_BY_CENTURY = (74, 53, 96, 89, 96, 89, 97, 97, 77)
"""Start years kept in centuries 10-18, with GPT-2's tokenizer."""
PROMPT_LENGTH, YEAR_POSITION, END_POSITION = 13, 8, 12

MLP_ORDER = (10, 9, 8, 11)
MLP_LOST = {10: 0.535, 9: 0.486, 8: 0.186, 11: 0.131}
"""Activation patching at END, normalised; the replication is not named, nor how it was normalised: the order is judged.
"""
MLP_RESTORED = {10: 0.678, 9: 0.657, 8: 0.419, 11: 0.202}
"""The other direction, the clean run's output patched into the corrupted run: what it restores."""
RESTORED_SOURCE = "github.com/ashioyajotham/greater-than-circuit, README"
"""Its README describes the first direction, its code does this one: the mean of each prompt's share, 20 prompts."""
TRIANGULAR, DIAGONAL, STEP_LAYER = (9, 10), 8, 10
MOST_OF_ONE = 0.5
"""Ours: a neuron with half of a layer's step would be ">" by itself."""
TOPS = (10, 100)

KEPT_BY_VARIANCE = {0: 0.63, 15: 0.80, 65: 0.857, 99: 0.847}
"""k neurons of MLP 10 kept -> probability difference among the years (Dunefsky et al. 2024, read off a plot)."""
KEPT_ALL = 0.883
READING_ERROR = 0.01
"""Ours: the standard error of a value read off a plot."""
REORDERING = 0.008
"""Ours: with the variance over their prompts or over ours near-ties change places, which moves a point so much."""
CURVE_SOURCE = "Dunefsky et al., plot"
CURVE_TEMPLATE, CURVE_NOUN, CURVE_CENTURY = "The {noun} lasted from {XX}{YY} to {XX}", "war", 17

EAP_IG_SOURCE = "EAP-IG, greater_than.ipynb"
EAP_IG_FILE = "greater_than_data.csv of github.com/hannamw/EAP-IG"
EAP_IG_DIGEST = "7806b1ad407137d04ea5c2f7cf5a5b712730babd90b44715ce8d45b57d82ab61"
"""SHA-256 of its 1,000 rows: clean, corrupted and label, parted by tabs, each on a line."""
EAP_IG_DIFFERENCE = Number(0.8143, 0.0005, EAP_IG_SOURCE)
"""On the rows of that file. The error is for another GPU's float32, as a stand-in."""
EDGES = 200
EAP_IG_CIRCUITS = {5: 0.7449, 1: 0.6563}
"""Steps -> what the 200 edges of the largest effects carry alone: integrated gradients, and attribution patching."""

ENTROPY_LAYER, ENTROPY_NEURONS = 11, (584, 2378, 2870, 2123, 1611, 2910)
ENTROPY_SOURCE = "Stolfo et al."

SHAPE = {"n_layers": 12, "n_heads": 12, "d_model": 768, "d_mlp": 3072, "d_vocab": 50257}
TOKEN_IDS = {"00": 405, "01": 486, "99": 2079}
BOS = 50256


def unjudged(check: Check) -> Check:
    """The same measurement without a verdict."""
    return replace(check, verdict="none")


def judge_number(name: str, measured: float, error: float, published: Number, claim: str = "") -> Check:
    """Judge a number. error: the measurement's standard error."""
    tolerance = SIGMAS * math.hypot(error, published.error)
    difference = measured - published.value
    verdict = _verdict(reaches(tolerance, abs(difference), scale=abs(measured)), difference, tolerance)
    if clearly_above(tolerance, TOO_WIDE * abs(published.value)):
        verdict = "none"
    return Check(
        name, finite(measured), published.value, finite(tolerance), verdict, published.source, finite(difference),
        claim or "within the tolerance of the published value",
    )  # fmt: skip


def judge_bound(
    name: str, measured: float, bound: float, error: float, *, side: Side, published: Value, source: str, claim: str
) -> Check:
    """Judge a value against a bound. error: the standard error of the distance to the bound."""
    beyond = measured - bound if side == "above" else bound - measured
    tolerance = SIGMAS * error
    verdict = _verdict(clearly_above(beyond, tolerance, scale=max(abs(measured), abs(bound))), beyond, tolerance)
    difference = measured - (published if isinstance(published, int | float) else bound)
    where = f"{side} {bound:.3g}"
    stated = f"{claim}: {where} by more than the tolerance"
    return Check(
        name, finite(measured), published, finite(tolerance), verdict, source, finite(difference), stated, where
    )


def judge_exact(name: str, measured: Value, published: Value, source: str, claim: str = "equal") -> Check:
    is_number = isinstance(measured, int | float) and isinstance(published, int | float)
    difference = float(measured - published) if is_number else None  # type: ignore[operator]
    return Check(
        name, measured, published, 0.0, "agrees" if measured == published else "differs", source, difference, claim
    )


def judge_order(
    name: str,
    values: Mapping[str, float],
    resampled: Mapping[str, Float[np.ndarray, " B"]],
    order: Sequence[str],
    source: str,
) -> Check:
    """Judge an order. values: of every candidate, resampled: the same in each bootstrap resample; order: the published
    leaders.

    The leader last in the order stands before the largest of the others.
    """
    others = [one for one in values if one not in order]
    chain = [*order, *([others[int(largest(np.array([values[one] for one in others])))]] if others else [])]
    gaps = [
        (values[a] - values[b], SIGMAS * float(np.std(resampled[a] - resampled[b], ddof=1))) for a, b in pairwise(chain)
    ]
    gap, tolerance = min(gaps, key=sum) if gaps else (0.0, 0.0)
    size = max(map(abs, values.values()))
    positive = all(clearly_above(values[one], SIGMAS * standard_error(resampled[one]), scale=size) for one in order)
    names = list(values)
    measured = tuple(names[row] for row in descending(np.array([values[one] for one in names])))[: len(order)]
    verdict = _verdict(
        reaches(gap, -tolerance, scale=size) and positive, *values.values(), *(end for pair in gaps for end in pair)
    )
    claim = "in this order and before all others, each above zero; none exceeds the one before it by the tolerance"
    return Check(name, measured, tuple(order), finite(tolerance), verdict, source, finite(gap), claim)


def standard_error(resampled: Float[np.ndarray, " B"]) -> float:
    """Return the standard error of a statistic from its bootstrap resamples; NaN without any."""
    known = resampled[np.isfinite(resampled)]
    return float(known.std(ddof=1)) if len(known) > 1 else float("nan")


def _verdict(agrees: bool, *known: float) -> Verdict:
    """None where a number that it rests on is not known."""
    if not all(map(math.isfinite, known)):
        return "none"
    return "agrees" if agrees else "differs"


def finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def shown(value: Value | None) -> str:
    """Write a value of a check as text."""
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def layer_of(layer: int, n_layers: int) -> int:
    """Return the layer that stands for one of GPT-2 small: as many before the last, but within the last third."""
    return max(layer - SHAPE["n_layers"] + n_layers, n_layers - max(1, n_layers // 3))


def check_replicable(layers: Sequence[int], n_layers: int) -> None:
    """Raise `InputError` if the layers do not hold all that the published measurements need."""
    wanted = sorted({layer_of(layer, n_layers) for layer in MLP_ORDER})
    if not set(wanted) <= set(layers):
        raise InputError(
            f"the published measurements need layers {format_layers(wanted)}, not all among {format_layers(layers)}:"
            " leave out layers, or name these too"
        )
