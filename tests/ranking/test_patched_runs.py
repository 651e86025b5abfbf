"""Neurons of one run put into another, in both directions, against plain hooks on the Hugging Face model."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from circuit_cases import of_rows
from hooked_shares import HookedShares, hooked_shares
from random_gpt2 import write_random_gpt2
from torch import Tensor

from neurons.cache.build import cache_activations
from neurons.cache.format import Cache
from neurons.intervention.context import AblationContext, ablation_context
from neurons.intervention.draws import random_years
from neurons.model.checkpoint import load_model
from neurons.model.model import Model
from neurons.ranking.directions import PAIRS, directions
from neurons.ranking.interchange import interchange
from neurons.ranking.set_results import Interchange
from neurons.ranking.sets import first_of, set_sizes
from neurons.task.prompts import year_spans
from neurons.task.templates import Tokenizer
from neurons.types import InputError

DOUBLE = 1e-8
N, LAYERS = 5, (0, 1)
ORDER = np.array([3, 7, 0, 9, 5, 1, 8, 2, 6, 4])


@dataclass(frozen=True, eq=False)
class Hooked:
    """The prompts of a context as the oracle sees them."""

    ctx: AblationContext
    oracle: HookedShares

    def logits(self, tokens: np.ndarray, chosen: np.ndarray, values: dict[int, Tensor]) -> Tensor:
        """Of prompts whose chosen neurons are held at these values."""
        parts = zip(LAYERS, np.split(~chosen, 2), strict=True)
        masks = {layer: torch.as_tensor(part).double().expand(len(tokens), -1) for layer, part in parts}
        return self.oracle.logits(tokens, masks, values)

    def measure(self, name: str, logits: Tensor, year: np.ndarray) -> np.ndarray:
        return self.oracle._measure(name, logits, year).numpy()


@pytest.fixture(scope="module")
def small(small: AblationContext) -> Hooked:
    return Hooked(small, hooked_shares(small.model, LAYERS, small.year_ids))


# --- both directions -------------------------------------------------------------------------------


def test_both_directions_equal_hooks(small: Hooked) -> None:
    ctx, chosen = small.ctx, first_of(ORDER, [4])[0]
    year, rows = ctx.start_year, ctx.rows
    own = ctx.tokens[rows]
    tokens = {"random-year": ctx.tokens[random_years(ctx.cache, draws=1, seed=3)[0, rows]],
              "corrupted": ctx.counterfactual_tokens[ctx.cache.counterfactual[rows]]}  # fmt: skip
    whole = small.oracle._logits(own).log_softmax(-1)
    for (direction, reference), found in zip(PAIRS, directions(ctx, chosen, seed=3), strict=True):
        other = tokens[reference]
        for place, one in enumerate((np.zeros(2 * N, bool), chosen, np.ones(2 * N, bool))):
            run, held, values = (own, ~one, other) if direction == "keep" else (other, one, own)
            logits = small.logits(run, held, small.oracle.post(values))
            for name in ("probability_difference", "cutoff_sharpness"):
                expected = ctx.averaging @ small.measure(name, logits, year)
                assert getattr(found, name)[place] == pytest.approx(expected.mean(), rel=DOUBLE)
            distance = (whole.exp() * (whole - logits.log_softmax(-1))).sum(-1).numpy()
            assert found.divergence[place] == pytest.approx((ctx.averaging @ distance).mean(), abs=1e-10)
            if place == 1:
                worst = int(distance.argmax())
                assert found.worst[0].divergence == pytest.approx(distance[worst], rel=1e-6)
                assert found.worst[0].start_year == year[worst]


def test_all_neurons_kept_are_the_whole_model(small: Hooked) -> None:
    for found in directions(small.ctx, first_of(ORDER, [4])[0]):
        if found.direction == "keep":
            assert abs(found.divergence[2]) < 1e-12


# --- interchange -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exchanged(small: Hooked) -> Interchange:
    return interchange(small.ctx, ORDER, 3, seed=2)


def test_maps_equal_hooks_on_a_pair_of_prompts(small: Hooked, exchanged: Interchange) -> None:
    """Nouns and centuries differ, so a cell is that of one of the four pairs."""
    ctx, chosen = small.ctx, first_of(ORDER, [3])[0]
    century, noun = ctx.cache.century[ctx.rows], np.array(ctx.cache.noun)[ctx.rows]
    for i, j in ((0, 2), (3, 1), (1, 1)):
        own, other = (ctx.rows[ctx.start_year == ctx.start_years[at]] for at in (i, j))
        assert len({*zip(century, noun, strict=True)}) == len(own) == len(other) == 4
        logits = small.logits(ctx.tokens[own], chosen, small.oracle.post(ctx.tokens[other]))
        pairs = {}
        for name, year in (("map_for_transplanted", ctx.start_years[j]), ("map_for_own", ctx.start_years[i])):
            values = small.measure("probability_difference", logits, np.full(4, year))
            distance = np.abs(values - getattr(exchanged, name)[i, j])
            assert distance.min() < 1e-10
            pairs[name] = int(distance.argmin())
        assert len(set(pairs.values())) == 1


def test_curves_are_means_over_the_pairs_drawn(small: Hooked) -> None:
    """With two start years measured there is one other prompt for each, whatever the draw."""
    ctx = replace(small.ctx, rows=small.ctx.rows[np.isin(small.ctx.start_year, (12, 78))], start_years=(12, 78))
    found = interchange(ctx, ORDER, None)
    own = ctx.rows
    other = np.array([
        next(r for r in own if r != row and ctx.cache.noun[r] == ctx.cache.noun[row]
             and ctx.cache.century[r] == ctx.cache.century[row])
        for row in own
    ])  # fmt: skip
    target = small.oracle._logits(ctx.tokens[other]).softmax(-1)
    for place, sets in enumerate(first_of(ORDER, set_sizes(2 * N).tolist())):
        logits = small.logits(ctx.tokens[own], sets, small.oracle.post(ctx.tokens[other]))
        for name, year in (("for_own", own), ("for_transplanted", other)):
            values = small.measure("probability_difference", logits, ctx.cache.start_year[year])
            assert getattr(found, name)[place] == pytest.approx((ctx.averaging @ values).mean(), rel=DOUBLE)
        distance = (logits.softmax(-1) - target).abs().sum(-1).numpy() / 2
        assert found.total_variation[place] == pytest.approx((ctx.averaging @ distance).mean(), rel=DOUBLE)
    assert found.k is None
    assert np.isnan(found.map_for_own).all()


def test_a_prompt_s_own_activations_change_nothing(small: Hooked, exchanged: Interchange) -> None:
    np.testing.assert_allclose(np.diag(exchanged.map_for_own), np.diag(exchanged.map_for_transplanted), atol=1e-12)


def test_a_noun_with_one_start_year_takes_those_of_the_nearest_prompt(
    tmp_path: Path, mini_tokenizer: Tokenizer
) -> None:
    """As among prompts of one's own: no noun and century has two start years, so the maps are empty."""
    model = load_model(write_random_gpt2(tmp_path / "model", n_layer=3, n_embd=24, n_head=3, n_inner=N, seed=1))
    prompts = year_spans(mini_tokenizer, nouns=3, centuries=(13, 17))
    pair = np.unique(
        np.array([f"{n}{c}" for n, c in zip(prompts.noun, prompts.century, strict=True)]), return_inverse=True
    )[1]
    keep = np.flatnonzero(prompts.start_year == 20 + 10 * pair)
    cache = cache_activations(model, of_rows(prompts, keep), layers=LAYERS, cache_dir=tmp_path)
    found = interchange(ablation_context(model, cache), ORDER, 3)
    assert found.n_prompts == len(keep) == 6
    assert np.isfinite([found.for_own, found.for_transplanted, found.total_variation]).all()
    assert np.isnan(found.map_for_own).all()


