"""Sets of neurons kept against plain hooks, and sampled Shapley values against all subsets."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hooked_shares import hooked_shares
from oracle import relative
from random_gpt2 import write_random_gpt2

from neurons.attribution.recovery import fewest
from neurons.attribution.shapley import shapley, shapley_by_permutation
from neurons.cache.build import cache_activations
from neurons.intervention.context import AblationContext, ablation_context
from neurons.intervention.draws import random_years
from neurons.intervention.groups import MEASURES
from neurons.model.checkpoint import load_model
from neurons.ranking.sets import attributed, first_of, kept_measures, set_sizes
from neurons.task.prompts import year_spans
from neurons.types import InputError

DOUBLE = 1e-8
N = 5
"""Neurons of each of two layers: 1,024 subsets."""


@pytest.fixture(scope="module")
def two_years(tmp_path_factory: pytest.TempPathFactory) -> AblationContext:
    """Ten neurons, and prompts of two start years: the other prompt of each is known, whatever the draw."""
    folder = tmp_path_factory.mktemp("sets")
    model = load_model(write_random_gpt2(folder / "model", n_layer=3, n_embd=24, n_head=3, n_inner=N, seed=1))
    prompts = year_spans(model.tokenizer, nouns=3)
    keep = np.isin(prompts.start_year, (17, 78))
    few = replace(prompts, tokens=prompts.tokens[keep], start_year=prompts.start_year[keep],
                  century=prompts.century[keep], counterfactual=prompts.counterfactual[keep],
                  noun=tuple(np.array(prompts.noun)[keep].tolist()))  # fmt: skip
    cache = cache_activations(model, few, layers=(0, 1), cache_dir=folder)
    return ablation_context(model.to(torch.float64), cache, years=(17, 78))


def subsets() -> np.ndarray:
    """Row s holds the subset whose bits s has."""
    return (np.arange(2 ** (2 * N))[:, None] >> np.arange(2 * N)) % 2 == 1


def enumerated(values: np.ndarray) -> np.ndarray:
    """Shapley values from the measure of every subset, by their definition."""
    size = subsets().sum(1)
    weight = np.array([1 / (2 * N * math.comb(2 * N - 1, min(k, 2 * N - 1))) for k in size])
    found = []
    for n in range(2 * N):
        without = np.flatnonzero(~subsets()[:, n])
        found.append((weight[without] * (values[without + 2**n] - values[without])).sum())
    return np.array(found)


def test_kept_sets_equal_hooks(two_years: AblationContext) -> None:
    ctx = two_years
    oracle = hooked_shares(ctx.model, ctx.cache.layers, ctx.year_ids)
    tokens, year = ctx.tokens[ctx.rows], ctx.cache.start_year[ctx.rows]
    other = oracle.post(ctx.tokens[random_years(ctx.cache, draws=1)[0, ctx.rows]])
    sets = subsets()[[0, 5, 37, 700, 1023]]
    for measure, found in kept_measures(ctx, sets, draws=1).items():
        for values, kept in zip(found, sets, strict=True):
            masks = {
                layer: torch.as_tensor(part).double().expand(len(tokens), -1)
                for layer, part in zip(ctx.cache.layers, np.split(kept, 2), strict=True)
            }
            assert relative(values, ctx.averaging @ oracle.values(measure, tokens, year, masks, other).numpy()) < DOUBLE


def test_the_contrast_of_kept_sets_reads_no_vocabulary(
    two_years: AblationContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = kept_measures(two_years, subsets(), draws=1)["contrast"]
    monkeypatch.delattr("neurons.attribution.answer.softmax_over_vocabulary")
    alone = kept_measures(two_years, subsets(), measures=["contrast"], draws=1)["contrast"]
    np.testing.assert_array_equal(alone, expected)


def test_sampled_shapley_values_are_the_enumerated_ones(two_years: AblationContext) -> None:
    ctx = two_years
    every = kept_measures(ctx, subsets(), draws=1)
    by_permutation = shapley_by_permutation(ctx, samples=300)
    by_owen = shapley(ctx, ["L0N1", "L1N4"], samples=300)
    for measure in MEASURES:
        exact = enumerated(every[measure].mean(1))
        found = by_permutation[measure]
        assert (np.abs(found.value - exact) < 4 * found.standard_error).all()
        assert (found.standard_error < np.abs(exact).max() / 4).all()
        chosen = by_owen[measure]
        assert (np.abs(chosen.value - exact[[1, N + 4]]) < 4 * chosen.standard_error).all()


def test_sampled_values_are_the_same_each_time(two_years: AblationContext) -> None:
    once, again = (shapley(two_years, ["L1N0"], samples=3, seed=7)["contrast"] for _ in range(2))
    assert (once.value, once.standard_error) == (again.value, again.standard_error)
    assert once.to_frame()["neuron"].tolist() == ["L1N0"]


def test_one_sample_has_no_standard_error(two_years: AblationContext) -> None:
    with pytest.raises(InputError, match="samples must be a whole number from 2"):
        shapley(two_years, ["L1N0"], samples=1)


def test_the_first_of_an_order_are_kept() -> None:
    assert first_of(np.array([2, 0, 1]), [0, 1, 2]).tolist() == [[False] * 3, [False, False, True], [True, False, True]]


# --- how many it takes -----------------------------------------------------------------------------


def test_recovery_is_measured_on_the_centuries_that_did_not_choose(two_years: AblationContext) -> None:
    """Both halves by hand: each ordered by the mean share in its centuries, measured on the prompts of the other."""
    found, ctx = attributed(two_years), two_years
    one, measure = found.share("probability_difference"), "probability_difference"
    first, recovered = np.arange(len(one.centuries)) % 2 == 0, []
    for chosen_on in (first, ~first):
        order = np.argsort(-one.by_century[chosen_on].mean((0, 1)), kind="stable")
        rows = ctx.rows[np.isin(ctx.cache.century[ctx.rows], np.array(one.centuries)[~chosen_on])]
        sets = first_of(order, set_sizes(2 * N).tolist())
        recovered.append(kept_measures(replace(ctx, rows=rows), sets, draws=1)[measure].mean(1))
    values = np.mean(recovered, 0)
    expected = (values - values[0]) / (values[-1] - values[0])
    assert found.recovery(measure).held_out
    assert found.recovery(measure).recovered == pytest.approx(expected, abs=1e-9)


def test_with_one_century_nothing_is_held_out(two_years: AblationContext) -> None:
    century = two_years.cache.century[two_years.rows]
    alone = replace(two_years, rows=two_years.rows[century == century[0]])
    assert not any(one.held_out for one in attributed(alone).recoveries)


@pytest.mark.parametrize(("part", "k"), [(0.5, 1), (0.8, 2), (0.9, 3), (1.0, 4), (0.0625, 1)])
def test_k_lies_on_the_line_between_the_sizes_that_were_run(part: float, k: int) -> None:
    sizes, recovered = np.array([0, 1, 2, 4]), np.array([0, 0.5, 0.8, 1.0])
    assert fewest(sizes, recovered, part) == k


def test_where_nothing_moves_no_set_recovers_it() -> None:
    assert fewest(np.arange(3), np.zeros(3), 0.9) is None


@pytest.mark.parametrize("part", [0.0, 1.5, float("nan")])
def test_a_part_that_is_none_is_refused(part: float) -> None:
    with pytest.raises(InputError, match="part must be a number above 0 and at most 1"):
        fewest(np.arange(3), np.arange(3) / 2, part)


def test_sizes_grow_from_none_to_all() -> None:
    assert set_sizes(5).tolist() == list(range(6))
    sizes = set_sizes(1024)
    assert (sizes[0], sizes[8], sizes[-1]) == (0, 8, 1024)
    assert (sizes[9:] <= np.ceil(sizes[8:-1] * 1.3)).all()
