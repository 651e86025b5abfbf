"""The planted circuits with the prompts, the pairing and the enumerated truth that their tests share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from planted import MINI, Planted
from planted_circuits import write_crowded, write_linear, write_responding
from shapley_oracle import EndRun, every_set, path_shares, shapley_of_values, values_of_sets

from neurons.model.tokenizer import load_tokenizer
from neurons.task.prompt_set import PromptSet
from neurons.task.prompts import year_spans
from neurons.types import NeuronId

CIRCUITS: dict[str, Callable[..., Planted]] = {
    "linear": write_linear,
    "responding": write_responding,
    "crowded": write_crowded,
}
OWN_MEASURE = {"linear": "contrast", "responding": "probability_difference", "crowded": "probability_difference"}
"""The measure that each circuit is made for."""
MEASURES = ("probability_difference", "cutoff_sharpness", "contrast")
DECOYS = ("orthogonal", "constant")
LATE = (8, 9, 10, 11)
SEEDS = (0, 1, 2)
EACH_SEED = [pytest.param(seed, marks=[pytest.mark.long] if seed else []) for seed in SEEDS]
"""Each takes a minute in all: `make test` runs the first."""


@dataclass(frozen=True, eq=False)
class CircuitCase:
    """A planted circuit at P prompts; prompt i takes a' from prompt other[i].

    players: the ten neurons that do something. shapley, share, written: measure -> mean over prompts, by player.
    """

    planted: Planted
    prompts: PromptSet
    other: np.ndarray

    @cached_property
    def run(self) -> EndRun:
        return EndRun(self.planted.folder, self.prompts, self.other.tolist())

    @cached_property
    def players(self) -> tuple[NeuronId, ...]:
        return tuple(n for role, members in self.planted.roles.items() if role not in DECOYS for n in members)

    @property
    def decoys(self) -> tuple[NeuronId, ...]:
        return tuple(n for role in DECOYS for n in self.planted.roles[role])

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """Measure -> [1024, P] with every set of players kept."""
        return values_of_sets(self.run, self.players, every_set(len(self.players)), MEASURES)

    def shapley(self, measure: str) -> dict[NeuronId, float]:
        means = shapley_of_values(self.values[measure]).mean(0).tolist()
        return dict(zip(self.players, means, strict=True))

    def clean_and_floor(self, measure: str) -> tuple[float, float]:
        return float(self.values[measure][-1].mean()), float(self.values[measure][0].mean())

    def shares(self, measure: str, *, held: bool = False) -> dict[NeuronId, float]:
        """Of every neuron of layers 8-11."""
        return {n: float(x.mean()) for n, x in path_shares(self.run, LATE, measure, held=held).items()}

    def without(self, *ablated: NeuronId, measure: str) -> np.ndarray:
        """[P]: the measure with all players kept but these."""
        kept = np.array([[n not in ablated for n in self.players]])
        return values_of_sets(self.run, self.players, kept, [measure])[measure][0]

    def role(self, neuron: NeuronId) -> str:
        return next((role for role, members in self.planted.roles.items() if neuron in members), "none")


def circuit_case(folder: Path, circuit: str, seed: int, *, centuries: Sequence[int] = (13,)) -> CircuitCase:
    """One noun, every fifth start year of each century, and one other start year for each prompt."""
    prompts = year_spans(load_tokenizer(MINI), nouns=1, centuries=centuries)
    prompts = of_rows(prompts, np.flatnonzero(prompts.start_year % 5 == 2))
    planted = CIRCUITS[circuit](folder, seed=seed)
    return CircuitCase(planted, prompts, _other_years(prompts, seed))


def of_rows(prompts: PromptSet, rows: np.ndarray) -> PromptSet:
    """The same for a list of prompts, repeats among them."""
    chosen = {name: getattr(prompts, name)[rows] for name in ("tokens", "start_year", "century", "counterfactual")}
    return replace(prompts, noun=tuple(prompts.noun[row] for row in rows), **chosen)


def _other_years(prompts: PromptSet, seed: int) -> np.ndarray:
    rng, other = np.random.default_rng(seed), np.arange(len(prompts))
    for century in np.unique(prompts.century):
        order = rng.permutation(np.flatnonzero(prompts.century == century))
        other[order] = np.roll(order, 1)
    return other


def table(case: CircuitCase, measure: str) -> str:
    """Shapley value, share, written share and single effect of each player, largest share first."""
    clean, floor = case.clean_and_floor(measure)
    share, written, shapley = case.shares(measure), case.shares(measure, held=True), case.shapley(measure)
    lines = [f"{measure}: clean {clean:+.4f}, floor {floor:+.4f}", "neuron role Shapley share written alone"]
    for n in sorted(case.players, key=lambda n: -share[n]):
        alone = clean - case.without(n, measure=measure).mean()
        row = f"{shapley[n]:+9.5f} {share[n]:+9.5f} {written[n]:+9.5f} {alone:+9.5f}"
        lines.append(f"{n!s:7} {case.role(n):9} {row}")
    apart = max(abs(share[n] - shapley[n]) for n in case.players)
    return "\n".join([*lines, f"share and Shapley value differ by up to {apart:.2g} of {clean - floor:.4f}", ""])
