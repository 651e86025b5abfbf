"""Results of comparison: two rankings, one model on several tasks, measurements and published values. No torch.

Results for models side by side are in `model_results`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from neurons.cache.format import format_layers
from neurons.rounding import descending
from neurons.shown import Shown
from neurons.types import NeuronId

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Scores:
    """What is compared of a ranking, M neurons by layer and index.

    score: direct effect on the contrast, in logits. share, with its interval ci_low, ci_high: what the verdicts are of.
    """

    layer: Int[np.ndarray, " M"]
    index: Int[np.ndarray, " M"]
    score: Float[np.ndarray, " M"]
    share: Float[np.ndarray, " M"]
    ci_low: Float[np.ndarray, " M"]
    ci_high: Float[np.ndarray, " M"]
    boosting: Bool[np.ndarray, " M"]
    suppressing: Bool[np.ndarray, " M"]

    def __len__(self) -> int:
        return len(self.score)

    @property
    def neurons(self) -> tuple[NeuronId, ...]:
        return tuple(NeuronId(int(layer), int(index)) for layer, index in zip(self.layer, self.index, strict=True))

    def top_boosting(self, count: int | None = None) -> Bool[np.ndarray, " M"]:
        """Return True for the boosting neurons, or for the `count` of them with the largest shares."""
        order = descending(np.where(self.boosting, self.share, np.nan))
        chosen = np.zeros(len(self), bool)
        chosen[order[:count]] = True
        return chosen & self.boosting


@dataclass(frozen=True, eq=False)
class Sharing:
    """Overlap of two rankings of the same M neurons; each list by the larger of the two shares, largest first.

    rank_correlation: Spearman's, of all shares; None if one of them is constant. n_first, n_second: how many
    boost in each. expected_both: how many would in both if the calls were independent.
    """

    both: tuple[NeuronId, ...]
    only_first: tuple[NeuronId, ...]
    only_second: tuple[NeuronId, ...]
    undecided: tuple[NeuronId, ...]
    rank_correlation: float | None
    n_first: int
    n_second: int
    expected_both: float

    @property
    def jaccard(self) -> float | None:
        """Neurons in both, as a share of those that boost in either; None if none does."""
        either = self.n_first + self.n_second - len(self.both)
        return len(self.both) / either if either else None

    def to_json(self) -> dict[str, Any]:
        lists = ("both", "only_first", "only_second", "undecided")
        return {
            "rank_correlation": self.rank_correlation,
            "jaccard": self.jaccard,
            "expected_both": self.expected_both,
            **{name: [str(neuron) for neuron in getattr(self, name)] for name in lists},
        }


LEAST_CHANGE = 0.01
"""A probability difference that all neurons together change by less is not divided up."""


@dataclass(frozen=True)
class Carried:
    """Changes of the mean probability difference when groups of neurons are at a random other start year
    together, minus the clean run's.

    all_neurons: of every neuron of the layers; reference: the reference task's boosting ones; own: this
    task's. n_reference, n_own: how many were ablated.
    """

    all_neurons: float
    reference: float
    own: float
    n_reference: int
    n_own: int

    def share(self, change: float) -> float | None:
        """Part of the change that all neurons of the layers cause; None if that is close to zero."""
        return change / self.all_neurons if abs(self.all_neurons) >= LEAST_CHANGE else None

    def to_json(self) -> dict[str, Any]:
        return {
            "all_neurons": {"change": self.all_neurons},
            "reference": {
                "neurons": self.n_reference,
                "change": self.reference,
                "share": self.share(self.reference),
            },
            "own": {"neurons": self.n_own, "change": self.own, "share": self.share(self.own)},
        }


@dataclass(frozen=True, eq=False)
class TaskResult:
    """One task: the model's behaviour, its scores, and (not for the reference) their overlap with the reference's.

    behaviour: as in `neurons behaviour`, by run. right: the years that are right; None for a custom task.
    """

    name: str
    prompt: str
    right: str | None
    source: str
    n_prompts: int
    behaviour: dict[str, dict[str, dict[str, float]]]
    scores: Scores
    sharing: Sharing | None
    carried: Carried

    def to_json(self) -> dict[str, Any]:
        shared = self.sharing.to_json() if self.sharing else None
        return {
            "task": self.name,
            "prompt": self.prompt,
            "right": self.right,
            "source": self.source,
            "n_prompts": self.n_prompts,
            "behaviour": self.behaviour,
            "boosting": int(self.scores.boosting.sum()),
            "suppressing": int(self.scores.suppressing.sum()),
            "shared": shared,
            "carried": self.carried.to_json(),
        }


@dataclass(frozen=True, eq=False, repr=False)
class Transfer(Shown):
    """Tasks of one model, the reference first. top: most boosting neurons ablated; None for all.

    left_out: tasks that the tokenizer cannot express, and why.
    """

    model: str
    layers: tuple[int, ...]
    top: int | None
    tasks: tuple[TaskResult, ...]
    left_out: dict[str, str]

    def summary(self) -> dict[str, object]:
        return {"model": self.model, "layers": format_layers(self.layers), "tasks": len(self.tasks),
                "left out": len(self.left_out)}  # fmt: skip

    def to_frame(self) -> "pd.DataFrame":
        """A row a task: its probability difference, how many neurons boost and in both, and what groups of them carry.

        reference_share, own_share: of the change when all neurons of the layers are held.
        """
        import pandas as pd

        return pd.DataFrame(
            {
                "task": task.name,
                "n_prompts": task.n_prompts,
                "probability_difference": task.behaviour["model"]["probability_difference"]["mean"],
                "boosting": int(task.scores.boosting.sum()),
                "suppressing": int(task.scores.suppressing.sum()),
                "both": len(task.sharing.both) if task.sharing else None,
                "rank_correlation": task.sharing.rank_correlation if task.sharing else None,
                "change": task.carried.all_neurons,
                "reference_share": task.carried.share(task.carried.reference),
                "own_share": task.carried.share(task.carried.own),
            }
            for task in self.tasks
        )

    def to_json(self) -> dict[str, Any]:
        """The result of `neurons tasks --json`; in `shared`, first is the reference and second the task."""
        return {
            "model": self.model,
            "layers": list(self.layers),
            "reference": self.tasks[0].name,
            "top": self.top,
            "tasks": [task.to_json() for task in self.tasks],
            "left_out": [{"task": name, "reason": reason} for name, reason in self.left_out.items()],
        }


Verdict = Literal["agrees", "differs", "none"]


Value = float | int | str | tuple[int | str, ...]


@dataclass(frozen=True)
class Check:
    """One measurement and the published value. claim: what a verdict affirms, in words.

    difference: measured minus published; if that is words, measured minus the bound; for an order, the gap of the
    pair that comes nearest to being reversed. bound: where the value must lie, like "above 0.4". None, as
    tolerance, if it has no meaning.
    """

    name: str
    measured: Value | None
    published: Value | None
    tolerance: float | None
    verdict: Verdict
    source: str
    difference: float | None
    claim: str
    bound: str | None = None

    def to_json(self) -> dict[str, Any]:
        """One entry of `checks` in the JSON of `neurons check`."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


