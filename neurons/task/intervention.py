"""What is done to a neuron at END, how far it is followed, and what is measured."""

from dataclasses import dataclass

from neurons.types import Ablation, Effect, InputError, Measure, check_choice


@dataclass(frozen=True)
class Intervention:
    """An ablation, an effect and a measure.

    ablation: `resample` holds the neuron at its activation on the prompt's own 01-counterfactual, `mean` at
    its mean over all prompts of the cache, `zero` at 0. effect: `total` runs everything after it again;
    `direct` changes only its own write to the final residual, read through the final LayerNorm; `frozen` is
    the direct effect with that LayerNorm's scale as it was.

    Raises `InputError` for a word that is none of these, and for the frozen effect with another measure than the
    contrast: with a frozen scale the logits are no run's, and have no probabilities.
    """

    ablation: Ablation = "resample"
    effect: Effect = "total"
    measure: Measure = "contrast"

    def __post_init__(self) -> None:
        for what, choices in (("ablation", Ablation), ("effect", Effect), ("measure", Measure)):
            check_choice(what, getattr(self, what), choices)
        if self.effect == "frozen" and self.measure != "contrast":
            raise InputError(f"the frozen effect is in logits and has no {self.measure}: use the measure contrast")
