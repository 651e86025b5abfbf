"""Top-k curves, the published variant and the table of whole layers, against hooks, identities and planted truth."""

import numpy as np
import pytest
import torch
from conftest import PlantedCase
from hooked import hooked_model

from neurons.cache.format import Cache
from neurons.intervention.ablations import agreement
from neurons.intervention.components import component_effects
from neurons.intervention.context import AblationContext, ablation_context
from neurons.intervention.curve_results import Curves
from neurons.intervention.curves import _k90, curves, effect_order, published_curve, sizes, variance_order
from neurons.intervention.draws import random_years
from neurons.intervention.exact import all_neurons, group_effect, neuron_effects, references
from neurons.intervention.groups import group_measures
from neurons.model.model import Model
from neurons.report.figures.causal_plots import agreement_figure, curves_figure, layers_figure, published_figure
from neurons.task import behaviour
from neurons.task.intervention import Intervention
from neurons.types import Ablation, InputError, NeuronId

SPREAD = (2, 17, 32, 45, 63, 78, 90, 98)


@pytest.fixture(scope="module")
def few(mini_model: Model, mini_cache: Cache) -> AblationContext:
    return ablation_context(mini_model, mini_cache, years=SPREAD, nouns=1)


@pytest.fixture(scope="module")
def double(few: AblationContext) -> AblationContext:
    return ablation_context(few.model.to(torch.float64), few.cache, years=SPREAD, nouns=1)


@pytest.fixture(scope="module")
def found(few: AblationContext) -> Curves:
    return curves(few, {"variance": variance_order(few)}, seeds=3)


# --- curves ----------------------------------------------------------------------------------------


def test_sizes_double_and_end_with_all() -> None:
    assert sizes(10).tolist() == [0, 1, 2, 4, 8, 10]
    assert sizes(8).tolist() == [0, 1, 2, 4, 8]


def test_curves_begin_and_end_at_the_same_two_values(few: AblationContext, found: Curves) -> None:
    """Keeping all is ablating none; keeping none is ablating all, whatever the order."""
    baseline = references(few, "contrast").baseline
    everything = group_effect(few, all_neurons(few.cache), draws=1).effect["contrast"]
    for curve in found.of("contrast", "keep"):
        assert curve.values[[0, -1]] == pytest.approx([baseline + everything, baseline], abs=1e-4)
    for curve in found.of("contrast", "ablate"):
        assert curve.values[[0, -1]] == pytest.approx([baseline, baseline + everything], abs=1e-4)


def test_a_point_of_a_curve_is_that_set_ablated(few: AblationContext, found: Curves) -> None:
    top = variance_order(few)[:4]
    mask = np.zeros(len(few.cache.layers) * few.cache.d_mlp, bool)
    mask[top] = True
    groups = np.stack([mask, ~mask]).reshape(2, len(few.cache.layers), -1)
    expected = group_measures(few, groups, ablation="random-year", draws=1)
    for measure, values in expected.items():
        (ablate, keep) = (found.of(measure, kind)[0] for kind in ("ablate", "keep"))
        at = ablate.k.tolist().index(4)
        assert [ablate.values[at], keep.values[at]] == pytest.approx(values.mean(1), abs=1e-5)


def test_the_band_of_random_orders_holds_their_mean(found: Curves) -> None:
    (random,) = (curve for curve in found.of("contrast", "keep") if curve.order == "random")
    assert np.all(random.low <= random.values + 1e-12)
    assert np.all(random.values <= random.high + 1e-12)
    assert random.low[1] < random.high[1]


@pytest.mark.parametrize(
    ("share", "expected"),
    [([0, 0.5, 0.95, 1], 2), ([0, 0.95, 0.5, 1], 4), ([0, 0.1, 0.2, 0.3], None), ([1, 1, 1, 1], 0)],
)
def test_k90_is_where_the_share_stays_above_nine_tenths(share: list[float], expected: int | None) -> None:
    assert _k90(np.array([0, 1, 2, 4]), np.array(share, float)) == expected


def test_a_few_planted_neurons_keep_the_behaviour_and_random_ones_do_not(planted_case) -> None:  # type: ignore[no-untyped-def]
    case: PlantedCase = planted_case(0)
    ctx = ablation_context(case.model, case.cache, years=SPREAD, nouns=1)
    member = {neuron: i for i, neuron in enumerate(all_neurons(case.cache))}
    first = [member[n] for n in case.truth.roles["greater"]]
    last = [member[n] for n in case.truth.roles["mirror"]]
    others = [i for i in range(len(member)) if i not in {*first, *last}]
    result = curves(ctx, {"planted": np.array(first + others + last)}, seeds=2)
    planted, random = result.of("probability_difference", "keep")
    assert planted.k90 == 32
    assert random.k90 is None or random.k90 > 256
    assert planted.area > random.area + 0.2


