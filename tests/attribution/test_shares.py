"""Shares against plain hooks and autograd on the whole model, their sums, and the floor's draws."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hooked_shares import hooked_shares
from oracle import relative
from random_gpt2 import write_random_gpt2

from neurons.attribution.end import measured_rows
from neurons.attribution.shapley import shapley_by_permutation
from neurons.attribution.shares import attribute, shares_of_block
from neurons.cache.build import cache_activations
from neurons.cache.format import Cache
from neurons.intervention.context import AblationContext, ablation_context
from neurons.intervention.draws import noun_centuries, random_years
from neurons.intervention.groups import MEASURES
from neurons.model.checkpoint import load_model
from neurons.model.model import Model
from neurons.ranking.sets import first_of, kept_measures
from neurons.rounding import RESOLUTION
from neurons.task.prompts import year_spans
from neurons.types import InputError, Measure

DOUBLE = 1e-8
"""Relative, as promised."""
SPREAD = (2, 17, 45, 78, 98)


@pytest.fixture(scope="module")
def small_in_double(tmp_path_factory: pytest.TempPathFactory) -> AblationContext:
    """Four layers of random weights, larger than usual so that the measures move; the second and third attributed."""
    folder = tmp_path_factory.mktemp("attribution")
    model = load_model(write_random_gpt2(folder / "model", n_layer=4, n_embd=24, n_head=3, seed=3))
    prompts = year_spans(model.tokenizer, nouns=2)
    cache = cache_activations(model, prompts, layers=(1, 2), cache_dir=folder)
    return ablation_context(model.to(torch.float64), cache, years=SPREAD)


def nodes(steps: int) -> list[tuple[float, float]]:
    at, weight = np.polynomial.legendre.leggauss(steps)
    return [(float((x + 1) / 2), float(w / 2)) for x, w in zip(at, weight, strict=True)]


# --- plain hooks and autograd ----------------------------------------------------------------------


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("which", ["share", "written"])
def test_shares_equal_hooks_and_autograd_on_the_whole_model(
    small_in_double: AblationContext, which: str, measure: Measure
) -> None:
    ctx = small_in_double
    taken = random_years(ctx.cache, draws=2, seed=5)
    oracle = hooked_shares(ctx.model, ctx.cache.layers, ctx.year_ids)
    tokens, year = ctx.tokens[ctx.rows], ctx.cache.start_year[ctx.rows]
    expected = sum(
        oracle.shares(measure, tokens, year, ctx.tokens[others], nodes(3), is_held=which == "written")
        for others in taken[:, ctx.rows]
    ) / len(taken)
    found = attribute(ctx, measures=[measure], draws=2, seed=5, steps=3)[measure]
    cells = found.by_century if which == "share" else found.written_by_century
    for c, century in enumerate(found.centuries):
        for y, start_year in enumerate(SPREAD):
            rows = (ctx.cache.century[ctx.rows] == century) & (year == start_year)
            assert relative(cells[c, y], expected[rows].mean(0)) < DOUBLE


def test_clean_and_floor_equal_hooks(small_in_double: AblationContext) -> None:
    ctx = small_in_double
    oracle = hooked_shares(ctx.model, ctx.cache.layers, ctx.year_ids)
    tokens, year = ctx.tokens[ctx.rows], ctx.cache.start_year[ctx.rows]
    other = oracle.post(ctx.tokens[random_years(ctx.cache, draws=1, seed=5)[0, ctx.rows]])
    for measure, found in attribute(ctx, measures=MEASURES, draws=1, seed=5, steps=1).items():
        for alpha, values in ((0.0, found.floor), (1.0, found.clean)):
            masks = {layer: torch.full_like(post, alpha) for layer, post in other.items()}
            expected = oracle.values(measure, tokens, year, masks, other).numpy()
            assert relative(values, ctx.averaging @ expected) < DOUBLE


# --- sums ------------------------------------------------------------------------------------------


def test_shares_add_up_to_clean_minus_floor(small_in_double: AblationContext) -> None:
    """With enough nodes to the last digits: the integral is that of a smooth function."""
    for found in attribute(small_in_double, measures=MEASURES, draws=1, steps=16).values():
        for shares in (found.by_start_year, found.written_by_start_year):
            assert relative(shares.sum(1), found.clean - found.floor) < 1e-9
        assert found.sum_error < 1e-9


def test_as_many_nodes_are_taken_as_the_error_asks_for(mini_few: AblationContext) -> None:
    found = attribute(mini_few, draws=2)
    assert all(one.sum_error <= 0.005 for one in found.values())
    coarse = attribute(mini_few, draws=2, steps=2)
    assert max(one.sum_error for one in coarse.values()) > 0.005


@pytest.fixture(scope="module")
def mini_few(mini_model: Model, mini_cache: Cache) -> AblationContext:
    return ablation_context(mini_model, mini_cache, years=(2, 17, 32, 45, 63, 78, 90, 98), nouns=2)


def test_the_last_layer_s_written_share_and_share_differ_by_no_later_neuron(tmp_path: Path) -> None:
    """In the last layer nothing responds, so with that layer alone both paths are one."""
    model = load_model(write_random_gpt2(tmp_path / "model", n_layer=2, n_embd=24, n_head=3))
    cache = cache_activations(model, year_spans(model.tokenizer, nouns=1), layers=(1,), cache_dir=tmp_path)
    ctx = ablation_context(model.to(torch.float64), cache, years=SPREAD)
    for found in attribute(ctx, measures=MEASURES, draws=2, steps=4).values():
        assert relative(found.written_share, found.share) < 1e-10


def prompts_alone(cache: Cache, rows: np.ndarray) -> Cache:
    """The cache with these prompts alone, as far as draws are concerned."""
    return replace(cache, noun=tuple(cache.noun[row] for row in rows), century=cache.century[rows],
                   start_year=cache.start_year[rows], counterfactual=cache.counterfactual[rows])  # fmt: skip


# --- interruptions ---------------------------------------------------------------------------------


def test_a_run_that_was_interrupted_goes_on_to_the_same_numbers(
    small_in_double: AblationContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of few prompts; what was finished is not computed again, and nothing is left beside the cache."""
    monkeypatch.setattr("neurons.attribution.end.PROMPT_BLOCK", 10)
    ctx, computed = small_in_double, []
    beside = set(ctx.cache.path.parent.iterdir())
    whole = attribute(ctx, draws=2, steps=2)["cutoff_sharpness"]

    def stop(done: int, _: int) -> None:
        if done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attribute(ctx, draws=2, steps=2, keep=True, progress=stop)
    monkeypatch.setattr(
        "neurons.attribution.shares.shares_of_block", lambda *given: computed.append(1) or shares_of_block(*given)
    )
    again = attribute(ctx, draws=2, steps=2, keep=True)["cutoff_sharpness"]
    blocks = len(list(measured_rows(ctx)))
    assert 0 < len(computed) < blocks
    assert np.array_equal(again.by_century, whole.by_century, equal_nan=True)
    assert set(ctx.cache.path.parent.iterdir()) == beside


