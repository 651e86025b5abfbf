"""An intervention: how a neuron is ablated at END, which effect is followed, and which measure is taken."""

from dataclasses import dataclass

from neurons.types import Ablation, Effect, InputError, Measure, check_choice


@dataclass(frozen=True)
class Intervention:
    """An ablation, an effect and a measure.

    ablation: `resample` sets the neuron to its activation on the prompt's own 01-counterfactual, `mean` to
    its mean over all prompts of the cache, `zero` to 0. effect: `total` runs everything after it again;
    `direct` changes only its own write to the final residual, read through the final LayerNorm; `frozen` is
    the direct effect with the scale of that LayerNorm unchanged.

    Raises `InputError` for an unknown word, and for the frozen effect with a measure other than the contrast:
    logits at a frozen scale belong to no run and have no probabilities.
    """

    ablation: Ablation = "resample"
    effect: Effect = "total"
    measure: Measure = "contrast"

    def __post_init__(self) -> None:
        for what, choices in (("ablation", Ablation), ("effect", Effect), ("measure", Measure)):
            check_choice(what, getattr(self, what), choices)
        if self.effect == "frozen" and self.measure != "contrast":
            raise InputError(f"the frozen effect is in logits and has no {self.measure}: use the measure contrast")
