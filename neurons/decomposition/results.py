"""Results of decomposition: the model's behaviour. No torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neurons.shown import Shown
from neurons.task.behaviour import Behaviour

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class MeasuredBehaviour(Shown):
    """Behaviour on P measured prompts, and its reference values, by run: probabilities, and the logit step in logits.

    runs: `model`, `counterfactual` and `average_distribution`, as in `measured_behaviour`. resampled: the mean of
    each measure over start years with every MLP of the cached layers resample-ablated at END; empty if that was not
    asked for.
    """

    model: str
    start_years: tuple[int, ...]
    n_prompts: int
    runs: dict[str, Behaviour]
    resampled: dict[str, float]

    def summary(self) -> dict[str, object]:
        own = self.summaries()["model"]
        return {"model": self.model, "prompts": self.n_prompts} | {
            name: f"{value['mean']:+.4f}" for name, value in own.items()
        }

    def summaries(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return mean and standard deviation over prompts of each measure, by run."""
        found = {name: run.means() for name, run in self.runs.items()}
        if self.resampled:
            found["mlps_resampled"] = {name: {"mean": value} for name, value in self.resampled.items()}
        return found

    def to_frame(self) -> "pd.DataFrame":
        """A row a run, with the mean and the standard deviation over prompts of each measure."""
        import pandas as pd

        rows = [
            {"run": name} | {f"{measure} {kind}": value for measure, of in found.items() for kind, value in of.items()}
            for name, found in self.summaries().items()
        ]
        return pd.DataFrame(rows)

    def to_json(self) -> dict[str, Any]:
        """The result of `neurons behaviour --json`."""
        found = self.summaries()
        return {"model": self.model, "n_prompts": self.n_prompts, "start_years": list(self.start_years),
                **found.pop("model"), **found}  # fmt: skip
