"""Published checks: measurements, which arrive as arrays, to lines with verdicts. No model.

1. `token_checks`: which years there are, and the position of the year in a prompt.
2. `behaviour_checks`, `patch_checks`: the sample's behaviour, and which MLPs matter for it.
3. `circuit_checks`, `edge_checks`, `curve_checks`, `entropy_check`: results of other analyses.
The maps of the MLPs are checked in `check_maps.py`.

Standard errors: nouns and years are resampled independently, and a prompt counts as often as its noun times its
year (the pigeonhole bootstrap of Owen 2007, which errs on the large side).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from neurons.comparison import published
from neurons.comparison.published import (
    Number,
    judge_bound,
    judge_exact,
    judge_number,
    judge_order,
    layer_of,
    standard_error,
    unjudged,
)
from neurons.comparison.results import Check
from neurons.task.sample import Sample
from neurons.types import NeuronId

RESAMPLES = 400


@dataclass(frozen=True, eq=False)
class SampleRun:
    """Measures of each prompt [P] of a sample; run_01 is the corrupted run's probability difference scored against the
    true YY, NaN if a prompt has no 01-counterfactual.
    """

    probability_difference: Float[np.ndarray, " P"]
    cutoff_sharpness: Float[np.ndarray, " P"]
    run_01: Float[np.ndarray, " P"]


@dataclass(frozen=True, eq=False)
class Resampling:
    """weights [B, P]: how often each prompt counts in each bootstrap resample."""

    weights: Float[np.ndarray, "B P"]

    def means(self, values: Float[np.ndarray, " P"]) -> Float[np.ndarray, " B"]:
        """Return the mean in each resample; NaN for one that lost every prompt."""
        total = self.weights.sum(1)
        return np.divide(self.weights @ values, total, out=np.full(len(total), np.nan), where=total > 0)

    def error(self, values: Float[np.ndarray, " P"]) -> float:
        return standard_error(self.means(values))


def resampling(noun: Int[np.ndarray, " P"], year: Int[np.ndarray, " P"], *, seed: int) -> Resampling:
    """Resample nouns and years independently."""
    weights = np.ones((RESAMPLES, len(noun)))
    for step, labels in enumerate((noun, year)):
        distinct, which = np.unique(labels, return_inverse=True)
        weights *= resamples(len(distinct), RESAMPLES, seed + step)[:, which.reshape(-1)]
    return Resampling(weights)


def resamples(count: int, n_resamples: int, seed: int) -> Float[np.ndarray, "B count"]:
    """How often each of `count` things occurs in each bootstrap resample."""
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=n_resamples)
    return drawn.astype(float)


# --- tokens ----------------------------------------------------------------------------------


def token_checks(sample: Sample) -> tuple[Check, ...]:
    """Check the facts about the tokenizer on which every number rests."""
    found = tuple(map(len, sample.years.values()))
    known = published.YEARS_BY_CENTURY
    length = sample.tokens.shape[1]
    place = (length, sample.year_position, length - 1)
    where = (published.PROMPT_LENGTH, published.YEAR_POSITION, published.END_POSITION)
    return (
        judge_exact("years to draw from", sum(found), sum(known), published.COMPUTED),
        judge_exact("years by century 10-18", found, known, published.COMPUTED),
        judge_exact("tokens of a prompt, places of YY and END", place, where, published.CODE),
    )


# --- the sample ------------------------------------------------------------------------------


def behaviour_checks(sample: Sample, run: SampleRun, *, seed: int) -> tuple[Check, ...]:
    """Check probability difference, cutoff sharpness, and the sign of the corrupted run's."""
    weights = resampling(sample.noun, sample.year, seed=seed)
    rows = np.flatnonzero(sample.has_counterfactual)
    run_01 = run.run_01[rows]
    error_01 = resampling(sample.noun[rows], sample.year[rows], seed=seed).error(run_01)
    return (
        _mean("probability difference", run.probability_difference, weights, published.PROBABILITY_DIFFERENCE),
        _mean("cutoff sharpness", run.cutoff_sharpness, weights, published.CUTOFF_SHARPNESS),
        judge_bound(
            "probability difference of the corrupted run",
            float(run_01.mean()),
            0.0,
            float(np.hypot(error_01, published.RUN_01.error)),
            side="below",
            published=published.RUN_01.value,
            source=published.RUN_01.source,
            claim="negative",
        ),
    )


