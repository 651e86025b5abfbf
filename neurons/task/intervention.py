"""An intervention: how a neuron is ablated at END, which effect is followed, and which measure is taken."""

from dataclasses import dataclass

from neurons.types import OF_LOGITS, Ablation, Effect, InputError, Measure, check_choice


@dataclass(frozen=True)
class Intervention:
    """An ablation, an effect and a measure.

    ablation: `random-year` sets the neuron to its activation on a prompt of the same noun and century with another
    start year, averaged over draws; `resample` on the prompt's own 01-counterfactual; `mean` to its mean over all
    prompts of the cache, `zero` to 0. Neither of these two is a floor: with all neurons at their mean the answer is a
    late year, whatever YY is. effect: `total` runs everything after it again;
    `direct` changes only its own write to the final residual, read through the final LayerNorm; `frozen` is
    the direct effect with the scale of that LayerNorm unchanged.

    Raises `InputError` for an unknown word, and for the frozen effect with a measure of probabilities: logits at a
    frozen scale belong to no run and have none.
    """

    ablation: Ablation = "random-year"
    effect: Effect = "total"
    measure: Measure = "contrast"

    def __post_init__(self) -> None:
        for what, choices in (("ablation", Ablation), ("effect", Effect), ("measure", Measure)):
            check_choice(what, getattr(self, what), choices)
        if self.effect == "frozen" and self.measure not in OF_LOGITS:
            raise InputError(f"the frozen effect is in logits and has no {self.measure}: use {' or '.join(OF_LOGITS)}")
