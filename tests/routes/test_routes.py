"""Routes of shares and of total effects: against plain hooks, their sums, and planted circuits with one route."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from circuit_cases import EACH_SEED, circuit_case
from hooked_routes import HookedRoutes
from hooked_shares import hooked_shares
from oracle import relative
from random_gpt2 import write_random_gpt2

from neurons.attribution.end import block_of, with_kept
from neurons.attribution.shares import ATTRIBUTED, attribute
from neurons.cache.build import cache_activations
from neurons.cache.format import Cache
from neurons.intervals import cell_means, year_means
from neurons.intervention.context import AblationContext, ablation_context
from neurons.intervention.draws import random_years
from neurons.model.checkpoint import load_model
from neurons.model.model import Model
from neurons.routes import effect
from neurons.routes.effect import effect_routes
from neurons.routes.results import ROUTES
from neurons.routes.share import share_routes
from neurons.task.prompts import year_spans
from neurons.types import InputError, Measure, NeuronId

EXACT = 1e-9
"""Of the largest part, as promised."""
SEED = 5
SPREAD = (2, 17, 45, 78, 98)
STEPS = 3
SENDERS = (NeuronId(1, 0), NeuronId(1, 31), NeuronId(2, 7), NeuronId(2, 60))
DIRECT, SCALE, _, NEURONS = range(4)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> AblationContext:
    """Four layers of random weights in double, larger than usual; neurons of the second and third are followed."""
    folder = tmp_path_factory.mktemp("routes")
    model = load_model(write_random_gpt2(folder / "model", n_layer=4, n_embd=24, n_head=3, seed=3))
    cache = cache_activations(model, year_spans(model.tokenizer, nouns=1), layers=(1, 2), cache_dir=folder)
    return ablation_context(model.to(torch.float64), cache, years=SPREAD)


@pytest.fixture(scope="module")
def mini_few(mini_model: Model, mini_cache: Cache) -> AblationContext:
    return ablation_context(mini_model, mini_cache, years=(2, 17, 32, 45, 63, 78, 90, 98), nouns=2)


def oracle(ctx: AblationContext, measure: Measure = "probability_difference") -> HookedRoutes:
    return HookedRoutes(hooked_shares(ctx.model, ctx.cache.layers, ctx.year_ids), measure)


def drawn(ctx: AblationContext) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, those of the prompts drawn for them, and start years."""
    taken = random_years(ctx.cache, draws=1, seed=SEED)[0, ctx.rows]
    return ctx.tokens[ctx.rows], ctx.tokens[taken], ctx.cache.start_year[ctx.rows]


def nodes(steps: int) -> list[tuple[float, float]]:
    at, weight = np.polynomial.legendre.leggauss(steps)
    return [(float((x + 1) / 2), float(w / 2)) for x, w in zip(at, weight, strict=True)]


def mean(ctx: AblationContext, values: torch.Tensor) -> float:
    """Over the prompts as shares are averaged: the mean of the start years, at the average century."""
    century, start_year = ctx.cache.century[ctx.rows].astype(int), ctx.start_year.astype(int)
    cells = cell_means(values.numpy(), century=century, start_year=start_year, years=ctx.start_years)
    return float(year_means(cells).mean())


# --- plain hooks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", ["probability_difference", "contrast"])
def test_routes_of_shares_equal_hooks_and_autograd_on_the_whole_model(small: AblationContext, measure: Measure) -> None:
    ctx, hooked, about = small, oracle(small, measure), (*drawn(small), nodes(STEPS))
    found = share_routes(ctx, SENDERS, steps=STEPS, draws=1, seed=SEED, measure=measure)
    for row, neuron in enumerate(SENDERS):
        later = range(neuron.layer + 1, 4)
        frozen, final = (mean(ctx, hooked.of_share(neuron, reader, 0, *about)) for reader in ("frozen", "final"))
        attention, mlp = (
            sum(mean(ctx, hooked.of_share(neuron, reader, at, *about)) for at in later)
            for reader in ("attention", "mlp")
        )
        expected = [frozen, final - frozen, attention, mlp]
        assert relative(found.parts[row], expected) < EXACT
        assert all(abs(part) > 1e-4 * max(map(abs, expected)) for part in expected)


def test_edges_of_shares_equal_hooks_into_single_neurons(small: AblationContext) -> None:
    ctx, hooked, about = small, oracle(small), (*drawn(small), nodes(STEPS))
    found = share_routes(ctx, SENDERS, steps=STEPS, draws=1, seed=SEED)
    expected = np.zeros_like(found.edges)
    for row, sender in enumerate(SENDERS):
        for column, receiver in enumerate(SENDERS):
            if receiver.layer > sender.layer:
                edge = hooked.of_share(sender, "mlp", receiver.layer, *about, receiver=receiver.index)
                expected[row, column] = mean(ctx, edge)
    assert (expected != 0).sum() == 4
    assert relative(found.edges, expected) < EXACT