def test_the_exact_order_puts_the_most_boosting_first_and_the_unknown_between(few: AblationContext) -> None:
    effects = neuron_effects(few, ["L8N1", "L9N2", "L10N3"], keep=False)
    order = effect_order(few, effects)
    rank = {n: order.tolist().index((n.layer - 8) * few.cache.d_mlp + n.index) for n in effects.neurons}
    by_effect = sorted(effects.neurons, key=lambda n: effects.effect[effects.neurons.index(n)])
    assert sorted(rank, key=lambda n: rank[n]) == by_effect


def test_an_order_with_a_neuron_twice_is_refused(few: AblationContext) -> None:
    with pytest.raises(InputError, match="wrong"):
        curves(few, {"wrong": np.zeros(1024, int)}, seeds=0)


# --- the published variant -------------------------------------------------------------------------


def test_the_published_variant_equals_hooks_at_all_positions(double: AblationContext) -> None:
    """Neurons of layer 10 zeroed at every position of the whole model; softmax over the 100 years."""
    oracle, tokens = hooked_model(double.model, torch.float64), double.tokens[double.rows]
    found = published_curve(double, layer=10)
    kept = np.argsort(-double.cache.post(10).var(0, dtype=float), kind="stable")[:15]
    mask = torch.zeros(double.cache.d_mlp, dtype=torch.float64)
    mask[kept.tolist()] = 1
    handle = oracle.hf.transformer.h[10].mlp.act.register_forward_hook(lambda _, __, out: out * mask)
    years = oracle.logits(tokens)[:, double.year_ids]
    handle.remove()
    values = behaviour.probability_difference(years.softmax(-1).numpy(), double.start_year)
    expected = (double.averaging @ values).mean()
    assert found.probability_difference[found.k.tolist().index(15)] == pytest.approx(expected, abs=1e-9)


def test_keeping_every_neuron_is_the_model_itself(few: AblationContext) -> None:
    years = torch.as_tensor(few.cache.year_logits[few.rows]).softmax(-1).numpy()
    whole = (few.averaging @ behaviour.probability_difference(years, few.start_year)).mean()
    assert published_curve(few).probability_difference[-1] == pytest.approx(whole, abs=1e-5)


# --- whole layers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ablation", ["random-year", "resample"])
def test_a_head_and_an_mlp_equal_plain_hooks(double: AblationContext, ablation: Ablation) -> None:
    oracle = hooked_model(double.model, torch.float64)
    tokens = double.tokens[double.rows]
    if ablation == "resample":
        others = [double.counterfactual_tokens[double.cache.counterfactual[double.rows]]]
    else:
        others = [double.tokens[rows] for rows in random_years(double.cache, draws=2)[:, double.rows]]
    table = component_effects(double, ablation=ablation, draws=2)
    before = double.averaging @ contrast_of(oracle.logits(tokens), double)
    d_head = double.model.config.d_head
    for name, module, columns in (
        ("m9", oracle.hf.transformer.h[9].mlp, slice(None)),
        ("a6.h2", oracle.hf.transformer.h[6].attn.c_proj, slice(2 * d_head, 3 * d_head)),
    ):
        runs = [contrast_of(replaced(oracle, module, columns, tokens, other), double) for other in others]
        after = double.averaging @ np.mean(runs, 0)
        row = table.components.index(name)
        assert table.effect["contrast"][row] == pytest.approx((after - before).mean(), abs=1e-9)


