"""A study: one model, one prompt set, and every analysis of them. The way in for commands, scripts, reports, notebooks.

    study = neurons.Study("mini")        # nothing is loaded yet
    study.ranking().to_frame().head()    # builds the cache, once, and ranks from it
    study.circuit()                      # runs the model, loaded at most once

Nothing is computed here: each method says which analysis is run on what, and under which name its result is kept.
Imports inside the methods are for start-up time: a study of kept results loads no torch.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurons.study.opened import Opened
from neurons.task.intervention import Intervention
from neurons.types import NeuronId

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from neurons.circuit.graph import Circuit
    from neurons.circuit.results import CircuitStudy, PreActivation
    from neurons.circuit.search_results import Search
    from neurons.clustering.results import Clustering, Method, Tuning
    from neurons.comparison.model_results import Comparison
    from neurons.comparison.results import Checks, Transfer
    from neurons.decomposition.effects import LogitEffects
    from neurons.decomposition.population import Population
    from neurons.decomposition.ranking import Ranking
    from neurons.decomposition.results import MeasuredBehaviour
    from neurons.intervention.curve_results import Curves, PublishedCurve
    from neurons.intervention.results import Ablations, ComponentEffects
    from neurons.regression.results import Composition
    from neurons.report.weight_numbers import FromWeights
    from neurons.types import FileFormat
    from neurons.weights.results import Neighbours, NeuronStatistics, TextStudy

EXACT = 512
"""Neurons whose exact effects are measured, unless another number is asked for."""
REPORTS = "reports"
EXPLAINED = 24
"""Neurons whose inputs the circuit explains: the first of the ranking that boost."""


class Study(Opened):
    """Every analysis of one model on one prompt set. The arguments are those of `Opened`."""

    # --- what the model does ------------------------------------------------------------------------

    def behaviour(self, *, resample: bool = False) -> "MeasuredBehaviour":
        """Probability difference and cutoff sharpness, beside the corrupted run's and the average distribution's.

        resample: also with the MLPs of the cached layers taken from the corrupted run (runs the model).
        """
        from neurons.decomposition.measured import measured_behaviour, measured_rows
        from neurons.decomposition.results import MeasuredBehaviour

        runs = self._once("behaviour", lambda: measured_behaviour(self.cache, self.years))
        resampled = self._resampled() if resample else {}
        return MeasuredBehaviour(
            self.cache.model, self.years, len(measured_rows(self.cache, self.years)), runs, resampled
        )

    def _resampled(self) -> dict[str, float]:
        import numpy as np

        from neurons.intervention.groups import group_measures

        every = np.ones((1, len(self.cache.layers), self.cache.d_mlp), bool)
        with self.bars("resampling the MLPs") as progress:
            values = group_measures(self.context(), every, ablation="resample", progress=progress)
        return {name: float(values[name].mean()) for name in ("probability_difference", "cutoff_sharpness")}

    # --- which neurons ------------------------------------------------------------------------------

    def effects(self) -> "LogitEffects":
        """Exact direct logit effects of every neuron, read from the cache when asked for."""
        from neurons.decomposition.effects import logit_effects

        return self._once("effects", lambda: logit_effects(self.cache, years=self.years))

    def effect(self, neuron: str | NeuronId, start_year: int) -> "Float[np.ndarray, '100']":
        """What one neuron adds to the logits of the 100 years at one start year, whether it is measured or not."""
        from neurons.decomposition.effects import LogitEffects

        return LogitEffects(self.cache, self.plan.years).of_array(neuron, start_year=start_year)

    def ranking(self, start_year: int | None = None) -> "Ranking":
        """Every neuron in rank order; start_year: for one start year only."""
        from neurons.decomposition.ranking import rank

        make = partial(rank, self.effects(), start_year=start_year, seed=self.plan.settings.seed)
        return self._once(f"ranking {start_year}", make)

    def neuron_statistics(self) -> "NeuronStatistics":
        """What the weights of the cached layers' neurons show over the whole vocabulary."""
        return self._keep("statistics", self._make_statistics)

    def _make_statistics(self) -> "NeuronStatistics":
        from neurons.weights.statistics import neuron_statistics

        with self.bars("reading the vocabulary") as progress:
            # on the CPU, whatever the device: the moments are float64, which MPS does not have
            return neuron_statistics(self._model_on("cpu"), self.cache.layers, progress=progress)

    def texts(self, neurons: Sequence[NeuronId]) -> "TextStudy":
        """Vocabulary, strongest prompts and control prompts of these neurons; those asked for last are kept."""

        def make() -> "TextStudy":
            from neurons.weights.text import study_text

            with self.bars("reading prompts") as progress:
                return study_text(self._model_on("cpu"), self.cache, neurons, progress=progress)

        return self._keep("text", make, fits=lambda kept: set(neurons) <= {one.neuron for one in kept.neurons})

    def neighbours(self, neurons: Sequence[NeuronId]) -> "tuple[Neighbours, ...]":
        """The neurons of closest input and output weights; those asked for last are kept."""
        from neurons.weights.neighbours import every_neuron, nearest, weight_features

        def make() -> "tuple[Neighbours, ...]":
            features = weight_features(self._model_on("cpu"), self.cache.layers)
            return nearest(features, every_neuron(self.cache.layers, self.cache.d_mlp), neurons)

        return self._keep("neighbours", make, fits=lambda kept: set(neurons) <= {one.neuron for one in kept})

    # --- what happens without them ------------------------------------------------------------------

    def ablate(
        self, neurons: Sequence[str | NeuronId], intervention: Intervention | None = None, *, nouns: int | None = None
    ) -> "Ablations":
        """Exact effects of these neurons, each alone, and of all of them together."""
        from neurons.intervention.ablations import Wanted, ablations

        named = tuple(dict.fromkeys(map(self.check_neuron, neurons)))
        return ablations(
            self.context(nouns=nouns), Wanted(intervention or Intervention(), neurons=named), bars=self.bars
        )

    def ablations(
        self,
        *,
        exact: int | None = EXACT,
        intervention: Intervention | None = None,
        nouns: int | None = None,
        jobs: int | None = None,
        scheduler: str | None = None,
    ) -> "Ablations":
        """Exact effects of the `exact` neurons that the first-order screen puts first; None for all neurons.

        Those of the default settings are kept. jobs, scheduler: other processes that compute blocks of prompts.
        """
        from neurons.intervention.ablations import Wanted, ablations

        self.check_spread(jobs, scheduler)

        def make() -> "Ablations":
            wanted = Wanted(intervention or Intervention(), exact)
            return ablations(self.context(nouns=nouns), wanted, jobs=jobs, scheduler=scheduler, bars=self.bars)

        if exact != EXACT or intervention not in {None, Intervention()} or nouns is not None:
            return make()
        return self._keep("ablations", make)

    def curves(self) -> "Curves":
        """Top-k curves: the first k neurons kept or ablated, in several orders, that of `ablations` among them."""
        return self._curves()[0]

    def published_curve(self) -> "PublishedCurve":
        """The published curve: one layer's neurons by activation variance, the rest zeroed at all positions."""
        return self._curves()[1]

    def _curves(self) -> "tuple[Curves, PublishedCurve]":
        return self._keep("curves", lambda: self._curves_beside(self.ablations(), None))

    def _curves_beside(self, ablations: "Ablations", nouns: int | None) -> "tuple[Curves, PublishedCurve]":
        from neurons.intervention.ablations import top_k_curves

        seed = self.plan.settings.seed
        return top_k_curves(self.context(nouns=nouns), ablations.effects, seed=seed, bars=self.bars)

    def with_curves(self, ablations: "Ablations", *, nouns: int | None = None) -> "Ablations":
        """These ablations with the top-k curves beside them, in order of their exact effects too."""
        is_kept = nouns is None and ablations is self.kept("ablations")
        curves, published = self._curves() if is_kept else self._curves_beside(ablations, nouns)
        return replace(ablations, curves=curves, published=published)

    def components(self, *, nouns: int | None = None) -> "ComponentEffects":
        """Every MLP and every attention head ablated as a whole at END."""
        from neurons.intervention.components import component_effects

        def make() -> "ComponentEffects":
            with self.bars("ablating MLPs and heads") as progress:
                return component_effects(self.context(nouns=nouns), progress=progress)

        return make() if nouns is not None else self._keep("components", make)

    # --- how they add up ----------------------------------------------------------------------------

    def population(self) -> "Population":
        """Every neuron of the cached layers as arrays: tuning and readout."""
        from neurons.decomposition.population import neuron_population

        return self._once("population", lambda: neuron_population(self.effects()))

    def tuning(self) -> "Tuning":
        """The families of curves of the neurons that are clustered."""
        return self.clusters().tuning

    def clusters(
        self, *, method: "Method" = "hdbscan", cap: int | None = None, smallest: int | None = None
    ) -> "Clustering":
        """Clusters of the neurons that boost or suppress. cap: most of them; smallest: fewest that make a cluster."""
        from neurons.clustering.clusters import CAP, cluster

        def make() -> "Clustering":
            ranking = self.ranking()
            called = (*ranking.boosting_neurons(), *ranking.suppressing_neurons())
            with self.bars("clustering") as progress:
                return cluster(
                    self.population(), called, method=method, cap=cap or CAP, smallest=smallest,
                    seed=self.plan.settings.seed, progress=progress,
                )  # fmt: skip

        if (method, cap, smallest) != ("hdbscan", None, None):
            return make()
        return self._keep("clusters", make)

    def composition(
        self, *, also: Sequence[str | NeuronId] = (), cap: int | None = None, candidates: int | None = None
    ) -> "Composition":
        """How the neurons add up to ">". also: neurons fitted beside those that were clustered; candidates: most
        neurons that the sparse reconstruction chooses from."""
        from neurons.regression.composition import CAP

        named = list(map(self.check_neuron, also))
        make = partial(self._compose, named, cap, candidates or CAP)
        if named or cap is not None or candidates is not None:
            return make()
        return self._keep("composition", make)

    def _compose(self, also: Sequence[NeuronId], cap: int | None, candidates: int) -> "Composition":
        from neurons.clustering.tuning import tune
        from neurons.regression.composition import compose

        clustering, population, seed = self.clusters(cap=cap), self.population(), self.plan.settings.seed
        tuning, fitted = clustering.tuning, [fit.neuron for fit in clustering.tuning.neurons]
        new = [neuron for neuron in dict.fromkeys(also) if neuron not in fitted]
        if new:
            tuning = tune(population.take(population.rows([*fitted, *new])), seed=seed)
        with self.bars("composing") as progress:
            return compose(
                population,
                tuning,
                groups={str(cluster.id): cluster.members for cluster in clustering.clusters},
                cap=candidates,
                seed=seed,
                notes=clustering.notes,
                progress=progress,
            )

    # --- where the start year comes from ------------------------------------------------------------

    def circuit(
        self,
        *,
        search: "Search | None" = None,
        given: "Circuit | None" = None,
        prompts: int | None = None,
        random: int | None = None,
    ) -> "CircuitStudy":
        """The circuit found by path patching, or the one given: how much it carries, roles, inputs of neurons.

        prompts: how many are run; random: random circuits of the same size to compare with. The last one found is kept.
        """
        from neurons.circuit.results import N_RANDOM, PROMPTS
        from neurons.circuit.search_results import Search
        from neurons.circuit.study import study_circuit

        wanted = search or Search(), prompts or PROMPTS, N_RANDOM if random is None else random

        def make() -> "CircuitStudy":
            with self.bars("following paths") as progress:
                return study_circuit(
                    self.context(),
                    circuit=given,
                    search=wanted[0],
                    neurons=self.ranking().boosting_neurons()[:EXPLAINED],
                    prompts=wanted[1],
                    n_random=wanted[2],
                    seed=self.plan.settings.seed,
                    progress=progress,
                )

        return make() if given is not None else self._keep("circuit", make, fits=lambda kept: kept.asked == wanted)

    def inputs(self, neuron: str | NeuronId, *, prompts: int | None = None) -> "PreActivation":
        """What makes up a neuron's pre-activation at END, component by component."""
        from neurons.circuit.inputs import explain_neurons
        from neurons.circuit.paths import patching
        from neurons.circuit.results import PROMPTS

        (found,) = explain_neurons(patching(self.context(), prompts=prompts or PROMPTS), [neuron])
        return found

    # --- beside others ------------------------------------------------------------------------------

    def checks(self, sample: int | None = None) -> "Checks":
        """The published measurements on this model; sample: prompts drawn from the published distribution."""
        from neurons.comparison.published import SAMPLE
        from neurons.task.sample import published_sample

        checkpoint, seed = self.plan.checkpoint, self.plan.settings.seed
        drawn = published_sample(checkpoint.tokenizer, size=sample or SAMPLE, seed=seed)

        def make() -> "Checks":
            from neurons.comparison.replication import replicate

            statistics = self.kept("statistics")
            return replicate(self.model, self.effects(), drawn, statistics=statistics, seed=seed, bars=self.bars)

        return self._keep("check", make, fits=lambda kept: kept.n_prompts == len(drawn))

    def tasks(self, only: Sequence[str] | None = None, *, top: int | None = None) -> "Transfer":
        """What the model does on other prompts, and whether the same neurons do it; top: neurons held at most."""
        from neurons.study.side_by_side import transfer

        return transfer(self, only, top=top)

    def compare(self, *others: "Study") -> "Comparison":
        """This model beside others, at the start years that all of them have prompts of."""
        from neurons.study.side_by_side import compare

        return compare([self, *others])

    # --- pages --------------------------------------------------------------------------------------

    def neuron(self, neuron: str | NeuronId) -> dict[str, Any]:
        """One neuron's everything: the numbers that its page shows, as in report.json."""
        from neurons.report.numbers import neuron_numbers

        named = self.check_neuron(neuron)
        return neuron_numbers(
            self.effects(),
            self.ranking(),
            [named],
            tuning=self.tuning(),
            weights=self._weights([named]),
            clusters={member: str(c.id) for c in self.clusters().clusters for member in c.members},
        )[str(named)]

    def report(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        neurons: Sequence[str | NeuronId] = (),
        top: int = 24,
        causal: bool = False,
        circuit: bool = False,
        figures: "FileFormat | None" = None,
        command: str | None = None,
    ) -> Path:
        """Write the report and return the path of its index.

        folder: the folder of reports, default `reports`; the report is a folder in it, named after the model. neurons:
        those with a page, default the `top` of the ranking. causal, circuit: also ablations and the circuit (these
        run the model); where they were kept they are shown anyway. figures: a format in which each figure is also
        written for a paper. command: how to make the report again, as the page says it.
        """
        from neurons.report.contents import Contents, write_contents
        from neurons.report.folder import place_of
        from neurons.report.report import paged_neurons

        chosen = tuple(map(self.check_neuron, neurons)) or paged_neurons(self.ranking(), top)
        contents = Contents(
            effects=self.effects(),
            ranking=self.ranking(),
            neurons=chosen,
            clustering=self.clusters(),
            composition=self.composition(),
            weights=self._weights(chosen),
            tokens=self.plan.token_names,
            seed=self.plan.settings.seed,
            ablations=self._all_ablations(run=causal),
            circuit=self.circuit() if circuit else self.kept("circuit"),
            checks=self.kept("check"),
        )
        name = f"{self.plan.folder_name}-neurons" if neurons else self.plan.folder_name
        place = place_of(Path(folder or REPORTS), name, self.plan.checkpoint.fingerprint, self.note)
        with self.bars("writing the report") as progress:
            return write_contents(
                contents, folder=place, command=command or self._command(causal, circuit), figures=figures,
                progress=progress,
            )  # fmt: skip

    def _weights(self, neurons: Sequence[NeuronId]) -> "FromWeights":
        from neurons.report.weight_numbers import FromWeights

        return FromWeights(self.neuron_statistics(), self.texts(neurons), self.neighbours(neurons))

    def _all_ablations(self, *, run: bool) -> "Ablations | None":
        """Exact effects with curves and components, as `neurons causal` shows them together."""
        found = self.ablations() if run else self.kept("ablations")
        if found is None:
            return None
        with_curves = self._curves() if run else self.kept("curves")
        table = self.components() if run else self.kept("components")
        pair = with_curves or (None, None)
        return replace(found, curves=pair[0], published=pair[1], layers=table)

    def _command(self, causal: bool, circuit: bool) -> str:
        options = "".join(f", {name}=True" for name, yes in (("causal", causal), ("circuit", circuit)) if yes)
        return f"neurons.Study({self.plan.checkpoint.name!r}).report({options.removeprefix(', ')})"