def _mean(name: str, values: Float[np.ndarray, " P"], weights: Resampling, known: Number) -> Check:
    return judge_number(name, float(values.mean()), weights.error(values), known)


def circuit_checks(
    sample: Sample, rows: Int[np.ndarray, " n"], alone: Float[np.ndarray, " n"], run: SampleRun, *, seed: int
) -> tuple[Check, ...]:
    """Check the published circuit. alone: probability difference of these prompts while it alone runs clean, evaluated
    as its authors did first.
    """
    weights = resampling(sample.noun[rows], sample.year[rows], seed=seed)
    model = run.probability_difference[rows]
    share = float(alone.mean() / model.mean())
    error = standard_error(weights.means(alone) / weights.means(model))
    how = "within the tolerance; as in the authors' first evaluation, the circuit's heads keep their clean outputs"
    name, known = "probability difference, the published circuit alone", published.CIRCUIT
    return (
        judge_number(name, float(alone.mean()), weights.error(alone), known, how),
        judge_number("the circuit's share of the model's", share, error, published.CIRCUIT_SHARE, how),
    )


@dataclass(frozen=True, eq=False)
class Patched:
    """Each MLP's share of the effect, and in each resample. L layers."""

    shares: Float[np.ndarray, " L"]
    resampled: Float[np.ndarray, "L B"]

    @property
    def table(self) -> tuple[tuple[float, float], ...]:
        """Share and standard error of each layer."""
        errors = map(standard_error, self.resampled)
        return tuple(zip(self.shares.tolist(), errors, strict=True))


def lost_shares(
    sample: Sample, rows: Int[np.ndarray, " n"], run: SampleRun, patched: Float[np.ndarray, "L n"], *, seed: int
) -> Patched:
    """Return (clean - patched) / (clean - corrupted) of the mean probability difference of the patched clean run."""
    return _shares(sample, rows, run, run.probability_difference[rows] - patched, seed)


def restored_shares(
    sample: Sample, rows: Int[np.ndarray, " n"], run: SampleRun, patched: Float[np.ndarray, "L n"], *, seed: int
) -> Patched:
    """Return (patched - corrupted) / (clean - corrupted) of the mean probability difference of the patched corrupted
    run.
    """
    return _shares(sample, rows, run, patched - run.run_01[rows], seed)


def _shares(
    sample: Sample, rows: Int[np.ndarray, " n"], run: SampleRun, changes: Float[np.ndarray, "L n"], seed: int
) -> Patched:
    weights = resampling(sample.noun[rows], sample.year[rows], seed=seed)
    whole = run.probability_difference[rows] - run.run_01[rows]
    with np.errstate(divide="ignore", invalid="ignore"):
        resampled = np.stack([weights.means(one) / weights.means(whole) for one in changes])
        return Patched(changes.mean(1) / whole.mean(), resampled)


def patch_checks(lost: Patched, restored: Patched) -> tuple[Check, ...]:
    """Check the order of the MLPs in both directions, with verdicts, and show published shares beside ours, without."""
    return (
        *_direction(lost, "lost", "the clean run patched", published.MLP_LOST, published.REPLICATION),
        *_direction(
            restored, "restored", "the corrupted run patched", published.MLP_RESTORED, published.RESTORED_SOURCE
        ),
    )