def test_one_measured_start_year_has_no_other(small: Hooked) -> None:
    alone = replace(small.ctx, rows=small.ctx.rows[small.ctx.start_year == 12], start_years=(12,))
    with pytest.raises(InputError, match="no two prompts of one noun and century have measured start years"):
        interchange(alone, ORDER, 3)


@pytest.mark.long
def test_mini_s_first_neurons_carry_the_year_as_in_the_trial(mini_model: Model, mini_cache: Cache) -> None:
    """The trial's prompts were others (clean .81): .51/.74, .64/.66, .79/.48, .86/.34; distance .39 at 140, .01."""
    from neurons.attribution.shares import attribute

    ctx = ablation_context(mini_model, mini_cache)
    found = interchange(ctx, attribute(ctx)["probability_difference"].order(), 140)
    for k, transplanted, own in ((31, 0.51, 0.74), (64, 0.64, 0.66), (140, 0.79, 0.48), (256, 0.86, 0.34)):
        assert found.at(k)["for_transplanted"] == pytest.approx(transplanted, abs=0.04)
        assert found.at(k)["for_own"] == pytest.approx(own, abs=0.04)
    assert found.at(140)["total_variation"] == pytest.approx(0.39, abs=0.02)
    assert found.total_variation[-1] < 0.02
    assert np.isfinite(found.map_for_own).all()


def test_interchange_as_json_has_null_for_cells_without_a_pair(exchanged: Interchange) -> None:
    holed = exchanged.map_for_own.copy()
    holed[0, 1] = np.nan
    text = json.dumps(replace(exchanged, map_for_own=holed).to_json(), allow_nan=False)
    assert json.loads(text)["map_for_own"][0][1] is None


# --- samples ---------------------------------------------------------------------------------------


def test_a_sample_has_every_start_year_and_balances_centuries(mini_model: Model, mini_cache: Cache) -> None:
    ctx = ablation_context(mini_model, mini_cache, seed=1)
    some = ctx.balanced(2)
    assert (np.unique(some.start_year, return_counts=True)[1] == 2).all()
    assert tuple(np.unique(some.start_year)) == ctx.start_years
    each = np.unique(ctx.cache.century[some.rows], return_counts=True)[1]
    assert len(each) == 8
    assert each.max() - each.min() <= 2
    assert len(set(some.rows.tolist())) == len(some)


def test_all_prompts_are_taken_where_the_work_allows(mini_model: Model, mini_cache: Cache) -> None:
    ctx = ablation_context(mini_model, mini_cache)
    assert ctx.sampled(100) is ctx
    assert len(ctx.sampled(10**9)) == len(ctx.start_years)
    assert len(ctx.sampled(10**9, least=8)) == 8 * len(ctx.start_years)
    everything = replace(ctx, all_prompts=True)
    assert everything.sampled(10**9) is everything
