"""Which neurons write the answer, and how many are enough: shares, sets, orders and the ranking. Part of `Study`."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Self

from neurons.study.opened import Opened
from neurons.task.tasks import TASKS
from neurons.types import OF_LOGITS, InputError, NeuronId

if TYPE_CHECKING:
    from neurons.attribution.position_results import Positions
    from neurons.attribution.results import Attributed, Attribution, ShapleyValues
    from neurons.decomposition.effects import LogitEffects
    from neurons.decomposition.pairing import Pairing
    from neurons.ranking.mask_results import LearnedMasks
    from neurons.ranking.results import Order, OrderComparison, Ranking
    from neurons.ranking.set_results import Interchange, OtherPrompts, SetStudy
    from neurons.types import Measure


class Answered(Opened):
    """A study's answer to the question which neurons write the later year."""

    def effects(self) -> "LogitEffects":
        """Exact direct logit effects of every neuron, read from the cache when asked for."""
        from neurons.decomposition.effects import LogitEffects

        return self._once("effects", lambda: LogitEffects(self.activations, self.years))

    def attributed(self) -> "Attributed":
        """Every neuron's shares of probability difference and cutoff sharpness, and how many neurons it takes."""

        def make() -> "Attributed":
            from neurons.ranking.sets import attributed

            with self.bars("attributing the answer to neurons") as progress:
                return attributed(
                    self.context(), seed=self.plan.settings.seed, jobs=self.jobs, scheduler=self.scheduler,
                    progress=progress,
                )  # fmt: skip

        return self._keep("attribution", make)

    def attribution(self, measure: "Measure" = "probability_difference") -> "Attribution":
        """Every neuron's share and written share in one measure, with intervals over centuries.

        Those of probability difference and cutoff sharpness are kept; the others are computed when asked for.
        """

        def make() -> "Attribution":
            from neurons.attribution.shares import attribute

            with self.bars(f"attributing the {measure.replace('_', ' ')} to neurons") as progress:
                ctx, seed = self.context(), self.plan.settings.seed
                return attribute(ctx, measures=[measure], seed=seed, progress=progress)[measure]

        if measure in OF_LOGITS:
            return self._once(f"attribution of the {measure}", make)
        return self.attributed().share(measure)

    def sufficient_set(
        self, part: float = 0.9, *, measure: "Measure" = "probability_difference"
    ) -> tuple[NeuronId, ...]:
        """The first neurons by share that recover this part of clean minus floor on centuries held out.

        measure: probability_difference or cutoff_sharpness. Raises `InputError` where no set does.
        """
        found = self.attributed()
        k = found.recovery(measure).fewest(part)
        if k is None:
            raise InputError(f"no set of neurons recovers {part:.0%} of the {measure}: it does not move")
        share = found.share(measure)
        return tuple(share.neurons[row] for row in share.order()[:k].tolist())

    def shapley(
        self,
        neurons: Sequence[str | NeuronId],
        *,
        samples: int = 100,
        measure: "Measure" = "probability_difference",
    ) -> "ShapleyValues":
        """Sampled Shapley values of chosen neurons among all of the layers, with standard errors; runs the model."""
        from neurons.attribution.shapley import shapley

        named, seed = tuple(map(self.check_neuron, neurons)), self.plan.settings.seed
        with self.bars("sampling Shapley values") as progress:
            found = shapley(self.context(), named, samples=samples, measures=[measure], seed=seed, progress=progress)
        return found[measure]

    def ranking(self, start_year: int | None = None, *, order: "Order | None" = None) -> "Ranking":
        """Every neuron in rank order, by share of the answer; start_year: for one start year only.

        order: by attribution, direct effect, sharpness or total effect.
        """
        from neurons.ranking.ranking import rank

        found = self.attributed() if self.plan.settings.attribution else None
        compared: OrderComparison | None = self.kept("orders") if found is not None else None
        alone = compared.effects_alone if compared is not None else None
        make = partial(rank, self.effects(), attribution=found, alone=alone, start_year=start_year, order=order)
        return self._once(f"ranking {start_year} {order} {alone is not None}", make)

    def approximations(self, *, exact: bool = False, shapley: bool = False) -> "OrderComparison":
        """Shares of the probability difference beside their approximations and plain scores: what the first k recover.

        exact: also each neuron alone, which takes as many runs as there are neurons; the ranking then has `total`,
        `indirect` and `alone`. shapley: also sampled Shapley values of all neurons, 300 times as many runs of a few
        prompts. Kept, with what was asked for before.
        """
        from neurons.ranking.results import SHAPLEY

        self.plan.check_one_length()
        before: OrderComparison | None = self.kept("orders")
        if before is not None:
            exact, shapley = exact or before.effects_alone is not None, shapley or SHAPLEY in before.names

        def make() -> "OrderComparison":
            from neurons.decomposition.scores import direct_scores
            from neurons.ranking.orders import compare_orders

            direct, seed = direct_scores(self.effects()).year_specific, self.plan.settings.seed
            with self.bars("comparing orders of neurons") as progress:
                return compare_orders(
                    self.context(), self.attribution(), direct, exact=exact, shapley=shapley, seed=seed,
                    progress=progress,
                )  # fmt: skip

        def fits(kept: "OrderComparison") -> bool:
            return (not exact or kept.effects_alone is not None) and (not shapley or SHAPLEY in kept.names)

        return self._keep("orders", make, fits=fits)

    def pairing(self) -> "dict[int, Pairing]":
        """For each layer, whether its neurons write on the start years that they are tuned to."""
        found = self.ranking()
        return dict(zip(found.layers, found.pairing, strict=True))

    def positions(self) -> "Positions":
        """How much of the behaviour is attributed to which layer and position, and who leads before END; kept."""

        def make() -> "Positions":
            from neurons.attribution.positions import attribute_positions

            with self.bars("attributing the answer to positions") as progress:
                return attribute_positions(
                    self.context(), names=self.plan.token_names, seed=self.plan.settings.seed, progress=progress
                )

        return self._keep("positions", make)

    # --- how many are enough ------------------------------------------------------------------------

    def sets(self) -> "SetStudy":
        """What the first k neurons by share recover, kept and removed, beside random sets.

        And what the 90 % set leaves out: members one by one, completeness, answers in both directions. Kept.
        """

        def make() -> "SetStudy":
            from neurons.ranking.enough import set_study

            return set_study(self.context(), self.attributed(), seed=self.plan.settings.seed, bars=self.bars)

        return self._keep("sets", make)

    def interchange(self) -> "Interchange":
        """Give the first k neurons the activations of a prompt of another start year: whose year is answered? Kept."""

        def make() -> "Interchange":
            from neurons.ranking.interchange import interchange
            from neurons.ranking.ranking import HELD

            found, seed = self.attributed(), self.plan.settings.seed
            order, k = (
                found.share("probability_difference").order(),
                found.recovery("probability_difference").fewest(HELD),
            )
            with self.bars("interchanging neurons") as progress:
                return interchange(self.context(), order, k, seed=seed, progress=progress)

        return self._keep("interchange", make)

    def sets_elsewhere(self) -> "tuple[OtherPrompts, ...]":
        """What the same first k neurons recover on every other template for which a later year is right; kept.

        Templates that the model does not support are left out.
        """

        def make() -> "tuple[OtherPrompts, ...]":
            from neurons.ranking.enough import on_other_prompts

            found = []
            for other in self._on_later_tasks():
                name, context = other.plan.settings.task.name, other.context()
                with self.bars(f"the same neurons: {name}") as progress:
                    found.append(
                        on_other_prompts(
                            context, self.attributed(), name, seed=self.plan.settings.seed, progress=progress
                        )
                    )
            return tuple(found)

        return self._keep("elsewhere", make)

    def _on_later_tasks(self) -> "Iterator[Self]":
        for task in TASKS.values():
            if task.answer != "later" or task == self.plan.settings.task:
                continue
            try:
                yield self.sibling(task=task)
            except InputError as error:
                self.note(f"{task.name} is left out: {error}")

    def masks(self, *, seeds: int | None = None, steps: int | None = None) -> "LearnedMasks":
        """Learn masks by gradient from several starts and seeds: is the set of the first neurons the only one?

        seeds: of each start, default 5; steps: of the optimiser, default 600. Those of the last call are kept.
        """
        from neurons.ranking.mask_results import SEEDS, STEPS

        wanted = SEEDS if seeds is None else seeds, STEPS if steps is None else steps

        def make() -> "LearnedMasks":
            from neurons.ranking.masks import learned_masks

            with self.bars("learning masks") as progress:
                return learned_masks(
                    self.context(), self.attributed(), seeds=wanted[0], steps=wanted[1],
                    seed=self.plan.settings.seed, progress=progress,
                )  # fmt: skip

        return self._keep("masks", make, fits=lambda kept: (kept.seeds, kept.steps) == wanted)
