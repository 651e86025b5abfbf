"""Ablation context: a model, a cache of its activations, the prompts measured, and the replacement values.

Changes are taken for each prompt, averaged over the prompts of a start year at the average century
(`intervals.year_means`), then over start years.

Where an analysis runs the model many times, it does so on a sample (`AblationContext.sampled`): the same number of
prompts of every start year, and as nearly as can be of every century.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurons.cache.compute import worker_model
from neurons.cache.format import Cache, open_cache
from neurons.cache.parts import Parts
from neurons.decomposition.cells import Activations
from neurons.intervals import Weights, prompt_weights
from neurons.intervention.draws import DRAWS, random_years
from neurons.model.forward import EndTrace, layer_passes, run, trace
from neurons.model.model import Model
from neurons.shown import Shown
from neurons.task.years import measured_years
from neurons.types import Ablation, CacheError, InputError, check_choice, check_is, check_whole

PROMPT_BLOCK = 128
"""Prompts whose keys and values are in memory at once; finished work is kept a block at a time."""
WORK = 2.5e12
"""Multiply-adds of an analysis on a sample: 40 seconds on two cores."""
PER_YEAR = 8
"""Prompts of each start year in a headline's sample. Of `mini`'s, eight leave a standard deviation of 0.006 in the
recovered part of the probability difference and 0.004 in that of cutoff sharpness, four leave 0.009 and 0.011."""
Held = Mapping[int, Float[Tensor, "P N"]]
"""Layer -> the activations that replace the neurons' own."""