@pytest.mark.parametrize("measure", ["probability_difference", "contrast"])
def test_routes_of_total_effects_equal_hooks_on_the_whole_model(
    small: AblationContext, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With as many nodes as the oracle takes; by default as many as make the sum right to 1e-6."""
    monkeypatch.setattr(effect, "STEPS", (16,))
    ctx, hooked = small, oracle(small, measure)
    found = effect_routes(ctx, SENDERS, SENDERS, seed=SEED, measure=measure)
    for row, neuron in enumerate(SENDERS):
        receivers = [one for one in SENDERS if one.layer > neuron.layer]
        parts = hooked.of_effect(neuron, *drawn(ctx), receivers, nodes(16))
        expected = {name: mean(ctx, part) for name, part in parts.items()}
        assert found.total[row] == pytest.approx(expected["total"], rel=EXACT, abs=1e-12)
        assert relative(found.parts[row], [expected[name] for name in ROUTES]) < EXACT
        for receiver in receivers:
            assert found.edges[row, SENDERS.index(receiver)] == pytest.approx(expected[str(receiver)], rel=1e-8)


# --- sums ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", [*ATTRIBUTED, "contrast"])
def test_routes_of_a_share_add_up_to_the_share(mini_few: AblationContext, measure: Measure) -> None:
    whole = attribute(mini_few, measures=[measure], draws=2, seed=3, steps=6)[measure]
    first = [whole.neurons[row] for row in whole.order()[:40].tolist()]
    found = share_routes(mini_few, first, steps=6, draws=2, seed=3, measure=measure)
    assert found.total == pytest.approx([whole.share_of(neuron) for neuron in first], abs=1e-6)


def test_edges_and_others_add_up_to_the_part_of_later_neurons(mini_few: AblationContext) -> None:
    """With every neuron followed nothing is left for others: the matrix is the whole part."""
    every = [NeuronId(layer, index) for layer in mini_few.cache.layers for index in range(mini_few.cache.d_mlp)]
    found = share_routes(mini_few, every, steps=2, draws=1)
    assert np.abs(found.others).max() < 1e-8
    assert np.abs(found.edges.sum(1)).max() > 1e-3


def test_routes_of_a_total_effect_add_up_to_what_ablation_measures(mini_few: AblationContext) -> None:
    ctx, some = mini_few, [NeuronId(9, 43), NeuronId(8, 191), NeuronId(11, 165)]
    found = effect_routes(ctx, some, some, seed=3)
    taken = random_years(ctx.cache, draws=1, seed=3)
    (block,) = [block_of(ctx, ["probability_difference"], ctx.rows, taken[:, ctx.rows])]
    kept = np.ones((4, len(ctx.cache.layers) * ctx.cache.d_mlp), bool)
    for row, neuron in enumerate(some):
        kept[row, ctx.cache.layers.index(neuron.layer) * ctx.cache.d_mlp + neuron.index] = False
    values = with_kept(ctx, block, block.drawn[0], kept)[0].double().numpy()
    ablated = [mean(ctx, torch.as_tensor(values[row] - values[3])) for row in range(3)]
    assert found.total == pytest.approx(ablated, abs=1e-6)


# --- planted ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", EACH_SEED)
def test_a_relay_has_its_whole_effect_and_share_on_the_edge_to_what_it_turns_on(tmp_path: Path, seed: int) -> None:
    """It writes only what one later neuron reads: nothing direct, nothing through the scale, attention or others."""
    case = circuit_case(tmp_path / "model", "responding", seed)
    (relay,), (relayed,) = case.planted.roles["relay"], case.planted.roles["relayed"]
    model = load_model(case.planted.folder)
    cache = cache_activations(model, case.prompts, layers=(8, 9, 10, 11), cache_dir=tmp_path)
    ctx = ablation_context(model.to(torch.float64), cache)
    share = share_routes(ctx, [relay, relayed], steps=24, draws=1)
    for found in (share, effect_routes(ctx, [relay], [relayed])):
        size = abs(found.total[0])
        assert size > 0.01
        edge = found.edges[0, found.receivers.index(relayed)]
        assert edge == pytest.approx(found.total[0], abs=1e-6 * size)
        assert np.abs(found.parts[0, :NEURONS]).max() < 1e-6 * size
    assert share.parts[1, DIRECT] == pytest.approx(share.total[1], rel=1e-6)


def test_a_neuron_that_acts_through_the_scale_alone_has_all_of_it_there(small: AblationContext) -> None:
    """It writes where no token's unembedding reads: the logits move by the final LayerNorm's scale alone."""
    model, ln = small.model, small.model.ln_final
    W_U = model.W_U.clone()
    W_U[:, 1] = W_U[:, 0] * ln.gain[0] / ln.gain[1]
    write = torch.zeros(model.config.d_model, dtype=torch.float64)
    write[0], write[1] = 5.0, -5.0
    W_out = model.blocks[2].W_out.clone()
    W_out[0] = write
    silent = [replace(block, W_O=0 * block.W_O, W_out=0 * block.W_out) for block in model.blocks[3:]]
    blocks = (*model.blocks[:2], replace(model.blocks[2], W_out=W_out), *silent)
    ctx = replace(small, model=replace(model, W_U=W_U, blocks=blocks))
    neuron = NeuronId(2, 0)
    for found in (share_routes(ctx, [neuron], steps=16, draws=1), effect_routes(ctx, [neuron], [neuron])):
        assert abs(found.total[0]) > 1e-8
        assert found.parts[0, SCALE] == pytest.approx(found.total[0], rel=1e-9)


# --- results ---------------------------------------------------------------------------------------


def test_a_neuron_that_was_not_followed_is_an_error(mini_few: AblationContext) -> None:
    found = share_routes(mini_few, ["L9N43"], steps=2, draws=1)
    with pytest.raises(InputError, match="choose among the 1 first neurons"):
        found.record("L9N44")


def test_the_record_names_the_edges_by_size_and_what_is_left(mini_few: AblationContext) -> None:
    some = [NeuronId(8, 191), *(NeuronId(layer, index) for layer in (10, 11) for index in range(20))]
    record = share_routes(mini_few, some, steps=2, draws=1).record("L8N191")
    sizes = [abs(edge["value"]) for edge in record["through"]]
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) == 10
    assert record["total"] == pytest.approx(sum(record[name] for name in ROUTES))
    json.dumps(record, allow_nan=False)
