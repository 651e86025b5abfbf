"""How the neurons compose ">": tuning, clusters, routes, composition, faithfulness, tiling. Part of `Study`."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neurons.study import computed
from neurons.study.answered import Answered
from neurons.types import NeuronId, Neurons

if TYPE_CHECKING:
    from neurons.clustering.results import Clustering, Method, Tuning
    from neurons.decomposition.population import Population
    from neurons.regression.faithfulness_results import Faithfulness, FaithfulnessOfEach
    from neurons.regression.results import Composition
    from neurons.regression.tiling_results import Tiling
    from neurons.routes.results import Routes
    from neurons.types import Measure
    from neurons.weights.specificity_results import Specificity

WATCHED = 24
"""Neurons that are looked at one by one if none is named."""


class Composed(Answered):
    """A study's answer to the question how neurons add up."""

    def population(self) -> "Population":
        """Return every neuron of the cached layers as arrays: tuning and readout."""
        from neurons.decomposition.population import neuron_population

        return self._once("population", lambda: neuron_population(self.effects()))

    def tuning(self) -> "Tuning":
        """Return the families of curves of the neurons that are clustered."""
        return self.clusters().tuning

    def clusters(
        self, *, method: "Method" = "hdbscan", cap: int | None = None, smallest: int | None = None
    ) -> "Clustering":
        """Cluster the neurons that boost or suppress. cap: most of them; smallest: fewest that make a cluster."""
        default = (method, cap, smallest) == ("hdbscan", None, None)
        return self._keep("clusters", lambda: computed.clusters(self, method, cap, smallest), default=default)

    def routes(self, part: float = 0.9, *, measure: "Measure" = "probability_difference") -> "Routes":
        """How the neurons of the sufficient set reach the answer: their shares, and the total effects of the first of
        them, split into direct, through the final LayerNorm's scale, later attention and later neurons, neuron by
        neuron. Runs the model once; those of the default are kept.
        """

        def make() -> "Routes":
            from neurons.routes.follow import follow

            neurons = self.sufficient_set(part, measure=measure)
            return follow(self.context(), self.attribution(measure), neurons, bars=self.bars)

        return self._keep("routes", make, default=(part, measure) == (0.9, "probability_difference"))

    def specificity(self, path: str | os.PathLike[str], neurons: Sequence[str | NeuronId] = ()) -> "Specificity":
        """Whether neurons fire on years alone, or on much else in a text of your own, and what the text loses without
        the sufficient set. neurons: default the first 24 of the ranking. Reads the text twice, streamed; those of the
        last call are kept.

        Raises `InputError` for a file that cannot be read, is empty, too short or not UTF-8.
        """
        from neurons.weights.files import digest_of

        file = Path(path)
        digest, ranking = digest_of(file), self.ranking()
        named = tuple(dict.fromkeys(map(self.check_neuron, neurons))) or ranking.neurons[:WATCHED]

        def make() -> "Specificity":
            from neurons.weights.specificity import specificity

            held = self.sufficient_set() if self.plan.settings.attribution else ranking.boosting_neurons()
            with self.bars("reading the text") as progress:
                return specificity(
                    self.model_on("cpu"), self.cache, file, named, held, start_years=self.years, progress=progress
                )

        def fits(kept: "Specificity") -> bool:
            return kept.digest == digest and set(named) <= {one.neuron for one in kept.neurons}

        return self._keep("specificity", make, fits=fits)

    def composition(self, *, also: Sequence[str | NeuronId] = (), cap: int | None = None) -> "Composition":
        """Compose the greater-than map of the neurons' maps. also: neurons fitted beside those that were clustered."""
        named = tuple(map(self.check_neuron, also))
        return self._keep(
            "composition", lambda: computed.composition(self, named, cap), default=not named and cap is None
        )

    def faithfulness(
        self, describe: Callable[[int, NeuronId], float] | None = None, *, neurons: Neurons | None = None
    ) -> "Faithfulness":
        """Hold the neurons at what descriptions of their tuning say, run what follows, and measure what is recovered.

        describe: your own description, from start year and neuron to an activation after the nonlinearity; default the
        standard ones (mean curves, families, levels, components, prototypes). neurons: those described, default all of
        the layers; the others are held at their mean curves. Runs the model; the default is kept.
        """
        default = describe is None and neurons is None
        return self._keep("faithfulness", lambda: computed.faithfulness(self, describe, neurons), default=default)

    def faithfulness_of_each(self, neurons: Sequence[str | NeuronId] = ()) -> "FaithfulnessOfEach":
        """Hold single neurons at the fitted family of their tuning, and measure what is kept of each one's own effect.

        neurons: default the first 24 of the ranking. Runs the model once for all; those of the last call are kept.
        """
        named = tuple(dict.fromkeys(map(self.check_neuron, neurons))) or self.ranking().neurons[:WATCHED]
        return self._keep(
            "of_each",
            lambda: computed.faithfulness_of_each(self, named),
            fits=lambda kept: set(named) <= {one.neuron for one in kept.rows},
        )

    def tiling(self) -> "Tiling":
        """Place the neurons that recover 90 % of the probability difference: tuning centre, readout edge, their law.

        With the exchange test: neurons held at each other's curves, by distance, which runs the model. Without
        attribution: the boosting neurons, without that test. Kept.
        """
        return self._keep("tiling", lambda: computed.tiling(self))
