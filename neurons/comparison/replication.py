"""Replicate the published measurements on a model, each with its published value.

1. The prompts of the published distribution are run, and some of them again with each MLP patched (`sampled.py`).
2. Maps come from the cache file, entropy-like neurons from the neuron statistics, the rest from the model.
3. A model of GPT-2 small's shape with its tokenizer is judged; any other is measured the same way, without verdicts.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from neurons.cache.format import Cache
from neurons.cache.parts import Parts, parts_beside
from neurons.circuit.edge_attribution import edge_effects
from neurons.circuit.evaluation import behaviour_alone
from neurons.circuit.graph import Circuit, published_circuit
from neurons.circuit.paths import Patching, patching_of
from neurons.comparison import published
from neurons.comparison.check_maps import map_checks
from neurons.comparison.checks import (
    behaviour_checks,
    circuit_checks,
    curve_checks,
    edge_checks,
    entropy_check,
    lost_shares,
    patch_checks,
    restored_shares,
    token_checks,
)
from neurons.comparison.published import layer_of, unjudged
from neurons.comparison.results import Check, Checks
from neurons.comparison.sampled import patch_mlps, run_sample
from neurons.decomposition.effects import LogitEffects
from neurons.intervention.curves import among_years, keeping
from neurons.model.files import Checkpoint
from neurons.model.forward import run
from neurons.model.model import Model
from neurons.rounding import descending
from neurons.task.behaviour import probability_difference, year_probabilities
from neurons.task.prompt_set import OwnPrompts, PromptSet
from neurons.task.prompts import year_spans, year_tokens
from neurons.task.sample import Sample
from neurons.task.templates import Template
from neurons.types import Bars, no_bars
from neurons.weights.results import NeuronStatistics
from neurons.weights.statistics import neuron_statistics

PATCHED = 250
"""Prompts of the sample that are patched, at most."""
ATTRIBUTED = 32
"""Of these, prompts on which edges are attributed."""
CIRCUIT = 64
"""Prompts whose residuals at every position are in memory at once."""


def replicate(
    model: Model,
    effects: LogitEffects,
    sample: Sample,
    *,
    own: PromptSet | None = None,
    statistics: NeuronStatistics | None = None,
    seed: int = 0,
    bars: Bars = no_bars,
) -> Checks:
    """Measure everything that is published on this model, judged where possible.

    own: the prompts of the cache. statistics: of the cached layers, if they are known. An interrupted run continues
    where it stopped.
    """
    here = _Run(model, effects.cache, sample, seed, bars)
    judged, parts = is_judged(model.checkpoint), here.parts
    with bars("the published prompts") as progress:
        ran = run_sample(model, sample, parts=parts, progress=progress)
    with bars("patching MLPs") as progress:
        into_clean = patch_mlps(model, sample, here.rows, parts=parts, progress=progress)
    with bars("patching MLPs the other way") as progress:
        into_corrupted = patch_mlps(model, sample, here.rows, into="corrupted", parts=parts, progress=progress)
    lost = lost_shares(sample, here.rows, ran, into_clean, seed=seed)
    restored = restored_shares(sample, here.rows, ran, into_corrupted, seed=seed)
    lines = (
        *token_checks(sample),
        *behaviour_checks(sample, ran, seed=seed),
        *patch_checks(lost, restored),
        *map_checks(effects, model.config.n_layers),
        *here.curve(),
        here.entropy(statistics),
        *edge_checks(sample, here.few, here.edges(), ran.probability_difference, here.on_file(own), seed=seed),
        *(circuit_checks(sample, here.rows, here.circuit(), ran, seed=seed) if judged else ()),
    )
    parts.remove()
    checks = lines if judged else tuple(map(unjudged, lines))
    return Checks(model.name, judged, len(sample), len(here.rows), seed, checks, lost.table, restored.table)


def is_eap_ig_file(prompts: PromptSet | None) -> bool:
    """Return whether these are the rows of EAP-IG's file, and no others."""
    if not isinstance(prompts, OwnPrompts) or prompts.left_out:
        return False
    text = "".join(f"{row.clean}\t{row.corrupted}\t{row.label}\n" for row in prompts.rows)
    return hashlib.sha256(text.encode()).hexdigest() == published.EAP_IG_DIGEST


def is_judged(checkpoint: Checkpoint) -> bool:
    """Return whether the checkpoint has GPT-2 small's shape and GPT-2's tokenizer, by the ids that the task needs."""
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    if any(getattr(config, name) != size for name, size in published.SHAPE.items()):
        return False
    years = year_tokens(tokenizer)
    return tokenizer.bos_token_id == published.BOS and all(
        years[int(text)] == token for text, token in published.TOKEN_IDS.items()
    )


