"""How the neurons compose ">": population, tuning, clusters, routes and composition. Part of `Study`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neurons.study import computed
from neurons.study.answered import Answered
from neurons.types import NeuronId

if TYPE_CHECKING:
    from neurons.clustering.results import Clustering, Method, Tuning
    from neurons.decomposition.population import Population
    from neurons.regression.results import Composition
    from neurons.routes.results import Routes
    from neurons.types import Measure


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

    def composition(
        self, *, also: Sequence[str | NeuronId] = (), cap: int | None = None, candidates: int | None = None
    ) -> "Composition":
        """Compose the greater-than map of the neurons' maps.

        also: neurons fitted beside those that were clustered. candidates: most neurons that the sparse
        reconstruction chooses from.
        """
        named = tuple(map(self.check_neuron, also))
        return self._keep(
            "composition",
            lambda: computed.composition(self, named, cap, candidates),
            default=not named and cap is None and candidates is None,
        )
