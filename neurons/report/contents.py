"""What a report shows: the results of one study, the neurons with a page, and every number of it.

Nothing is computed here. Results that were not asked for, and not kept from before, are None and have no page.
`report.py` says how they are written.
"""

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from neurons.attribution.position_results import Positions
from neurons.cache.format import Cache
from neurons.circuit.results import CircuitStudy
from neurons.clustering.results import Clustering, Tuning
from neurons.comparison.results import Checks
from neurons.decomposition.effects import LogitEffects
from neurons.intervention.results import Ablations
from neurons.ranking.mask_results import LearnedMasks
from neurons.ranking.results import OrderComparison, Ranking
from neurons.ranking.set_results import Interchange, OnOtherPrompts, SetStudy
from neurons.regression.faithfulness_results import Faithfulness, FaithfulnessOfEach
from neurons.regression.results import Composition
from neurons.regression.tiling_results import Tiling
from neurons.report.folder import FORMAT
from neurons.report.numbers import (
    NOTHING_KEPT,
    behaviour_numbers,
    called_numbers,
    layer_numbers,
    neuron_numbers,
    prompt_numbers,
    with_followed,
)
from neurons.report.weight_numbers import FromWeights
from neurons.routes.results import Routes
from neurons.types import NeuronId
from neurons.weights.specificity_results import Specificity

FORMAT_VERSION = 2
DIRECT_EFFECTS = "exact, in logits, through the final LayerNorm with its scale frozen; from the cache alone"
BY_SHARE = (
    "by share of the probability difference between a random other start year and the prompt's own, 95 % intervals over"
    " centuries"
)
BY_DIRECT_EFFECT = "by direct effect, 95 % intervals over centuries; no attribution"
SUPPRESSING_SHARE = 4
"""One page in this many is kept for the strongest suppressing neurons."""


