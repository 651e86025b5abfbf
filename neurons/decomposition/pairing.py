"""Pairing test of a layer: do its neurons write on the start years that they are tuned to?

1. A neuron's tuning curve, centred over the start years, times the contrast of its readout, averaged over the start
   years, is the year-specific part of its boosting score. With both centred it is size x cosine: the size (the product
   of their norms) says how much the neuron could add, the cosine whether the shapes match.
2. The statistic is the sum over the neurons. Among the fewest neurons that hold 90 % of the sizes the shapes of the
   readouts are re-paired at random; each neuron keeps its size.
3. p is the share of pairings, the true one among them, whose sum is at least the true sum (Phipson and Smyth 2010).

Sizes are kept because neurons that are tuned to the start year are also those that write on years: re-pairing whole
neurons gives strong tuning weak readouts, so that any layer with a few strong neurons stands out from its own null.
The test is about the layer. It calls no neuron, and says nothing of matches in which tuning and writing follow from a
third thing, such as training on years of one century.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

HELD_BY_THE_STRONG = 0.9
PERMUTATIONS = 999


@dataclass(frozen=True, eq=False)
class Pairing:
    """One layer's test. statistic: sum of the year-specific parts, in logits; null_mean, null_deviation: of the
    re-paired sums. strong [K]: neurons whose readouts were re-paired, largest size first.

    z is NaN and p_value 1 where fewer than two neurons are strong: nothing can be re-paired.
    """

    statistic: float
    null_mean: float
    null_deviation: float
    p_value: float
    strong: Int[np.ndarray, " K"]

    @property
    def z(self) -> float:
        """How many deviations the statistic lies above the re-paired sums' mean."""
        return (self.statistic - self.null_mean) / self.null_deviation if self.null_deviation > 0 else float("nan")


def pairing_test(
    tuning: Float[np.ndarray, "Y N"],
    contrast: Float[np.ndarray, "N Y"],
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Pairing:
    """Test whether the N neurons of a layer write on the start years that they are tuned to.

    tuning: mean a/sigma at each of Y start years; contrast: of the readout, in logits for each unit of a/sigma.
    """
    curve = tuning.T.astype(float) - tuning.mean(0, dtype=float)[:, None]
    written = contrast.astype(float) - contrast.mean(1, dtype=float, keepdims=True)
    size = np.linalg.norm(curve, axis=1) * np.linalg.norm(written, axis=1)
    strong = fewest(size, HELD_BY_THE_STRONG)
    match = size[strong, None] * _unit(curve[strong]) @ _unit(written[strong]).T / tuning.shape[0]
    others = float((curve * written).sum() / tuning.shape[0] - np.trace(match))
    rows = np.arange(len(strong))
    orders = np.random.default_rng(seed).permuted(np.tile(rows, (permutations, 1)), axis=1)
    sums = match[rows, orders].sum(1)
    observed = np.trace(match)
    reached = int((sums >= observed - 1e-12 * np.abs(match).sum()).sum())
    return Pairing(
        statistic=float(observed + others),
        null_mean=float(sums.mean() + others),
        null_deviation=float(sums.std(ddof=1)) if len(strong) > 1 else 0.0,
        p_value=(1 + reached) / (1 + permutations),
        strong=strong,
    )


def fewest(size: Float[np.ndarray, " N"], part: float) -> Int[np.ndarray, " K"]:
    """Return the fewest neurons that hold this part of the sum of sizes, largest first; equal ones in their order."""
    order = np.argsort(-size, kind="stable")
    held = np.cumsum(size[order])
    return order[: int(np.searchsorted(held, part * held[-1])) + 1] if held[-1] > 0 else order[:0]


def _unit(rows: Float[np.ndarray, "K Y"]) -> Float[np.ndarray, "K Y"]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