@dataclass(frozen=True, eq=False, repr=False)
class AblationContext(Shown):
    """A model, a cache of its activations, and the P prompts measured: `rows` of the cache.

    activations: what is known of all of its prompts, read once. seed: of the random-year draws, and of samples.
    all_prompts: never take a sample.
    """

    model: Model
    cache: Cache
    start_years: tuple[int, ...]
    rows: Int[np.ndarray, " P"]
    activations: Activations
    seed: int = 0
    all_prompts: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def summary(self) -> dict[str, object]:
        return {"model": self.model.name, "prompts": len(self), "start years": len(self.start_years)}

    @cached_property
    def start_year(self) -> Int[np.ndarray, " P"]:
        """YY of each prompt, 0..99."""
        return self.cache.start_year[self.rows]

    def on(self, rows: Int[np.ndarray, " S"]) -> "AblationContext":
        """Return the context on some of its prompts, by their rows of the cache, and on their start years."""
        return replace(self, rows=np.sort(rows), start_years=tuple(np.unique(self.cache.start_year[rows]).tolist()))

    def sampled(self, runs: int, *, least: int = 1, most: int | None = None) -> "AblationContext":
        """Return the context itself where so many runs of all its prompts are within `WORK`, else on a sample of them.

        runs: how often each prompt is run. least, most: prompts of each start year in a sample, whatever the work.
        """
        count = np.unique(self.start_year, return_counts=True)[1]
        per_year = max(least, int(WORK // (runs * len(count) * self._work_of_a_run)))
        per_year = min(per_year, most or per_year)
        return self if self.all_prompts or per_year >= count.max() else self.balanced(per_year)

    @property
    def _work_of_a_run(self) -> int:
        """Multiply-adds of END run again from the first chosen layer on, and of the logits of all tokens."""
        config = self.model.config
        layer = 4 * config.d_model**2 + 2 * config.d_model * config.d_mlp
        return (config.n_layers - min(self.cache.layers)) * layer + self.model.W_U.numel()

    def balanced(self, per_year: int) -> "AblationContext":
        """Return the context on so many prompts of each start year, drawn from the centuries with the fewest so far."""
        rng, century = np.random.default_rng(self.seed), self.cache.century
        free = {year: rng.permutation(self.rows[self.start_year == year]).tolist() for year in self.start_years}
        taken: list[int] = []
        used: Counter[int] = Counter()
        for _ in range(per_year):
            for year in rng.permutation(self.start_years).tolist():
                if not free[year]:
                    continue
                row = min(free[year], key=lambda row: used[int(century[row])])
                free[year].remove(row)
                used[int(century[row])] += 1
                taken.append(row)
        return self.on(np.array(taken))

    @cached_property
    def year_ids(self) -> Int[np.ndarray, "100"]:
        """Token ids of the bare "00".."99"."""
        return self.cache.read("years/token_ids")

    @cached_property
    def _weights(self) -> Weights:
        return prompt_weights(century=self.cache.century[self.rows], start_year=self.start_year, years=self.start_years)

    @property
    def averaging(self) -> Float[np.ndarray, "Y P"]:
        """Return the weights whose product with values of prompts is their mean at each measured start year: every
        century counts the same.
        """
        return self._weights.means

    @property
    def averaging_without(self) -> Float[np.ndarray, "C P"]:
        """Return the weights of the mean over start years without each century in turn, for intervals."""
        return self._weights.without

    def averaging_of(self, rows: Int[np.ndarray, " B"]) -> Float[np.ndarray, "Y B"]:
        """Return the weights of some of the measured prompts, by their rows of the cache: columns of `averaging`."""
        return self._weights.of(np.searchsorted(self.rows, rows))

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

    def held(self, ablation: Ablation, block: slice, *, draws: int = DRAWS) -> tuple[Held, ...]:
        """Return what replaces each neuron's activation for the prompts of a block: once for each of the random-year
        draws, else once.

        Raises `InputError` for random-year ablation where all prompts have one start year.
        """
        if check_choice("ablation", ablation, Ablation) == "random-year":
            return self._drawn(self.others(block, draws=draws))
        if ablation == "resample":
            own_01 = torch.as_tensor(self.cache.counterfactual[self.rows[block]], device=self.model.device).long()
            return ({layer: post[own_01] for layer, post in self.post_01.items()},)
        n = block.stop - block.start
        size = 1 if ablation == "mean" else 0
        return ({layer: (size * mean).expand(n, -1) for layer, mean in self._means.items()},)

    def others(self, block: slice, *, draws: int = DRAWS) -> Int[np.ndarray, "R P"]:
        """Return the rows of the cache drawn for the prompts of a block: random other start years."""
        return random_years(self.cache, draws=draws, seed=self.seed)[:, self.rows[block]]

    @torch.no_grad()
    def _drawn(self, others: Int[np.ndarray, "R P"]) -> tuple[Held, ...]:
        """The activations of other prompts of the cache, in the model's own precision."""
        ran = np.unique(others)
        passes = layer_passes(self.model, self.tokens[ran], shared=self.shared, only_end=True)
        post = {layer: one.post[:, -1] for layer, one in enumerate(passes) if layer in self.cache.layers}
        at = torch.as_tensor(np.searchsorted(ran, others), device=self.model.device)
        return tuple({layer: values[rows] for layer, values in post.items()} for rows in at)

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
    seed: int = 0,
    all_prompts: bool = False,
) -> AblationContext:
    """Choose the prompts of a cache on which neurons are ablated: those whose start years are measured.

    years: default those of 02-98 that have a prompt. nouns: only the prompts of the first `nouns` nouns, to save
    time; default all. activations: those of this cache, if they were read already. seed: of the random-year draws and
    of samples. all_prompts: never take a sample of the prompts.

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
    check_whole("seed", seed, least=0)
    words = list(dict.fromkeys(cache.noun))
    if nouns is not None and not 1 <= check_whole("nouns", nouns) <= len(words):
        raise InputError(f"{nouns} nouns asked for: this cache holds 1 to {len(words)}")
    chosen = np.isin(cache.noun, words[:nouns])
    measured = measured_years(cache.start_year[chosen].tolist(), years)
    rows = np.flatnonzero(chosen & np.isin(cache.start_year, measured))
    return AblationContext(model, cache, measured, rows, activations or Activations(cache), seed, all_prompts)


@dataclass(frozen=True)
class ContextPaths:
    """Where a worker finds a context: paths, and a kept part, `plan`, that says which prompts are measured."""

    checkpoint: str
    fingerprint: str
    cache: str
    folder: str
    digest: str
    plan: str
    seed: int

    @property
    def parts(self) -> Parts:
        return Parts(Path(self.folder), self.digest)

    def open(self) -> tuple[AblationContext, Mapping[str, np.ndarray]]:
        """Return the context in a worker, and the arrays of the plan. Raises `CacheError` where it sees no plan."""
        plan = self.parts.plan(self.plan)
        model, cache = worker_model(self.checkpoint, self.fingerprint), open_cache(self.cache)
        years = tuple(plan["start_years"].tolist())
        return AblationContext(model, cache, years, plan["rows"], Activations(cache), self.seed), plan


def paths_for_workers(ctx: AblationContext, parts: Parts, plan: str, **arrays: np.ndarray) -> ContextPaths:
    """Keep the plan, with these arrays in it, among the parts. Raises `CacheError` if the folder cannot be written."""
    parts = replace(parts, folder=parts.folder.resolve())
    parts.tidy()
    parts.put(plan, {"rows": ctx.rows, "start_years": np.array(ctx.start_years), **arrays})
    return ContextPaths(
        ctx.model.checkpoint.for_workers, ctx.model.fingerprint, str(ctx.cache.path.resolve()),
        str(parts.folder), parts.digest, plan, ctx.seed,
    )  # fmt: skip