def replaced(oracle, module, columns, tokens, other) -> torch.Tensor:  # type: ignore[no-untyped-def]
    """Logits with a module's END output (an MLP) or END input columns (a head) taken from other prompts."""
    is_mlp = columns == slice(None)
    seen: list[torch.Tensor] = []
    if is_mlp:
        handle = module.register_forward_hook(lambda _, __, out: seen.append(out[:, -1].clone()))
    else:
        handle = module.register_forward_pre_hook(lambda _, x: seen.append(x[0][:, -1].clone()))
    oracle.logits(other)
    handle.remove()

    def put(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[:, -1, columns] = seen[0][:, columns]
        return x

    if is_mlp:
        handle = module.register_forward_hook(lambda _, __, out: put(out))
    else:
        handle = module.register_forward_pre_hook(lambda _, x: (put(x[0]),))
    logits = oracle.logits(tokens)
    handle.remove()
    return logits


def contrast_of(logits: torch.Tensor, ctx: AblationContext) -> np.ndarray:
    return behaviour.contrast(logits[:, ctx.year_ids].numpy(), ctx.start_year)


@pytest.mark.parametrize("ablation", ["random-year", "mean"])
def test_an_ablated_mlp_is_all_its_neurons_ablated(double: AblationContext, ablation: Ablation) -> None:
    neurons = [NeuronId(10, index) for index in range(double.cache.d_mlp)]
    group = group_effect(double, neurons, Intervention(ablation=ablation), draws=1).effect
    table = component_effects(double, ablation=ablation)
    row = table.components.index("m10")
    for measure, value in group.items():
        assert table.effect[measure][row] == pytest.approx(value, abs=1e-6)


def test_a_component_put_to_zero_writes_nothing(double: AblationContext) -> None:
    """MLP 11 is the last to write, so that its own output is all that the residual loses."""
    table, oracle = component_effects(double, ablation="zero"), hooked_model(double.model, torch.float64)
    tokens = double.tokens[double.rows]
    handle = oracle.hf.transformer.h[11].mlp.register_forward_hook(lambda _, __, out: torch.zeros_like(out))
    after = contrast_of(oracle.logits(tokens), double)
    handle.remove()
    change = double.averaging @ (after - contrast_of(oracle.logits(tokens), double))
    assert table.effect["contrast"][table.components.index("m11")] == pytest.approx(change.mean(), abs=1e-9)


def test_every_component_of_every_layer_is_in_the_table(few: AblationContext) -> None:
    table = component_effects(few)
    config = few.model.config
    assert len(set(table.components)) == config.n_layers * (1 + config.n_heads)
    assert {(name[0], layer) for name, layer in zip(table.components, table.layer, strict=True)} >= {
        ("m", 0),
        ("a", 11),
    }


# --- agreement -------------------------------------------------------------------------------------


def test_agreement_flags_what_was_planted() -> None:
    score = np.linspace(1, 0.1, 10)
    total = -score.copy()
    total[3], total[9] = 0.5, -2.0
    direct = -score.copy()
    direct[9] = -2.0
    result = agreement([NeuronId(8, i) for i in range(10)], score, frozen=-score, direct=direct, total=total)
    assert np.flatnonzero(result.sign_differs).tolist() == [3]
    assert result.rank_differs[9]
    assert (result.step[3], result.step[9]) == ("later layers", "final LayerNorm")
    assert result.total[0] == score[0]


def test_scores_that_are_the_effect_agree_fully() -> None:
    score = np.random.default_rng(0).normal(size=30)
    result = agreement([NeuronId(8, i) for i in range(30)], score, frozen=-score, direct=-score, total=-score)
    assert result.correlation["total"] == pytest.approx({"spearman": 1, "pearson": 1})
    assert result.to_json()["flagged"] == []


def test_agreement_needs_scores() -> None:
    nothing = np.full(5, np.nan)
    with pytest.raises(InputError, match="score"):
        agreement([NeuronId(8, i) for i in range(5)], nothing, frozen=nothing, direct=nothing, total=nothing)


# --- figures ---------------------------------------------------------------------------------------


def test_a_curve_s_line_shows_its_values(few: AblationContext, found: Curves) -> None:
    known = references(few, "contrast", floor=2.0)
    figure = curves_figure(found, known, measure="contrast", kind="keep")
    drawn = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    assert np.array_equal(drawn["variance"], found.of("contrast", "keep")[0].values)
    assert "random, 3 seeds (5-95 %)" in drawn
    assert {text.get_text() for text in figure.axes[0].texts} == {"clean run", "floor"}


def test_the_layer_bars_are_the_effects_of_the_mlps(few: AblationContext) -> None:
    table = component_effects(few)
    axes = layers_figure(table, measure="probability_difference").axes[0]
    effect = table.effect["probability_difference"]
    bars = [bar.get_height() for bar in axes.containers[0]]
    assert bars == [effect[table.components.index(f"m{layer}")] for layer in range(12)]


def test_the_scatter_shows_score_against_what_ablation_takes_away() -> None:
    score = np.linspace(-1, 1, 12)
    result = agreement([NeuronId(8, i) for i in range(12)], score, frozen=-score, direct=-score, total=-2 * score)
    points = agreement_figure(result).axes[0].lines[1]
    assert np.array_equal(points.get_xdata(), score)
    assert np.array_equal(points.get_ydata(), 2 * score)


def test_the_published_figure_names_its_layer(few: AblationContext) -> None:
    assert "MLP 10" in published_figure(published_curve(few)).axes[0].get_xlabel()