RESTORED = ("restored", "restored_standard_error")


@dataclass(frozen=True, repr=False)
class Checks(Shown):
    """All checks of one model. judged: whether it has GPT-2 small's shape and tokenizer; no verdicts otherwise.

    n_prompts of the sample, n_patched of them used for patching. mlp_shares: for each layer, the share of the
    effect that is lost when its MLP's output at END comes from the corrupted run, and its standard error; mlp_restored:
    the share restored when that of the corrupted run comes from the clean run.
    """

    model: str
    judged: bool
    n_prompts: int
    n_patched: int
    seed: int
    checks: tuple[Check, ...]
    mlp_shares: tuple[tuple[float, float], ...]
    mlp_restored: tuple[tuple[float, float], ...]

    def summary(self) -> dict[str, object]:
        verdicts: tuple[Verdict, ...] = ("agrees", "differs")
        return {"model": self.model, "judged": self.judged, "prompts": self.n_prompts, "checks": len(self.checks),
                **{verdict: self.count(verdict) for verdict in verdicts}}  # fmt: skip

    def to_frame(self) -> "pd.DataFrame":
        """A row a check: what was measured and published, the tolerance, and the verdict."""
        import pandas as pd

        return pd.DataFrame([vars(check) for check in self.checks])

    def count(self, verdict: Verdict) -> int:
        return sum(check.verdict == verdict for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "judged": self.judged,
            "n_prompts": self.n_prompts,
            "n_patched": self.n_patched,
            "seed": self.seed,
            "conclusion": conclusion(self),
            "checks": [check.to_json() for check in self.checks],
            "mlp_shares": [
                dict(zip(("layer", "share", "standard_error", *RESTORED), (layer, *lost, *restored), strict=True))
                for layer, (lost, restored) in enumerate(zip(self.mlp_shares, self.mlp_restored, strict=True))
            ],
        }


def conclusion(found: Checks) -> str:
    """The verdicts counted, in a sentence."""
    if not found.judged:
        return (
            f"{found.model} has not GPT-2 small's shape and tokenizer: the published values stand beside its own for"
            " comparison, and nothing is judged."
        )
    agrees, differs = found.count("agrees"), found.count("differs")
    judged = "different from what was published"
    if agrees > differs:
        judged = "for the most part as published" if differs else "as published"
    return f"{found.model} is {judged}: {agrees} of {agrees + differs} judged measurements agree, {differs} differ."
