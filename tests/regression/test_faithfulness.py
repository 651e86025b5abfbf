"""Descriptions put back into the model: against hooks, planted truths, and what each description says."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from circuit_cases import EACH_SEED
from hooked_shares import hooked_shares
from oracle import relative
from planted_tiling import true_window
from random_gpt2 import write_random_gpt2

from neurons.attribution.results import Attributed
from neurons.cache.build import cache_activations
from neurons.cache.format import Cache
from neurons.clustering.tuning import families_of, tune
from neurons.decomposition.cells import Activations
from neurons.decomposition.effects import logit_effects
from neurons.decomposition.population import neuron_population
from neurons.intervention.context import AblationContext, ablation_context
from neurons.model.checkpoint import load_model
from neurons.ranking.sets import RECOVERED
from neurons.regression.described import own_curves, prototypes, shared_components, two_levels
from neurons.regression.faithfulness import measured_cells, written_by
from neurons.study.study import Study
from neurons.task.prompts import year_spans
from neurons.types import InputError, NeuronId

DOUBLE = 1e-9
"""Relative, in float64."""
YEARS = (2, 17, 45, 78, 98)


@pytest.fixture(scope="module")
def in_double(tmp_path_factory: pytest.TempPathFactory) -> AblationContext:
    """Four layers of random weights; the second and third are held."""
    folder = tmp_path_factory.mktemp("faithfulness")
    model = load_model(write_random_gpt2(folder / "model", n_layer=4, n_embd=24, n_head=3, seed=3))
    cached = cache_activations(model, year_spans(model.tokenizer, nouns=2), layers=(1, 2), cache_dir=folder)
    return ablation_context(model.to(torch.float64), cached, years=YEARS)


# --- the run ---------------------------------------------------------------------------------------


def test_held_layers_do_what_plain_hooks_do(in_double: AblationContext) -> None:
    ctx, rng = in_double, np.random.default_rng(0)
    centuries = np.unique(ctx.cache.century[ctx.rows])
    curves = [rng.normal(size=(len(centuries), len(YEARS), 2 * ctx.cache.d_mlp)) for _ in range(2)]
    found = measured_cells(ctx, [written_by(ctx, one) for one in curves])
    oracle = hooked_shares(ctx.model, ctx.cache.layers, ctx.year_ids)
    tokens, year = ctx.tokens[ctx.rows], ctx.start_year
    c, y = np.searchsorted(centuries, ctx.cache.century[ctx.rows]), np.searchsorted(YEARS, year)
    for place, curve in enumerate(curves):
        held = torch.as_tensor(curve[c, y]).split(ctx.cache.d_mlp, -1)
        other = dict(zip(ctx.cache.layers, held, strict=True))
        masks = {layer: torch.zeros_like(one) for layer, one in other.items()}
        for measure in RECOVERED:
            values = oracle.values(measure, tokens, year, masks, other).numpy()
            cell = np.array(
                [[values[(c == i) & (y == j)].mean() for j in range(len(YEARS))] for i in range(len(centuries))]
            )
            assert relative(found[measure][place], cell) < DOUBLE


def test_few_prompts_at_a_time_give_the_same(in_double: AblationContext, monkeypatch: pytest.MonkeyPatch) -> None:
    curves = np.random.default_rng(1).normal(size=(8, len(YEARS), 2 * in_double.cache.d_mlp))
    written = [written_by(in_double, curves * size) for size in (0.5, 1.0, 2.0)]
    whole = measured_cells(in_double, written)
    monkeypatch.setattr("neurons.intervention.context.PROMPT_BLOCK", 7)
    monkeypatch.setattr("neurons.regression.faithfulness.ROWS", 8)
    parts = measured_cells(in_double, written)
    for measure in RECOVERED:
        np.testing.assert_allclose(parts[measure], whole[measure], rtol=1e-12, atol=1e-15)


# --- planted truth ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", EACH_SEED)
def test_true_windows_recover_what_the_model_does(planted: Callable, seed: int) -> None:
    truth, study = planted(seed)
    (found,) = study.faithfulness(true_window(truth), neurons=truth.roles["tile"]).rows
    assert found.neurons == len(truth.roles["tile"])
    assert found.cutoff_sharpness.value > 0.98
    assert found.probability_difference.value > 0.98


@pytest.mark.parametrize("seed", EACH_SEED)
@pytest.mark.parametrize("years", [5, -5])
def test_windows_moved_by_five_years_lose_the_cutoff(planted: Callable, seed: int, years: int) -> None:
    truth, study = planted(seed)
    (found,) = study.faithfulness(true_window(truth, later=years), neurons=truth.roles["tile"]).rows
    assert found.cutoff_sharpness.value < 0.5


@pytest.mark.parametrize("seed", EACH_SEED)
def test_windows_dealt_out_at_random_lose_the_cutoff(planted: Callable, seed: int) -> None:
    truth, study = planted(seed)
    tiles = truth.roles["tile"]
    other = dict(zip(tiles, np.random.default_rng(seed).permutation(len(tiles)).tolist(), strict=True))
    window = true_window(truth)
    (found,) = study.faithfulness(lambda year, neuron: window(year, tiles[other[neuron]]), neurons=tiles).rows
    assert found.cutoff_sharpness.value < 0.5


# --- mini ------------------------------------------------------------------------------------------


def test_descriptions_of_mini_differ_in_sharpness(mini_cache: Cache, mini_attributed: Attributed) -> None:
    """Loose bounds around what was measured: mean curves do what the neurons do, lines lose the cutoff alone."""
    found = Study(cache_dir=mini_cache.path.parent).faithfulness()
    sharp = {one.description: one.cutoff_sharpness.value for one in found.rows}
    difference = {one.description: one.probability_difference.value for one in found.rows}
    assert sharp["mean curve of other centuries"] == pytest.approx(1, abs=0.03)
    assert difference["mean curve of other centuries"] == pytest.approx(1, abs=0.03)
    assert 0.55 < sharp["fitted family of each neuron"] < sharp["two levels"] < 0.95
    assert sharp["line for all"] < 0.15 < 0.95 < difference["line for all"]
    assert sharp["1 shared component"] < sharp["5 shared components"] < sharp["20 shared components"]
    first = found.rows[0].cutoff_sharpness
    assert first.ci_low < first.value < first.ci_high
    assert found.prompts == 2289


# --- what each description says --------------------------------------------------------------------


def test_own_curves_are_of_the_other_centuries(mini_cache: Cache) -> None:
    activations = Activations(mini_cache, "plain")
    years = (32, 61)
    assert activations.counts[:, [activations.start_years.index(year) for year in years]].all()
    found = own_curves(activations, years)
    post = np.concatenate([mini_cache.post(layer) for layer in mini_cache.layers], 1)
    for place, century in enumerate(activations.centuries):
        cells = [
            [post[(mini_cache.century == c) & (mini_cache.start_year == y)].mean(0) for y in years]
            for c in activations.centuries
            if c != century
        ]
        np.testing.assert_allclose(found[place], np.mean(cells, 0), atol=1e-5)


def test_two_levels_are_the_best_there_are() -> None:
    curve = np.random.default_rng(0).normal(size=(9, 5)) ** 3
    error = ((two_levels(curve) - curve) ** 2).sum(0)
    for n, values in enumerate(curve.T):
        ordered = np.sort(values)
        best = min(ordered[:k].var() * k + ordered[k:].var() * (9 - k) for k in range(1, 9))
        assert error[n] == pytest.approx(best)


def test_components_are_those_of_the_curves_less_their_means() -> None:
    rng = np.random.default_rng(1)
    curve = rng.normal(size=(20, 2)) @ rng.normal(size=(2, 30)) + rng.normal(size=30)
    np.testing.assert_allclose(shared_components(curve, 2), curve, atol=1e-12)
    assert np.abs(shared_components(curve, 1) - curve).max() > 0.1


def test_a_prototype_has_each_members_own_mean_and_height() -> None:
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(2, 40))
    curve = np.stack([3 * one + 1, -0.5 * one - 2, other, 7 * other], 1)
    np.testing.assert_allclose(prototypes(curve, [2, 2]), curve, atol=1e-12)
    said = prototypes(rng.normal(size=(40, 4)), [3, 1])
    np.testing.assert_allclose(np.abs(np.corrcoef(said[:, :3].T)), 1, atol=1e-12)


def test_families_of_all_neurons_are_those_that_tuning_chooses(mini_cache: Cache) -> None:
    some = neuron_population(logit_effects(mini_cache)).take(np.arange(0, 1024, 16))
    assert families_of(some) == tune(some).families


@pytest.mark.parametrize(("describe", "words"), [
    (lambda year, neuron: None, "must give a number"), (lambda year, neuron: float("nan"), "a finite number"),
])  # fmt: skip
def test_a_description_that_gives_no_number_is_an_error(
    describe: Callable[[int, NeuronId], float], words: str, mini_cache: Cache, mini_attributed: Attributed
) -> None:
    with pytest.raises(InputError, match=words):
        Study(cache_dir=mini_cache.path.parent).faithfulness(describe, neurons=["L9N43"])
