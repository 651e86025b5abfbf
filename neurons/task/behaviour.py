"""Probability difference, cutoff sharpness, logit step and accuracy of year logits.

The first two are those of Hanna, Liu and Variengien (NeurIPS 2023): the softmax runs over the full
vocabulary, then the probabilities of the 100 two-digit years are taken. The logit step needs no softmax: it is blind to
how sure the answer is, and sees the cutoff where the contrast does not.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from neurons.shown import Shown
from neurons.task.years import N_YEARS, contrast_weights, later


@dataclass(frozen=True, repr=False)
class Behaviour(Shown):
    """Measures for each prompt, and their mean and standard deviation over prompts.

    probability_difference [P]: sum p(y > YY) minus sum p(y <= YY), -1..1; cutoff_sharpness [P]: p(YY+1) - p(YY-1);
    logit_step [P]: logit of YY+1 minus that of YY-1. p are probabilities of the full-vocabulary softmax.
    top_1, top_5 [P]: share of the 1 and 5 most likely of the 100 years that are later than YY; top 1 is the accuracy of
    the one answer that the model prefers.
    """

    probability_difference: Float[np.ndarray, " P"]
    cutoff_sharpness: Float[np.ndarray, " P"]
    logit_step: Float[np.ndarray, " P"]
    top_1: Float[np.ndarray, " P"]
    top_5: Float[np.ndarray, " P"]

    def summary(self) -> dict[str, object]:
        spread = {name: f"{value['mean']:+.4f} (sd {value['sd']:.4f})" for name, value in self.means().items()}
        return {"prompts": len(self.probability_difference), **spread}

    def means(self) -> dict[str, dict[str, float]]:
        """`{"probability_difference": {"mean", "sd"}, "cutoff_sharpness": ...}`, by measure."""
        return {name: {"mean": float(values.mean()), "sd": float(values.std())} for name, values in vars(self).items()}


SMALLEST = np.finfo(float).tiny
"""A probability that a float64 rounds to zero has at most this one's logarithm."""


def year_probabilities(
    year_logits: Float[np.ndarray, "P 100"], logsumexp: Float[np.ndarray, " P"]
) -> Float[np.ndarray, "P 100"]:
    """Return p(y) under the full-vocabulary softmax; `logsumexp` is over the whole vocabulary."""
    return np.exp(np.asarray(year_logits, float) - np.asarray(logsumexp, float)[:, None])


def probability_difference(
    probabilities: Float[np.ndarray, "P 100"], start_year: Int[np.ndarray, " P"]
) -> Float[np.ndarray, " P"]:
    """Return the sum of p(y > YY) minus the sum of p(y <= YY) for each prompt, -1..1."""
    sign = np.where(later(start_year.tolist()), 1.0, -1.0)
    return (probabilities * sign).sum(1)


def cutoff_sharpness(
    probabilities: Float[np.ndarray, "P 100"], start_year: Int[np.ndarray, " P"]
) -> Float[np.ndarray, " P"]:
    """Return p(YY + 1) minus p(YY - 1) for each prompt; YY must be in 1..98."""
    rows = np.arange(len(start_year))
    return probabilities[rows, start_year + 1] - probabilities[rows, start_year - 1]


def top_k(
    probabilities: Float[np.ndarray, "P 100"], start_year: Int[np.ndarray, " P"], k: int
) -> Float[np.ndarray, " P"]:
    """Return the share of each prompt's k most likely years that are later than YY; of equal ones the earlier comes
    first.
    """
    first = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return (first > np.asarray(start_year)[:, None]).mean(1)


def contrast(year_logits: Float[np.ndarray, "P 100"], start_year: Int[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
    """Return the mean logit over y > YY minus the mean logit over y <= YY for each prompt, in logits."""
    return (np.asarray(year_logits, float) * contrast_weights(start_year.tolist())).sum(1)


def logit_step(year_logits: Float[np.ndarray, "P 100"], start_year: Int[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
    """Return the logit of YY + 1 minus that of YY - 1 for each prompt; YY must be in 1..98."""
    return cutoff_sharpness(np.asarray(year_logits, float), start_year)


def measure(probabilities: Float[np.ndarray, "P 100"], start_year: Int[np.ndarray, " P"]) -> Behaviour:
    """Measure all for prompts whose start years lie in 1..98."""
    return Behaviour(
        probability_difference=probability_difference(probabilities, start_year),
        cutoff_sharpness=cutoff_sharpness(probabilities, start_year),
        logit_step=logit_step(np.log(np.maximum(probabilities, SMALLEST)), start_year),
        top_1=top_k(probabilities, start_year, 1),
        top_5=top_k(probabilities, start_year, 5),
    )


def by_start_year(
    values: Float[np.ndarray, "P ..."], start_year: Int[np.ndarray, " P"]
) -> Float[np.ndarray, "100 ..."]:
    """Average over the prompts of each start year; NaN where there is none."""
    total = np.zeros((N_YEARS, *values.shape[1:]))
    np.add.at(total, start_year, values)
    count = np.bincount(start_year, minlength=N_YEARS).astype(float)
    count[count == 0] = np.nan
    return total / count.reshape(-1, *[1] * (values.ndim - 1))
