"""Measures of a final residual at END: the year logits [n, P, 100], or one measure [n, P].

Both readers read n variants of P prompts from three things: the whole residual (`of_residual`);
`base.residual + amount * write` without building it (`of_write`); and that residual with the final
LayerNorm's scale kept at the base's (`of_frozen`).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurons.intervention.context import AblationContext
from neurons.model.at_end import FinalResidual, frozen_logits
from neurons.model.forward import logsumexp, year_logits
from neurons.model.model import Model, final_scale
from neurons.task.years import N_YEARS, contrast_weights, later
from neurons.types import OF_LOGITS, Measure


@dataclass(frozen=True, eq=False)
class YearReader:
    """The logits of the 100 years."""

    model: Model
    year_ids: Int[Tensor, "100"]

    def of_residual(self, residual: Float[Tensor, "n P d"]) -> Float[Tensor, "n P 100"]:
        return year_logits(self.model, residual, self.year_ids)

    def of_write(
        self, base: FinalResidual, write: Float[Tensor, "n d"], amount: Float[Tensor, "n P"]
    ) -> Float[Tensor, "n P 100"]:
        return base.logits_with(write, amount, self.year_ids)

    def of_frozen(
        self, base: FinalResidual, write: Float[Tensor, "n d"], amount: Float[Tensor, "n P"]
    ) -> Float[Tensor, "n P 100"]:
        """Built from the changed residual itself, so that it can be compared with what the effects predict."""
        changed = base.residual + amount[..., None] * write[:, None]
        return frozen_logits(self.model, changed, final_scale(self.model, base.residual), self.year_ids)


@dataclass(frozen=True, eq=False)
class Scorer:
    """One measure. `weights` [P, 100] are those of the prompts' start years."""

    years: YearReader
    measure: Measure
    weights: Float[Tensor, "P 100"]

    def of_residual(self, residual: Float[Tensor, "n P d"]) -> Float[Tensor, "n P"]:
        total = None if self.measure in OF_LOGITS else logsumexp(self.years.model, residual)
        return self.score(self.years.of_residual(residual), total)

    def of_write(
        self, base: FinalResidual, write: Float[Tensor, "n d"], amount: Float[Tensor, "n P"]
    ) -> Float[Tensor, "n P"]:
        total = None if self.measure in OF_LOGITS else base.logsumexp_with(write, amount)
        return self.score(self.years.of_write(base, write, amount), total)

    def of_frozen(
        self, base: FinalResidual, write: Float[Tensor, "n d"], amount: Float[Tensor, "n P"]
    ) -> Float[Tensor, "n P"]:
        """Measures in logits alone: with a frozen scale there are no probabilities."""
        return self.score(self.years.of_frozen(base, write, amount), None)

    def score(
        self, logits: Float[Tensor, "n P 100"], over_vocabulary: Float[Tensor, "n P"] | None
    ) -> Float[Tensor, "n P"]:
        """Return the measure from year logits; those of probabilities need the logsumexp over the vocabulary."""
        values = logits if over_vocabulary is None else (logits - over_vocabulary[..., None]).exp()
        return torch.einsum("npy,py->np", values, self.weights)


Reader = YearReader | Scorer


def year_reader(ctx: AblationContext) -> YearReader:
    return YearReader(ctx.model, torch.as_tensor(ctx.year_ids, dtype=torch.long, device=ctx.model.device))


def scorer(ctx: AblationContext, measure: Measure, block: slice) -> Scorer:
    weights = torch.as_tensor(measure_weights(measure, ctx.start_year[block])).to(ctx.model.W_E)
    return Scorer(year_reader(ctx), measure, weights)


def measure_weights(measure: Measure, start_year: Int[np.ndarray, " P"]) -> Float[np.ndarray, "P 100"]:
    """Return a measure's weights: each is linear in the year logits (`OF_LOGITS`) or in the year probabilities."""
    if measure == "contrast":
        return contrast_weights(start_year.tolist())
    if measure == "probability_difference":
        return np.where(later(start_year.tolist()), 1.0, -1.0)
    rows = np.arange(len(start_year))
    weights = np.zeros((len(start_year), N_YEARS))
    weights[rows, start_year + 1], weights[rows, start_year - 1] = 1.0, -1.0
    return weights
