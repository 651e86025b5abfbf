"""What changes when neurons, sets of them, MLPs or heads are ablated. Part of `Study`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from neurons.study.composed import Composed
from neurons.task.intervention import Intervention
from neurons.types import NeuronId

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, Int

    from neurons.intervention.context import AblationContext
    from neurons.intervention.curve_results import Curves, PublishedCurve
    from neurons.intervention.exact import Beside
    from neurons.intervention.results import Ablations, ComponentEffects, NeuronEffects, References
    from neurons.types import Ablation, Measure

EXACT = 512
"""Default number of neurons whose exact effects are measured."""


class Ablated(Composed):
    """A study's exact effects, against a random other start year unless another ablation is asked for."""

    def ablate(
        self, neurons: Sequence[str | NeuronId], intervention: Intervention | None = None, *, nouns: int | None = None
    ) -> "Ablations":
        """Ablate these neurons, each alone and all together, and measure the exact effects."""
        named = tuple(dict.fromkeys(map(self.check_neuron, neurons)))
        return self._ablations(self.context(nouns=nouns), named, intervention, together=True)

    def ablations(
        self,
        *,
        exact: int | None = EXACT,
        intervention: Intervention | None = None,
        nouns: int | None = None,
        jobs: int | None = None,
        scheduler: str | None = None,
    ) -> "Ablations":
        """Measure the exact effects of the `exact` neurons whose shares are largest in size; None for all neurons.

        Without attribution RelP takes the place of shares. Those of the default settings are kept. jobs, scheduler:
        other processes that compute blocks of prompts.
        """
        self.check_spread(jobs, scheduler)

        def make() -> "Ablations":
            ctx = self.context(nouns=nouns)
            return self._ablations(ctx, self._first(ctx, exact), intervention, jobs=jobs, scheduler=scheduler)

        default = exact == EXACT and intervention in {None, Intervention()} and nouns is None
        return self._keep("ablations", make, default=default)

    def _ablations(
        self,
        ctx: "AblationContext",
        neurons: Sequence[NeuronId],
        intervention: Intervention | None,
        *,
        together: bool = False,
        jobs: int | None = None,
        scheduler: str | None = None,
    ) -> "Ablations":
        from neurons.intervention.ablations import ablations
        from neurons.intervention.context import PER_YEAR

        chosen, some = intervention or Intervention(), ctx.sampled(len(neurons), least=PER_YEAR // 2)
        return ablations(
            some, neurons, chosen, self._beside(some, chosen), together=together, jobs=jobs, scheduler=scheduler,
            bars=self.bars,
        )  # fmt: skip

    def _first(self, ctx: "AblationContext", count: int | None) -> tuple[NeuronId, ...]:
        """The neurons of largest share, or by RelP; as many as there are at most."""
        from neurons.attribution.approximations import relp
        from neurons.intervention.exact import all_neurons, top_of

        every = all_neurons(ctx.cache)
        if count is None or count >= len(every):
            return every
        if self.plan.settings.attribution:
            values = self.attribution().share
        else:
            values = relp(ctx, measures=["probability_difference"])["probability_difference"]
        return top_of(ctx, self._by_layer(values), count)

    def _beside(self, ctx: "AblationContext", intervention: Intervention) -> "dict[Beside, Float[np.ndarray, 'L N']]":
        """What stands beside exact effects."""
        from neurons.attribution.patching import attribution_patching
        from neurons.decomposition.scores import direct_scores

        scores = direct_scores(self.effects())
        with self.bars("attribution patching") as progress:
            patching = attribution_patching(ctx, intervention, progress=progress)
        return {
            "patching": patching,
            "score": self._by_layer(scores.score),
            "year_specific": self._by_layer(scores.year_specific),
        }

    def _by_layer(self, values: "Float[np.ndarray, ' M']") -> "Float[np.ndarray, 'L N']":
        return values.reshape(len(self.plan.layers), -1)

    def references(
        self, *, ablation: "Ablation" = "random-year", nouns: int | None = None
    ) -> "dict[Measure, References]":
        """Return what effects are read against: clean run, floor, corrupted run, average distribution."""
        from neurons.intervention.ablations import all_references

        return all_references(self.context(nouns=nouns), ablation, bars=self.bars)

    def top_k_curves(
        self, *, ablation: "Ablation" = "random-year", nouns: int | None = None
    ) -> "tuple[Curves, PublishedCurve]":
        """Compute `curves` and `published_curve` together, without any neuron's exact effect.

        Those of the default settings are kept; where `with_curves` kept them, they have the order by exact effect too.
        """
        return self._curves(ablation=ablation, nouns=nouns)

    def curves(self) -> "Curves":
        """Compute top-k curves: the first k neurons of several orders kept or ablated."""
        return self.top_k_curves()[0]

    def published_curve(self) -> "PublishedCurve":
        """Compute the published curve: one layer's neurons by activation variance, the rest zeroed at all positions."""
        return self.top_k_curves()[1]

    def _curves(
        self,
        effects: "NeuronEffects | None" = None,
        *,
        ablation: "Ablation" = "random-year",
        nouns: int | None = None,
        default: bool = True,
    ) -> "tuple[Curves, PublishedCurve]":
        from neurons.intervention.curve_results import EXACT_ORDER

        def make() -> "tuple[Curves, PublishedCurve]":
            from neurons.intervention.ablations import top_k_curves

            ctx, seed = self.context(nouns=nouns), self.plan.settings.seed
            return top_k_curves(
                ctx, self._orders(), ablation=ablation, effects=effects, seed=seed, bars=self.bars
            )  # fmt: skip

        is_default = default and nouns is None and ablation == "random-year"
        return self._keep(
            "curves", make, default=is_default, fits=lambda kept: effects is None or EXACT_ORDER in kept[0].orders
        )

    def _orders(self) -> "dict[str, Int[np.ndarray, ' M']]":
        from neurons.decomposition.scores import direct_scores
        from neurons.rounding import descending

        by_share = {"share": self.attribution().order()} if self.plan.settings.attribution else {}
        return by_share | {"direct effect": descending(direct_scores(self.effects()).year_specific)}

    def with_curves(self, ablations: "Ablations", *, nouns: int | None = None) -> "Ablations":
        """Return these ablations with top-k curves, in order of their exact effects too."""
        effects, is_kept = ablations.effects, ablations is self.kept("ablations")
        curves, published = self._curves(
            effects, ablation=effects.intervention.ablation, nouns=nouns, default=is_kept
        )  # fmt: skip
        return replace(ablations, curves=curves, published=published)

    def components(self, *, ablation: "Ablation" = "random-year", nouns: int | None = None) -> "ComponentEffects":
        """Ablate every MLP and every attention head as a whole at END."""

        def make() -> "ComponentEffects":
            from neurons.intervention.components import component_effects

            with self.bars("ablating MLPs and heads") as progress:
                return component_effects(self.context(nouns=nouns), ablation=ablation, progress=progress)

        return self._keep("components", make, default=nouns is None and ablation == "random-year")
