"""Whether neurons fire on years alone, as it is kept: per neuron, and what the text loses without a set. No torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from neurons.rounding import reaches
from neurons.shown import Shown
from neurons.types import InputError, NeuronId

if TYPE_CHECKING:
    import pandas as pd

MOSTLY = 0.5
"""A neuron is specific if at least this share of its strongest activations fall on years."""


@dataclass(frozen=True, eq=False)
class Snippet:
    """Where a neuron fires in the text: the tokens around, with its activation at each. on_year: of the strongest."""

    texts: tuple[str, ...]
    activation: Float[np.ndarray, " T"]
    on_year: bool


@dataclass(frozen=True, eq=False)
class NeuronSpecificity:
    """One neuron on a text. prompts: END of so many prompts, at the start years where it is active, are its years.

    on_years: share of its strongest activations on prompts and text together that fall on years; auc: area under the
    ROC curve, the chance that it is stronger at one of its years than at a place of the text that is no year. sign: 1,
    or -1 where it is below zero when it is active; strength is activation times sign. snippets: strongest places of the
    text first.
    """

    neuron: NeuronId
    sign: int
    prompts: int
    on_years: float
    auc: float
    snippets: tuple[Snippet, ...]

    @property
    def specific(self) -> bool:
        """Whether its strongest activations fall mostly on years."""
        return reaches(self.on_years, MOSTLY)

    def record(self) -> dict[str, Any]:
        """One neuron in JSON."""
        return {
            "neuron": str(self.neuron),
            "specific": self.specific,
            "on_years": self.on_years,
            "auc": self.auc,
            "prompts": self.prompts,
            "snippets": [
                {"tokens": list(one.texts), "activation": [float(f"{value:.6g}") for value in one.activation.tolist()],
                 "on_year": one.on_year}
                for one in self.snippets
            ],
        }  # fmt: skip


@dataclass(frozen=True)
class Losses:
    """Mean loss of the next token in nats, as the model is and with a set of neurons mean-ablated at all positions.

    years, years_ablated: of the tokens that are part of a year; None where the text has none.
    """

    neurons: int
    text: float
    text_ablated: float
    years: float | None
    years_ablated: float | None

    @property
    def rise(self) -> float:
        """On all tokens but those of years."""
        return self.text_ablated - self.text

    @property
    def rise_on_years(self) -> float | None:
        return None if self.years is None or self.years_ablated is None else self.years_ablated - self.years


@dataclass(frozen=True, eq=False, repr=False)
class Specificity(Shown):
    """Neurons on a text of `tokens` tokens, `years` of them part of a year. digest: SHA-256 of the file."""

    model: str
    file: str
    digest: str
    tokens: int
    years: int
    neurons: tuple[NeuronSpecificity, ...]
    losses: Losses

    def summary(self) -> dict[str, object]:
        unspecific = [str(one.neuron) for one in self.neurons if not one.specific]
        return {"model": self.model, "file": self.file, "tokens": self.tokens, "on years": self.years,
                "neurons": len(self.neurons), "not specific": ", ".join(unspecific) or "none",
                "rise in loss": f"{self.losses.rise:+.4f}"}  # fmt: skip

    def of(self, neuron: str | NeuronId) -> NeuronSpecificity:
        """Return one neuron's; `InputError` if it was not looked at."""
        found = NeuronId.parse(neuron)
        one = next((one for one in self.neurons if one.neuron == found), None)
        if one is None:
            raise InputError(f"{found} was not looked at on {self.file}: name it too")
        return one

    def of_neuron(self, neuron: NeuronId) -> dict[str, Any] | None:
        """What a neuron's page shows: its record, with the text and the losses; None for one that was not looked at."""
        found = [one.record() for one in self.neurons if one.neuron == neuron]
        about = {name: value for name, value in self.to_json().items() if name not in {"model", "neurons"}}
        return {**found[0], **about} if found else None

    def to_frame(self) -> "pd.DataFrame":
        """A row a neuron."""
        import pandas as pd

        columns = ("neuron", "specific", "on_years", "auc", "prompts")
        return pd.DataFrame([one.record() for one in self.neurons], columns=columns)

    def to_json(self) -> dict[str, Any]:
        """Every neuron, and the losses with and without the set."""
        losses = vars(self.losses) | {"rise": self.losses.rise, "rise_on_years": self.losses.rise_on_years}
        return {"model": self.model, "file": self.file, "tokens": self.tokens, "years": self.years, "loss": losses,
                "neurons": [one.record() for one in self.neurons]}  # fmt: skip