# --- draws -----------------------------------------------------------------------------------------


def test_each_draw_is_the_same_noun_and_century_and_another_year(mini_few: AblationContext) -> None:
    cache, noun = mini_few.cache, np.array(mini_few.cache.noun)
    for taken in random_years(cache, draws=4, seed=1):
        assert (noun[taken] == noun).all()
        assert (cache.century[taken] == cache.century).all()
        assert (cache.start_year[taken] != cache.start_year).all()
        assert sorted(taken) == list(range(len(cache)))


def test_draws_depend_on_seed_noun_and_century_alone(mini_few: AblationContext) -> None:
    cache = mini_few.cache
    rows = noun_centuries(cache)[1]
    alone = prompts_alone(cache, rows)
    assert np.array_equal(rows[random_years(alone, seed=3)], random_years(cache, seed=3)[:, rows])
    assert not np.array_equal(random_years(cache, seed=3), random_years(cache, seed=4))


def test_a_noun_with_one_start_year_is_an_error(mini_few: AblationContext) -> None:
    cache = mini_few.cache
    with pytest.raises(InputError, match="no other to draw"):
        random_years(prompts_alone(cache, np.arange(1)))


def test_prompts_of_ones_own_take_the_nearest_prompt_of_another_start_year(mini_few: AblationContext) -> None:
    """Of two nouns and centuries, cut to: several of one noun, one of another twice, one alone in its century."""
    cache = mini_few.cache
    groups = noun_centuries(cache)
    rows = np.concatenate([groups[0][[0, 1, 1, 2]], groups[1][[3]]])
    tokens = cache.read("prompts/tokens")[rows]
    own = prompts_alone(cache, rows)
    object.__setattr__(own, "read", lambda name: {"prompts/tokens": tokens}[name])
    for taken in random_years(own, draws=20, seed=2):
        assert (own.start_year[taken] != own.start_year).all()
        assert set(taken[:4]) <= {0, 1, 2, 3}
    assert set(random_years(own, draws=20, seed=2)[:, 1]) == {0, 3}
    assert np.array_equal(random_years(own, seed=2), random_years(own, seed=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"draws": 0}, "draws must be a whole number from 1"), ({"steps": 0}, "steps must be a whole number from 1")],
)
def test_no_draw_or_step_is_an_error(mini_few: AblationContext, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        attribute(mini_few, **options)


# --- the bundled model -----------------------------------------------------------------------------


@pytest.mark.long
def test_shares_of_mini_are_its_shapley_values(mini_model: Model, mini_cache: Cache) -> None:
    """Sampled by 300 permutations: within their sampling error, so the correlation is a lower bound."""
    ctx = ablation_context(mini_model, mini_cache)
    share, value = attribute(ctx), shapley_by_permutation(ctx, samples=300)
    for measure, least in (("probability_difference", 0.995), ("cutoff_sharpness", 0.98)):
        assert np.corrcoef(share[measure].share, value[measure].value)[0, 1] > least


@pytest.mark.long
def test_keeping_the_first_neurons_recovers_what_the_trial_did(mini_model: Model, mini_cache: Cache) -> None:
    """31, 64, 128 and 256 of 1,024 neurons, by share and by written share; draws of another seed than the shares'."""
    ctx = ablation_context(mini_model, mini_cache)
    found = attribute(ctx)["probability_difference"]
    for shares, recovered in (
        (found.share, (0.36, 0.62, 0.87, 1.05)),
        (found.written_share, (0.31, 0.50, 0.79, 1.00)),
    ):
        sets = first_of(np.argsort(-shares, kind="stable"), (0, 31, 64, 128, 256, 1024))
        value = kept_measures(ctx, sets, draws=2, seed=11)["probability_difference"].mean(1)
        assert (value[1:-1] - value[0]) / (value[-1] - value[0]) == pytest.approx(recovered, abs=0.03)


# --- results ---------------------------------------------------------------------------------------


def test_neurons_are_named_and_ordered(mini_few: AblationContext) -> None:
    found = attribute(mini_few, draws=1, steps=2)["cutoff_sharpness"]
    order = found.order()
    assert (np.diff(found.share[order]) <= RESOLUTION * np.abs(found.share).max()).all()
    frame = found.to_frame()
    assert frame["neuron"][0] == str(found.neurons[order[0]])
    assert found.share_of(frame["neuron"][0]) == frame["share"][0]
    with pytest.raises(InputError, match="was not attributed"):
        found.share_of("L3N0")
    equal = replace(found, by_century=np.zeros_like(found.by_century))
    assert equal.order().tolist() == list(range(len(found.neurons)))
