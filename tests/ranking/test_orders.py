"""Orders compared: curves go from the floor to the whole, areas are those defined, exact effects are handed on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_gpt2 import write_random_gpt2

from neurons.attribution.shares import attribute
from neurons.cache.build import cache_activations
from neurons.cache.format import Cache
from neurons.intervention.context import ablation_context
from neurons.model.checkpoint import load_model
from neurons.model.model import Model
from neurons.ranking.orders import compare_orders, matched_orders, order_sizes
from neurons.ranking.results import FRACTIONS, SHAPLEY, OrderComparison
from neurons.task.prompts import year_spans


@pytest.fixture(scope="module")
def compared(mini_model: Model, mini_cache: Cache) -> OrderComparison:
    ctx = ablation_context(mini_model, mini_cache, years=range(10, 90, 20), nouns=1)
    share = attribute(ctx, measures=["probability_difference"], draws=1)["probability_difference"]
    return compare_orders(ctx, share, np.arange(1024.0))


def test_curves_go_from_the_floor_to_the_whole_and_back(compared: OrderComparison) -> None:
    assert compared.names[0] == "share"
    assert compared.names[-1] == "matched random"
    np.testing.assert_allclose(compared.kept[:, [0, -1]], [[0, 1]] * len(compared.names), atol=1e-5)
    np.testing.assert_allclose(compared.removed[:, [0, -1]], [[1, 0]] * len(compared.names), atol=1e-5)


def test_shares_recover_more_than_every_other_order(compared: OrderComparison) -> None:
    """With few prompts orders lie closer together; allowed: 0.03 of clean minus floor."""
    for k in (31, 64, 128):
        recovered = compared.recovered(k)
        assert recovered[0] >= recovered.max() - 0.03
    assert compared.correlation[0] == pytest.approx(1)


def test_areas_are_trapezia_over_the_ten_fractions(compared: OrderComparison) -> None:
    M = int(compared.sizes[-1])
    ks = [max(1, round(fraction * M)) for fraction in FRACTIONS]
    x, y = np.array(ks) / M, compared.kept[0, [compared.sizes.tolist().index(k) for k in ks]]
    cpr = sum((x[i + 1] - x[i]) * (y[i] + y[i + 1]) / 2 for i in range(len(x) - 1))
    cmd = sum((x[i + 1] - x[i]) * (abs(1 - y[i]) + abs(1 - y[i + 1])) / 2 for i in range(len(x) - 1))
    assert compared.cpr[0] == pytest.approx(cpr)
    assert compared.cmd[0] == pytest.approx(cmd)


def test_matched_orders_have_as_many_of_each_layer_and_fifth_of_variance() -> None:
    rng = np.random.default_rng(0)
    variance, order = rng.random(40), rng.permutation(40)
    fifth = np.concatenate([np.argsort(np.argsort(variance[at : at + 20])) // 4 for at in (0, 20)])
    for other in matched_orders(order, variance, 20, 0):
        assert sorted(other) == list(range(40))
        assert (fifth[other] == fifth[order]).all()
        assert (other // 20 == order // 20).all()


def test_sizes_are_the_fractions_and_those_of_the_table() -> None:
    assert order_sizes(1024).tolist() == [0, 1, 2, 5, 10, 20, 31, 51, 64, 102, 128, 205, 256, 512, 1024]


def test_json_has_no_nan(compared: OrderComparison) -> None:
    found = json.loads(json.dumps(compared.to_json(), allow_nan=False))
    assert [one["order"] for one in found["orders"]] == list(compared.names)
    assert found["orders"][-1]["sum"] is None


def test_exact_effects_are_handed_on_where_they_were_asked_for(compared: OrderComparison) -> None:
    assert compared.effects_alone is None
    known = replace(compared, alone=np.ones((2, 1024))).effects_alone
    assert known is not None
    assert set(known) == {"contrast", "probability_difference"}


def test_sampled_shapley_values_are_an_order_of_their_own(tmp_path: Path) -> None:
    model = load_model(write_random_gpt2(tmp_path / "model", n_layer=4, n_embd=24, n_head=3, n_inner=20, seed=3))
    cache = cache_activations(model, year_spans(model.tokenizer, nouns=1), layers=(1, 2), cache_dir=tmp_path)
    ctx = ablation_context(model, cache, years=(2, 45, 98))
    share = attribute(ctx, measures=["probability_difference"])["probability_difference"]
    found = compare_orders(ctx, share, np.arange(40.0), shapley=True)
    at = found.names.index(SHAPLEY)
    assert found.correlation[at] > 0.5, "a random model hardly moves, and 300 samples leave an error"
    np.testing.assert_allclose(found.kept[at, [0, -1]], [0, 1], atol=1e-5)