def _direction(found: Patched, what: str, how: str, known: Mapping[int, float], source: str) -> tuple[Check, ...]:
    n_layers = len(found.shares)
    names = [f"MLP {layer}" for layer in range(n_layers)]
    order = tuple(dict.fromkeys(names[layer_of(layer, n_layers)] for layer in published.MLP_ORDER))
    values = dict(zip(names, found.shares.tolist(), strict=True))
    published_shares = {layer_of(layer, n_layers): share for layer, share in known.items()}
    shares = [
        judge_number(
            f"MLP {layer}: share of the effect {what}, {how}",
            values[names[layer]],
            standard_error(found.resampled[layer]),
            Number(share, 0.0, source),
            "not judged: prompts or normalisation of the replication differ",
        )
        for layer, share in published_shares.items()
    ]
    resampled = dict(zip(names, found.resampled, strict=True))
    named = f"MLPs by share {what}, largest first"
    return (judge_order(named, values, resampled, order, source), *map(unjudged, shares))


# --- what other analyses found ---------------------------------------------------------------


def curve_checks(
    layer: int, values: Mapping[int, Float[np.ndarray, " P"]], start_year: Int[np.ndarray, " P"], *, seed: int
) -> tuple[Check, ...]:
    """Check the keep-top-k curve. values: k -> probability difference of each prompt; the largest k is all."""
    weights = resampling(np.zeros_like(start_year), start_year, seed=seed)
    points = dict(published.KEPT_BY_VARIANCE) | {max(values): published.KEPT_ALL}
    return tuple(_curve_check(layer, k, values[k], weights, points[k], k == max(values)) for k in sorted(values))


def _curve_check(
    layer: int, k: int, values: Float[np.ndarray, " P"], weights: Resampling, known: float, is_all: bool
) -> Check:
    """Where a choice of neurons is made, the order of near-ties adds to the error."""
    error, claim = published.READING_ERROR, f"within the tolerance, of which {published.READING_ERROR:g} is reading"
    if k and not is_all:
        error = float(np.hypot(error, published.REORDERING))
        claim += f" and {published.REORDERING:g} the order of near-ties: the variance is over our prompts, not theirs"
    name = f"MLP {layer}: difference among the years, {'all' if is_all else k} neurons kept"
    source = Number(known, error, published.CURVE_SOURCE)
    return judge_number(name, float(values.mean()), weights.error(values), source, claim)


def edge_checks(
    sample: Sample,
    rows: Int[np.ndarray, " n"],
    alone: Mapping[int, Float[np.ndarray, " n"]],
    sampled: Float[np.ndarray, " P"],
    on_file: Float[np.ndarray, " F"] | None,
    *,
    seed: int,
) -> tuple[Check, ...]:
    """Check what EAP-IG's notebook prints. alone: steps -> probability difference of circuits of 200 edges.

    on_file: probability difference of the rows of EAP-IG's file, judged; else `sampled`, of other prompts, is shown.
    """
    known, weights = published.EAP_IG_DIFFERENCE, resampling(sample.noun[rows], sample.year[rows], seed=seed)
    name, given = "probability difference on EAP-IG's 1,000 prompts", f"--prompts {published.EAP_IG_FILE}"
    if on_file is not None:
        first = judge_number(name, float(on_file.mean()), 0.0, known)
    else:
        shown = judge_number(
            name, float(sampled.mean()), 0.0, known, f"not judged: measured on the sample; give {given}"
        )
        first = unjudged(shown)
    methods = {5: "integrated gradients", 1: "attribution patching"}
    circuits = [
        judge_number(
            f"{published.EDGES} edges by {methods[steps]} alone",
            float(alone[steps].mean()),
            weights.error(alone[steps]),
            Number(value, 0.0, published.EAP_IG_SOURCE),
            f"not judged: published on {published.EAP_IG_FILE}",
        )
        for steps, value in published.EAP_IG_CIRCUITS.items()
    ]
    return (first, *map(unjudged, circuits))


def entropy_check(layer: int, found: Sequence[NeuronId]) -> Check:
    """Check the entropy neurons. found: the entropy-like neurons of the layer, by the neuron statistics."""
    known = published.ENTROPY_NEURONS
    measured = {neuron.index for neuron in found if neuron.layer == layer}
    number = sum(index in measured for index in known)
    return judge_exact(
        f"MLP {layer}: published entropy neurons found",
        number,
        len(known),
        published.ENTROPY_SOURCE,
        f"all are found: {', '.join(map(str, known))}; {len(measured)} of the layer are entropy-like here",
    )