@dataclass(frozen=True, eq=False)
class _Run:
    """One replication: what its measurements share."""

    model: Model
    cache: Cache
    sample: Sample
    seed: int
    bars: Bars

    @property
    def parts(self) -> Parts:
        """Where finished blocks of this sample are kept until all is done."""
        return parts_beside(self.cache, "check", {"sample": self.sample.digest, "patched": PATCHED})

    @property
    def rows(self) -> Int[np.ndarray, " n"]:
        """The prompts that are patched, evenly spread over the nouns."""
        able = np.flatnonzero(self.sample.has_counterfactual)
        return able[np.linspace(0, len(able) - 1, min(PATCHED, len(able))).astype(int)]

    def curve(self) -> tuple[Check, ...]:
        """The keep-top-k curve on its own prompts: one noun and century, no "the year"."""
        model = self.model
        prompts = year_spans(
            model.tokenizer,
            nouns=[published.CURVE_NOUN],
            centuries=[published.CURVE_CENTURY],
            template=Template(published.CURVE_TEMPLATE),
        )
        rows = (prompts.start_year >= 1) & (prompts.start_year <= 98)
        tokens, start_year, year_ids = prompts.tokens[rows], prompts.start_year[rows], prompts.year_token_ids
        layer, n_neurons = layer_of(published.STEP_LAYER, model.config.n_layers), model.config.d_mlp
        shared = prompts.year_position
        post = run(model, tokens, shared=shared, layers=[layer], year_token_ids=year_ids).post[layer]
        order = descending(post.numpy(force=True).astype(float).var(0))
        sizes = [*(k for k in published.KEPT_BY_VARIANCE if k < n_neurons), n_neurons]
        values = {
            k: among_years(keeping(model, layer, order[:k]), tokens, start_year, year_ids, shared=shared) for k in sizes
        }
        return curve_checks(layer, values, start_year, seed=self.seed)

    def entropy(self, statistics: NeuronStatistics | None) -> Check:
        """From the statistics that are known, else of the one layer."""
        layer = layer_of(published.ENTROPY_LAYER, self.model.config.n_layers)
        if statistics is None:
            with self.bars("reading the vocabulary") as progress:
                statistics = neuron_statistics(self.model, [layer], progress=progress)
        return entropy_check(layer, statistics.of_class("entropy"))

    @property
    def few(self) -> Int[np.ndarray, " n"]:
        """Some of the patched prompts, evenly spread."""
        rows = self.rows
        return rows[np.linspace(0, len(rows) - 1, min(ATTRIBUTED, len(rows))).astype(int)]

    def edges(self) -> dict[int, Float[np.ndarray, " n"]]:
        """Probability difference of `few` prompts while circuits of edges alone run clean, by steps of their effects.

        As in EAP-IG: the mean is over prompts, and an edge is the same at every position.
        """
        here = self._patching(self.few)
        here, found = replace(here, averaging=np.full(len(here), 1 / len(here))), {}
        for steps in published.EAP_IG_CIRCUITS:
            with self.bars("edge attribution") as progress:
                effects = edge_effects(here, steps=steps, progress=progress)
            edges = tuple(effects.circuit_without_positions(published.EDGES))
            found[steps] = behaviour_alone(here, Circuit("edges", (), edges, by_edges=True)).probability_difference
        return found

    def on_file(self, own: PromptSet | None) -> Float[np.ndarray, " F"] | None:
        """Probability difference of the prompts of EAP-IG's file, if the cache is of these."""
        if not is_eap_ig_file(own):
            return None
        cache = self.cache
        return probability_difference(year_probabilities(cache.year_logits, cache.logsumexp), cache.start_year)

    def circuit(self) -> Float[np.ndarray, " n"]:
        """Probability difference of each patched prompt while the published circuit alone runs, its heads clean."""
        rows, found = self.rows, []
        with self.bars("the published circuit alone") as progress:
            for start in range(0, len(rows), CIRCUIT):
                part = rows[start : start + CIRCUIT]
                here = self._patching(part)
                circuit = replace(published_circuit(here.layout), clean_heads=True)
                found.append(behaviour_alone(here, circuit).probability_difference)
                progress(start + len(part), len(rows))
        return np.concatenate(found)

    def _patching(self, rows: Int[np.ndarray, " n"]) -> Patching:
        sample = self.sample
        return patching_of(
            self.model,
            sample.tokens[rows],
            sample.counterfactual_tokens[sample.counterfactual[rows]],
            first=sample.year_position,
            start_year=sample.start_year[rows],
            year_ids=sample.year_token_ids,
        )
