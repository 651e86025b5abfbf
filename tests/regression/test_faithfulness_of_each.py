"""Single neurons held at their own description: against hooks, planted truths, and when nothing is said."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from circuit_cases import EACH_SEED
from hooked_shares import hooked_shares
from oracle import relative
from planted_tiling import true_window
from random_gpt2 import write_random_gpt2

from neurons.cache.build import cache_activations
from neurons.decomposition.effects import logit_effects
from neurons.decomposition.population import neuron_population
from neurons.intervention.context import ablation_context
from neurons.model.checkpoint import load_model
from neurons.ranking.sets import RECOVERED
from neurons.regression.described import own_curves
from neurons.regression.faithfulness import faithfulness_of_each, reproduced
from neurons.task.prompts import year_spans
from neurons.types import NeuronId

DOUBLE = 1e-9
"""Relative, in float64."""
YEARS = (2, 17, 45, 78, 98)
PATCHED = "neurons.regression.faithfulness.fitted"
SAID = np.array([0.3, -0.2, 0.9, 0.4, -0.5])
"""Activation by start year that a stand-in for a fitted family says, of every neuron."""


def test_one_neuron_held_does_what_plain_hooks_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every prompt runs through the whole model with all neurons at their mean curves, but one."""
    model = load_model(write_random_gpt2(tmp_path / "model", n_layer=4, n_embd=24, n_head=3, seed=3))
    cached = cache_activations(model, year_spans(model.tokenizer, nouns=2), layers=(1, 2), cache_dir=tmp_path)
    ctx = ablation_context(model.to(torch.float64), cached, years=YEARS)
    monkeypatch.setattr(PATCHED, lambda years, curve, families: np.repeat(SAID[:, None], curve.shape[1], 1))
    population = neuron_population(logit_effects(cached, years=YEARS))
    chosen = [NeuronId(1, 7), NeuronId(2, 40)]
    found = faithfulness_of_each(ctx, population, chosen)
    oracle, century = hooked_shares(ctx.model, cached.layers, ctx.year_ids), cached.century[ctx.rows]
    own = _own_of_prompts(ctx, century)
    for neuron, one in zip(chosen, found.rows, strict=True):
        column = cached.layers.index(neuron.layer) * cached.d_mlp + neuron.index
        said, mean = own.copy(), own.copy()
        said[:, column] = SAID[np.searchsorted(YEARS, ctx.start_year)]
        for c in np.unique(century):
            _, first = np.unique(ctx.start_year[century == c], return_index=True)
            mean[century == c, column] = own[century == c, column][first].mean()
        for measure in RECOVERED:
            curve, described, flat = (_by_year(oracle, measure, ctx, century, held) for held in (own, said, mean))
            assert relative(one.of(measure).own, curve - flat) < DOUBLE
            assert relative(one.of(measure).described, described - flat) < DOUBLE
            assert one.of(measure).size == pytest.approx(np.sqrt(np.mean((curve - flat) ** 2)))
            if one.of(measure).part is not None:
                part = 1 - ((curve - described) ** 2).sum() / ((curve - flat) ** 2).sum()
                assert one.of(measure).part == pytest.approx(part)


def _own_of_prompts(ctx, century: np.ndarray) -> np.ndarray:
    """The mean curves of other centuries (tested in `test_faithfulness`) at each prompt."""
    at = np.unique(century, return_inverse=True)[1], np.searchsorted(YEARS, ctx.start_year)
    return own_curves(ctx.activations, YEARS)[at].astype(float)


def _by_year(oracle, measure: str, ctx, century: np.ndarray, held: np.ndarray) -> np.ndarray:
    parts = torch.as_tensor(held).split(ctx.cache.d_mlp, -1)
    other = dict(zip(ctx.cache.layers, parts, strict=True))
    masks = {layer: torch.zeros_like(one) for layer, one in other.items()}
    values = oracle.values(measure, ctx.tokens[ctx.rows], ctx.start_year, masks, other).numpy()
    cells = [[values[(century == c) & (ctx.start_year == y)].mean() for y in YEARS] for c in np.unique(century)]
    return np.mean(cells, 0)


# --- planted truth ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", EACH_SEED)
def test_true_windows_keep_a_planted_neurons_effect_and_moved_ones_lose_it(
    planted: Callable, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, study = planted(seed)
    tiles = list(truth.roles["tile"])[8:-8:6]

    def parts(later: int) -> list[float]:
        window = true_window(truth, later=later)
        said = np.array([[window(year, one) for one in tiles] for year in study.plan.years], np.float32)
        monkeypatch.setattr(PATCHED, lambda years, curve, families: said)
        found = faithfulness_of_each(study.context(), study.population(), tiles)
        return [one.of(measure).part for one in found.rows for measure in RECOVERED]

    assert min(parts(0)) > 0.97
    assert max(parts(12)) < 0.1


@pytest.mark.parametrize("seed", EACH_SEED)
def test_nothing_is_said_of_neurons_that_do_nothing(planted: Callable, seed: int) -> None:
    truth, study = planted(seed)
    tiles = list(truth.roles["tile"])
    idle = [one for one in study.population().neurons if one not in tiles][:4]
    found = study.faithfulness_of_each([*tiles[:8], *idle])
    assert all(one.of(measure).part is not None for one in found.rows[:8] for measure in RECOVERED)
    assert all(one.of(measure).part is None for one in found.rows[8:] for measure in RECOVERED)


def test_part_is_1_for_the_curve_itself_0_for_its_mean_and_none_for_chance() -> None:
    rng = np.random.default_rng(0)
    held, flat = np.ones((6, 40), bool), rng.normal(size=(6, 40))
    effect = np.sin(np.arange(40)) + 0.01 * rng.normal(size=(6, 40))
    assert reproduced(np.stack([flat + effect, flat + effect, flat]), held).part == pytest.approx(1)
    assert reproduced(np.stack([flat + effect, flat, flat]), held).part == pytest.approx(0)
    assert reproduced(np.stack([flat + effect, flat - effect, flat]), held).part == pytest.approx(-3)
    chance = rng.normal(size=(6, 40))
    assert reproduced(np.stack([flat + chance, flat + chance, flat]), held).part is None
    one_century = reproduced(np.stack([flat + effect, flat + effect, flat])[:, :1], held[:1])
    assert (one_century.part, one_century.ci_low, one_century.ci_high) == (pytest.approx(1), None, None)


def test_an_effect_that_cancels_over_start_years_is_not_lost() -> None:
    """A ratio of means over start years would be 0 / 0 here."""
    held, flat = np.ones((4, 30), bool), np.zeros((4, 30))
    effect = np.tile([1.0, -1.0], 15) * np.linspace(1, 1.05, 4)[:, None]
    found = reproduced(np.stack([flat + effect, flat + 0.5 * effect, flat]), held)
    assert found.own.mean() == pytest.approx(0)
    assert found.part == pytest.approx(0.75)
