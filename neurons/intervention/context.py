"""Ablation context: a model, a cache of its activations, the prompts measured, and the replacement values.

Changes are taken for each prompt, averaged over the prompts of a start year, then over start years.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurons.cache.format import Cache
from neurons.decomposition.cells import Activations
from neurons.model.forward import EndTrace, run, trace
from neurons.model.model import Model
from neurons.shown import Shown
from neurons.task.years import N_YEARS, measured_years
from neurons.types import Ablation, CacheError, InputError, check_choice, check_is, check_whole

PROMPT_BLOCK = 128
"""Prompts whose keys and values are in memory at once; finished work is kept a block at a time."""


@dataclass(frozen=True, eq=False, repr=False)
class AblationContext(Shown):
    """A model, a cache of its activations, and the P prompts measured: `rows` of the cache.

    activations: what is known of all of its prompts, read once.
    """

    model: Model
    cache: Cache
    start_years: tuple[int, ...]
    rows: Int[np.ndarray, " P"]
    activations: Activations

    def __len__(self) -> int:
        return len(self.rows)

    def summary(self) -> dict[str, object]:
        return {"model": self.model.name, "prompts": len(self), "start years": len(self.start_years)}

    @cached_property
    def start_year(self) -> Int[np.ndarray, " P"]:
        """YY of each prompt, 0..99."""
        return self.cache.start_year[self.rows]

    @cached_property
    def year_ids(self) -> Int[np.ndarray, "100"]:
        """Token ids of the bare "00".."99"."""
        return self.cache.read("years/token_ids")

    @cached_property
    def averaging(self) -> Float[np.ndarray, "Y P"]:
        """Return the weights whose product with values of prompts is their mean over the prompts of each measured start
        year.
        """
        member = (self.start_year == np.array(self.start_years)[:, None]).astype(float)
        return member / member.sum(1, keepdims=True)

    def averaging_of(self, rows: Int[np.ndarray, " B"]) -> Float[np.ndarray, "Y B"]:
        """Return the weights of some of the measured prompts, by their rows of the cache: columns of `averaging`."""
        years, count = np.array(self.start_years), np.bincount(self.start_year, minlength=N_YEARS)
        return (self.cache.start_year[rows] == years[:, None]) / count[years][:, None]

    @cached_property
    def tokens(self) -> Int[np.ndarray, "all T"]:
        """Token ids of every prompt of the cache."""
        return self.cache.read("prompts/tokens")

    @cached_property
    def counterfactual_tokens(self) -> Int[np.ndarray, "Q T"]:
        """Token ids of the 01-counterfactuals."""
        return self.cache.read("counterfactual/tokens")

    @cached_property
    def shared(self) -> int:
        """Number of leading positions that a prompt shares with its counterfactual: those before YY."""
        same = (self.tokens == self.counterfactual_tokens[self.cache.counterfactual]).all(0)
        return min(int(np.argmin(same)), self.tokens.shape[1] - 1)

    def blocks(self) -> list[slice]:
        """Yield the P prompts in pieces of `PROMPT_BLOCK`."""
        return [slice(start, min(start + PROMPT_BLOCK, len(self))) for start in range(0, len(self), PROMPT_BLOCK)]

    def trace(self, block: slice) -> EndTrace:
        """Run the model on a block of prompts and keep what a rerun at END needs."""
        return trace(self.model, self.tokens[self.rows[block]], shared=self.shared)

    def held_at(self, ablation: Ablation, layer: int, block: slice) -> Float[Tensor, "P N"]:
        """Return the activation that replaces each neuron's own, of the layer, for the prompts of a block."""
        if check_choice("ablation", ablation, Ablation) == "resample":
            own_01 = self.cache.counterfactual[self.rows[block]]
            return self.post_01[layer][torch.as_tensor(own_01, dtype=torch.long, device=self.model.device)]
        one = self._means[layer] if ablation == "mean" else torch.zeros_like(self._means[layer])
        return one.expand(block.stop - block.start, -1)

    @cached_property
    def post_01(self) -> dict[int, Float[Tensor, "Q N"]]:
        """Return activations at END in the corrupted run, in the model's own precision."""
        tokens, layers = self.counterfactual_tokens, self.cache.layers
        return run(self.model, tokens, shared=self.shared, layers=layers, year_token_ids=self.year_ids).post

    @cached_property
    def _means(self) -> dict[int, Float[Tensor, " N"]]:
        like, cache = self.model.W_E, self.cache
        return {layer: torch.as_tensor(self.activations.layer(layer).mean).to(like) for layer in cache.layers}


def ablation_context(
    model: Model,
    cache: Cache,
    *,
    years: Iterable[int] | None = None,
    nouns: int | None = None,
    activations: Activations | None = None,
) -> AblationContext:
    """Choose the prompts of a cache on which neurons are ablated: those whose start years are measured.

    years: default those of 02-98 that have a prompt. nouns: only the prompts of the first `nouns` nouns, to save
    time; default all. activations: those of this cache, if they were read already.

    Raises `CacheError` if the cache was made with another model, `InputError` for a start year without a
    prompt or more nouns than there are.
    """
    check_is("model", model, Model, "what load_model returns")
    check_is("cache", cache, Cache, "what cache_activations or open_cache returns")
    if activations is not None:
        check_is("activations", activations, Activations, "Activations(cache)")
    if model.fingerprint != cache.model_sha256:
        raise CacheError(
            f"cache {cache.path} was made with other weights than {model.name}'s: give the model it was made with"
        )
    words = list(dict.fromkeys(cache.noun))
    if nouns is not None and not 1 <= check_whole("nouns", nouns) <= len(words):
        raise InputError(f"{nouns} nouns asked for: this cache holds 1 to {len(words)}")
    chosen = np.isin(cache.noun, words[:nouns])
    measured = measured_years(cache.start_year[chosen].tolist(), years)
    rows = np.flatnonzero(chosen & np.isin(cache.start_year, measured))
    return AblationContext(model, cache, measured, rows, activations or Activations(cache))