@dataclass(frozen=True, eq=False)
class Contents:
    """The results of one study. neurons: those with a page; tokens: a prompt's tokens as words; seed: the study's.

    about: what every page says of the model.
    """

    effects: LogitEffects
    ranking: Ranking
    neurons: tuple[NeuronId, ...]
    clustering: Clustering | None = None
    composition: Composition | None = None
    tiling: Tiling | None = None
    faithfulness: Faithfulness | None = None
    of_each: FaithfulnessOfEach | None = None
    weights: FromWeights = NOTHING_KEPT
    ablations: Ablations | None = None
    circuit: CircuitStudy | None = None
    checks: Checks | None = None
    orders: OrderComparison | None = None
    routes: Routes | None = None
    specificity: Specificity | None = None
    sets: SetStudy | None = None
    elsewhere: OnOtherPrompts | None = None
    interchange: Interchange | None = None
    masks: LearnedMasks | None = None
    positions: Positions | None = None
    tokens: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seed: int = 0
    about: str = ""

    @property
    def cache(self) -> Cache:
        return self.effects.cache

    @property
    def paged(self) -> frozenset[str]:
        """Names of the neurons with a page."""
        return frozenset(map(str, self.neurons))

    @property
    def tuning(self) -> Tuning | None:
        return None if self.clustering is None else self.clustering.tuning

    @cached_property
    def labels(self) -> dict[str, dict[NeuronId, str]]:
        """Further columns of the explorer: the tuning family and the cluster of each clustered neuron."""
        if self.clustering is None:
            return {}
        return {
            "family": {fit.neuron: fit.tuning.family for fit in self.clustering.tuning.neurons},
            "cluster": cluster_names(self.clustering),
        }

    def numbers(self, command: str) -> dict[str, Any]:
        """Every number of the report, as `report.json` holds them, without those of the pages of single analyses."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "model": self.cache.model,
            "command": command,
            "start_years": list(self.effects.start_years),
            "prompts": prompt_numbers(self.cache),
            "behaviour": behaviour_numbers(self.effects),
            "layers": layer_numbers(self.effects),
            "called": called_numbers(self.ranking),
            "orders": None if self.orders is None else self.orders.to_json(),
            "sets": None if self.sets is None else self.sets.to_json(),
            "elsewhere": None if self.elsewhere is None else [one.to_json() for one in self.elsewhere],
            "interchange": None if self.interchange is None else self.interchange.to_json(),
            "masks": None if self.masks is None else self.masks.to_json(),
            "positions": None if self.positions is None else self.positions.to_json(),
            "answer": None if self.ranking.answer is None else dict(vars(self.ranking.answer)),
            "ranking": [self.ranking.record(row) for row in range(len(self.ranking))],
            "neurons": self._neurons(),
            "provenance": provenance(self.cache, self.analyses(), self.notes),
        }  # fmt: skip

    def _neurons(self) -> dict[str, dict[str, Any]]:
        clusters = self.labels.get("cluster", {})
        found = neuron_numbers(
            self.effects, self.ranking, self.neurons, tuning=self.tuning, weights=self.weights, clusters=clusters
        )
        return with_followed(found, self.routes, self.specificity, self.tiling, self.of_each)

    def analyses(self) -> dict[str, str]:
        """The analyses shown and how each was run, for the page of provenance."""
        by = BY_DIRECT_EFFECT if self.ranking.answer is None else BY_SHARE
        found = {"direct effects": DIRECT_EFFECTS, "ranking": by}
        if self.clustering is not None:
            found["clusters and composition"] = f"seed {self.seed}, from the cache alone"
        if self.weights is not NOTHING_KEPT:
            found["vocabulary, prompts, controls, neighbours"] = "of the neurons with a page, from the weights"
        if self.ablations is not None:
            effects = self.ablations.effects
            found["causal"] = (
                f"{len(effects.neurons):,} neurons, {effects.intervention.ablation}-ablated at END;"
                f" {effects.intervention.effect} effect on {effects.n_prompts:,} prompts"
            )
        if self.sets is not None:
            found["sets of neurons"] = (
                f"on {self.sets.n_prompts:,} prompts, random ones on {self.sets.n_sampled:,}; seed {self.sets.seed}"
            )
        if self.circuit is not None:
            method = "given" if self.circuit.found is None else self.circuit.found.search.method
            found["circuit"] = f"{method}, on {self.circuit.evaluation.n_prompts:,} prompts"
        return found | self._followed()

    def _followed(self) -> dict[str, str]:
        found = {}
        if self.routes is not None:
            found["routes"] = f"of {len(self.routes.share.neurons):,} neurons, {self.routes.draws} draws a prompt"
        if self.of_each is not None:
            found["neurons' own descriptions"] = (
                f"of {len(self.of_each.rows):,} neurons, on {self.of_each.prompts:,} prompts"
            )
        if self.specificity is not None:
            found["specificity"] = f"on {self.specificity.tokens:,} tokens of {self.specificity.file}"
        return found


def cluster_names(clustering: Clustering) -> dict[NeuronId, str]:
    """The cluster of each neuron that has one."""
    return {neuron: str(cluster.id) for cluster in clustering.clusters for neuron in cluster.members}


def paged_neurons(ranking: Ranking, top: int) -> tuple[NeuronId, ...]:
    """The `top` neurons that get a page, in rank order: the first in rank, and the strongest suppressing ones."""
    mirrored = ranking.suppressing_neurons()[: top // SUPPRESSING_SHARE]
    first = ranking.neurons[: top - len(mirrored)]
    chosen = dict.fromkeys([*first, *mirrored[::-1]])
    return tuple(chosen)


def provenance(cache: Cache, analyses: Mapping[str, str], notes: Sequence[str]) -> dict[str, Any]:
    """Where the numbers come from: checkpoint, prompts, cache, analyses, versions of what built the cache and of what
    drew the pages. notes: of how checkpoint and prompts are stored. cache_written: the file's own time, in UTC."""
    drawn_by = {name: importlib.metadata.version(name) for name in ("neurons", "numpy", "scipy", "matplotlib")}
    return {
        "model": cache.model,
        "model_sha256": cache.model_sha256,
        "layers": list(cache.layers),
        "prompts_sha256": cache.prompts_sha256,
        "cache_key": cache.key,
        "cache_file": cache.path.name,
        "cache_written": _written(cache.path),
        "analyses": dict(analyses),
        "notes": list(notes),
        "versions": dict(sorted((cache.versions | drawn_by).items())),
    }


def _written(file: Path) -> str | None:
    try:
        return datetime.fromtimestamp(file.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except OSError:
        return None
