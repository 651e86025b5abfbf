"""Every measure of an answer, and its gradient, from one softmax over the vocabulary; measures of logits need none.

With normed x, logits W_U x, p their softmax and E the expected row of W_U under p:
1. a measure linear in the year logits, sum w_y logit_y, has the gradient sum w_y W_U[y];
2. one linear in the year probabilities, F = sum w_y p_y, has sum w_y p_y W_U[y] - F E.

So all measures share the two products with W_U, which are most of the work.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurons.intervention.readers import measure_weights
from neurons.model.model import Model
from neurons.types import OF_LOGITS, Measure

ROWS, TOKENS = 512, 1024
"""Answers and tokens read at once: full matrix speed, and 2 MB of logits."""


@dataclass(frozen=True, eq=False)
class Answer:
    """K measures at P prompts. weights [K, P, 100]: of the year logits (`OF_LOGITS`) or the year
    probabilities."""

    model: Model
    measures: tuple[Measure, ...]
    weights: Float[Tensor, "K P 100"]
    W_years: Float[Tensor, "100 d"]

    def values(self, normed: Float[Tensor, "n P d"]) -> Float[Tensor, "K n P"]:
        """Each measure, from what the final LayerNorm gives."""
        is_of_logits = set(self.measures) <= set(OF_LOGITS)
        total = None if is_of_logits else softmax_over_vocabulary(self.model, normed, expected=False)[0]
        return self._values(normed, total)

    def with_gradient(self, normed: Float[Tensor, "n P d"]) -> tuple[Float[Tensor, "K n P"], Float[Tensor, "K n P d"]]:
        """Each measure, and its gradient with respect to `normed`."""
        total, expected = softmax_over_vocabulary(self.model, normed, expected=True)
        values = self._values(normed, total)
        p = (normed @ self.W_years.T - total[..., None]).exp()
        gradients = torch.empty(len(self.measures), *normed.shape, dtype=normed.dtype, device=normed.device)
        for k, (measure, w) in enumerate(zip(self.measures, self.weights, strict=True)):
            if measure in OF_LOGITS:
                gradients[k] = w @ self.W_years
            else:
                gradients[k] = (p * w) @ self.W_years - values[k, ..., None] * expected
        return values, gradients

    def _values(self, normed: Float[Tensor, "n P d"], total: Float[Tensor, "n P"] | None) -> Float[Tensor, "K n P"]:
        logits = normed @ self.W_years.T
        p = logits if total is None else (logits - total[..., None]).exp()
        read = [logits if measure in OF_LOGITS else p for measure in self.measures]
        return torch.stack([(x * w).sum(-1) for x, w in zip(read, self.weights, strict=True)])


def answer_of(
    model: Model, measures: Sequence[Measure], start_year: Int[np.ndarray, " P"], year_ids: Int[np.ndarray, "100"]
) -> Answer:
    """The measures of prompts with these start years."""
    weights = np.stack([measure_weights(measure, start_year) for measure in measures])
    rows = torch.as_tensor(year_ids, dtype=torch.long, device=model.device)
    return Answer(model, tuple(measures), torch.as_tensor(weights).to(model.W_U), model.W_U[rows])


def softmax_over_vocabulary(
    model: Model, normed: Float[Tensor, "n P d"], *, expected: bool
) -> tuple[Float[Tensor, "n P"], Float[Tensor, "n P d"]]:
    """Logsumexp of the logits, and (if `expected`, else zeros) the mean row of W_U under their softmax.

    A tile of the vocabulary at a time, the sums rescaled when a larger logit comes: the logits of a tile stay in the
    processor's cache, and memory is bounded.
    """
    flat = normed.reshape(-1, normed.shape[-1])
    total, mean = flat.new_empty(len(flat)), torch.zeros_like(flat)
    for start in range(0, len(flat), ROWS):
        part = slice(start, start + ROWS)
        total[part] = _running_softmax(flat[part], model.W_U, mean[part] if expected else None)
    return total.view(normed.shape[:-1]), mean.view(normed.shape)


def _running_softmax(
    x: Float[Tensor, "r d"], W_U: Float[Tensor, "V d"], mean: Float[Tensor, "r d"] | None
) -> Float[Tensor, " r"]:
    """Logsumexp of x W_U, the mean row of W_U written into `mean`."""
    largest = x.new_full((len(x), 1), -torch.inf)
    summed = torch.zeros_like(largest)
    for tile in W_U.split(TOKENS):
        logits = x @ tile.T
        now = torch.maximum(largest, logits.amax(-1, keepdim=True))
        weights, rescale = logits.sub_(now).exp_(), (largest - now).exp_()
        summed.mul_(rescale).add_(weights.sum(-1, keepdim=True))
        if mean is not None:
            mean.mul_(rescale).addmm_(weights, tile)
        largest = now
    if mean is not None:
        mean.div_(summed)
    return (summed.log() + largest)[:, 0]
