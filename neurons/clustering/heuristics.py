"""Match of a neuron with simple rules of the start year (Nikankin et al. 2024).

A neuron's match with a heuristic is the share of its k most activating prompts that satisfy it, k being the
number of prompts that do; from 0.6 it counts. Heuristics here: a range of 10, 20 or 30 consecutive start
years, a last digit, a tens digit, identity (one start year). Prompts are cells: one century at one start year.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from neurons.decomposition.effects import neuron_parts
from neurons.decomposition.population import Population
from neurons.rounding import RESOLUTION, clearly_above, descending, reaches

MATCH_BAR = 0.6
RANGE_LENGTHS = (10, 20, 30)
"""Longer ranges match by chance: half of all prompts satisfy a range of half the years."""

Kind = Literal["range", "last digit", "tens digit", "identity"]


@dataclass(frozen=True)
class Match:
    """The best heuristic of one type: which start years satisfy it, as text, and the match (0..1)."""

    kind: Kind
    years: str
    match: float


@dataclass(frozen=True, eq=False)
class _Rule:
    kind: Kind
    label: str
    holds: Bool[np.ndarray, " Y"]


def matches(population: Population) -> tuple[tuple[Match, ...], ...]:
    """Return for each neuron the heuristics that it follows, at most one of each type, best first."""
    rules = _rules(population.start_years)
    score = _scores(population, rules)
    return tuple(_best_of_each_kind(rules, column) for column in score.T)


def _rules(start_years: tuple[int, ...]) -> tuple[_Rule, ...]:
    years = np.array(start_years)
    rules = [_Rule("last digit", f"ending in {d}", years % 10 == d) for d in range(10)]
    rules += [_Rule("tens digit", f"{t}0-{t}9", years // 10 == t) for t in range(10)]
    rules += [_Rule("identity", f"{y:02d}", years == y) for y in start_years]
    for length in RANGE_LENGTHS:
        for first in range(years.min(), years.max() - length + 2):
            inside = (years >= first) & (years < first + length)
            rules.append(_Rule("range", f"{first:02d}-{first + length - 1:02d}", inside))
    return tuple(rule for rule in rules if rule.holds.any() and not rule.holds.all())


def _scores(population: Population, rules: tuple[_Rule, ...]) -> Float[np.ndarray, "rules N"]:
    present = population.held
    size = np.array([present[:, rule.holds].sum() for rule in rules])
    holds = np.stack([rule.holds for rule in rules]).astype(np.float32) if rules else np.zeros((0, len(present[0])))
    score = np.zeros((len(rules), len(population)))
    year = np.nonzero(present)[1]
    by_year = np.argsort(year, kind="stable")
    held, first = np.unique(year[by_year], return_index=True)
    for rows in neuron_parts(present.size, len(population)):
        rank = _ranks(population.value[:, :, rows][present])[by_year]
        for k in np.unique(size):
            of_this_size = size == k
            among_top = np.add.reduceat(rank < k, first, axis=0, dtype=np.int32).astype(np.float32)
            score[of_this_size, rows] = holds[of_this_size][:, held] @ among_top / k
    return score


def _ranks(activation: Float[np.ndarray, "cells N"]) -> Int[np.ndarray, "cells N"]:
    """0 for each neuron's most activating cell; activations are compared in steps of float32's resolution of its
    largest, and equal ones, as those of a silent neuron, keep their order."""
    step = RESOLUTION * np.abs(activation).max(0, initial=0.0)
    steps = np.rint(np.divide(activation, step, out=np.zeros_like(activation), where=step > 0))
    order = np.argsort(-steps, axis=0, kind="stable")
    rank = np.empty(order.shape, np.int32)
    np.put_along_axis(rank, order, np.arange(len(order), dtype=np.int32)[:, None], axis=0)
    return rank


def _best_of_each_kind(rules: tuple[_Rule, ...], score: Float[np.ndarray, " rules"]) -> tuple[Match, ...]:
    best: dict[Kind, Match] = {}
    for rule, value in zip(rules, score.tolist(), strict=True):
        if reaches(value, MATCH_BAR) and (rule.kind not in best or clearly_above(value, best[rule.kind].match)):
            best[rule.kind] = Match(rule.kind, rule.label, value)
    found = list(best.values())
    return tuple(found[row] for row in descending(np.array([one.match for one in found])))
