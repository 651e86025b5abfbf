"""Ablations at END against plain hooks on the whole model, the effects' prediction, and planted truth."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PlantedCase
from hooked import HookedModel, hooked_model
from oracle import relative

from neurons.attribution.approximations import alone
from neurons.attribution.patching import attribution_patching
from neurons.attribution.shares import attribute
from neurons.cache.build import cache_activations
from neurons.cache.format import Cache
from neurons.decomposition.effects import logit_effects
from neurons.intervals import jackknife
from neurons.intervention.context import AblationContext, ablation_context
from neurons.intervention.draws import random_years
from neurons.intervention.exact import (
    Beside,
    all_neurons,
    floors,
    group_effect,
    neuron_effects,
    references,
    top_of,
)
from neurons.intervention.groups import MEASURES, group_mask, group_measures, logit_changes, neuron_changes
from neurons.intervention.readers import measure_weights
from neurons.model.model import Model
from neurons.task import behaviour
from neurons.task.intervention import Intervention
from neurons.task.prompts import year_spans
from neurons.types import OF_LOGITS, CacheError, InputError, Measure, NeuronId

SINGLE, DOUBLE = 1e-4, 1e-9
"""Of a logit, as promised."""
SPREAD = (2, 17, 32, 45, 63, 78, 90, 98)


@pytest.fixture(scope="module")
def mini_few(mini_model: Model, mini_cache: Cache) -> AblationContext:
    return ablation_context(mini_model, mini_cache, years=SPREAD, nouns=1)


@pytest.fixture(scope="module")
def random_few(random_small: Model, random_cache: Cache) -> AblationContext:
    return ablation_context(random_small, random_cache, years=SPREAD, nouns=1)


@pytest.fixture(scope="module")
def gpt2_few(gpt2_shaped: Model, tmp_path_factory: pytest.TempPathFactory) -> AblationContext:
    prompts = year_spans(gpt2_shaped.tokenizer, nouns=1, centuries="draw")
    keep = np.isin(prompts.start_year, SPREAD)
    few = replace(prompts, tokens=prompts.tokens[keep], start_year=prompts.start_year[keep],
                  century=prompts.century[keep], counterfactual=prompts.counterfactual[keep],
                  noun=tuple(np.array(prompts.noun)[keep].tolist()))  # fmt: skip
    cache = cache_activations(gpt2_shaped, few, cache_dir=tmp_path_factory.mktemp("gpt2"))
    return ablation_context(gpt2_shaped, cache, years=SPREAD)


def in_double(ctx: AblationContext) -> AblationContext:
    return ablation_context(ctx.model.to(torch.float64), ctx.cache, years=ctx.start_years, nouns=1)


def drawn(cache: Cache, count: int, seed: int = 0) -> list[NeuronId]:
    """Neurons spread over all cached layers."""
    rng = np.random.default_rng(seed)
    per_layer = count // len(cache.layers)
    return [
        NeuronId(layer, int(index))
        for layer in cache.layers
        for index in rng.choice(cache.d_mlp, per_layer, replace=False)
    ]


def prompts_of(ctx: AblationContext) -> tuple[np.ndarray, np.ndarray]:
    """The prompts of the experiment and each one's 01-counterfactual."""
    return ctx.tokens[ctx.rows], ctx.counterfactual_tokens[ctx.cache.counterfactual[ctx.rows]]


def other_years(ctx: AblationContext, draws: int) -> list[np.ndarray]:
    """For each draw, the prompts of the same noun and century with a random other start year."""
    return [ctx.tokens[rows] for rows in random_years(ctx.cache, draws=draws, seed=ctx.seed)[:, ctx.rows]]


def hooked_changes(
    ctx: AblationContext, oracle: HookedModel, neurons: list[NeuronId], effect: str
) -> tuple[np.ndarray, np.ndarray]:
    """Random-year ablation of each neuron on one prompt (taken in turn): which prompt, change of the year logits."""
    which = np.arange(len(neurons)) % len(ctx)
    tokens, (other,) = ctx.tokens[ctx.rows], other_years(ctx, 1)
    new, old = oracle.post(other), oracle.post(tokens)
    values = [float(new[n.layer][i, n.index]) for i, n in zip(which, neurons, strict=True)]
    if effect == "total":
        after = oracle.with_values(tokens[which], [{n: v} for n, v in zip(neurons, values, strict=True)])
    else:
        own = [float(old[n.layer][i, n.index]) for i, n in zip(which, neurons, strict=True)]
        change = [(v - a) * oracle.w_out(n) for v, a, n in zip(values, own, neurons, strict=True)]
        after = oracle.read(oracle.final_residual(tokens)[which] + torch.stack(change))
    return which, (after - oracle.logits(tokens)[which])[:, ctx.year_ids].numpy()


def assert_equals_hooks(ctx: AblationContext, effect: str, tolerance: float) -> None:
    neurons = drawn(ctx.cache, 64)
    which, expected = hooked_changes(ctx, hooked_model(ctx.model, ctx.model.W_E.dtype), neurons, effect)
    found = logit_changes(ctx, slice(0, len(ctx)), neurons, Intervention(effect=effect))
    assert np.abs(expected).max() > 100 * tolerance
    assert np.abs(found[np.arange(64), which] - expected).max() < tolerance


# --- plain hooks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", ["total", "direct"])
@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("case", ["mini_few", "random_few"])
def test_each_neuron_s_effect_equals_plain_hooks(
    request: pytest.FixtureRequest, case: str, precision: str, effect: str
) -> None:
    ctx = request.getfixturevalue(case)
    if precision == "double":
        ctx = in_double(ctx)
    assert_equals_hooks(ctx, effect, DOUBLE if precision == "double" else SINGLE)


@pytest.mark.parametrize("precision", ["single", pytest.param("double", marks=pytest.mark.long)])
def test_each_neuron_s_effect_equals_plain_hooks_in_gpt2_s_shape(gpt2_few: AblationContext, precision: str) -> None:
    if precision == "double":
        model = gpt2_few.model.to(torch.float64)
        assert_equals_hooks(ablation_context(model, gpt2_few.cache, years=SPREAD), "total", DOUBLE)
    else:
        assert_equals_hooks(gpt2_few, "total", SINGLE)
        assert_equals_hooks(gpt2_few, "direct", SINGLE)


@pytest.mark.parametrize("ablation", ["random-year", "resample", "mean", "zero"])
@pytest.mark.parametrize("measure", MEASURES)
def test_every_ablation_and_measure_equals_plain_hooks(
    random_few: AblationContext, ablation: str, measure: Measure
) -> None:
    ctx = in_double(random_few)
    oracle, tokens = hooked_model(ctx.model, torch.float64), ctx.tokens[ctx.rows]
    neuron = NeuronId(9, 12)
    value = {
        "random-year": oracle.post(other_years(ctx, 1)[0])[9][:, 12].numpy(),
        "resample": oracle.post(prompts_of(ctx)[1])[9][:, 12].numpy(),
        "mean": np.full(len(ctx), ctx.cache.post(9)[:, 12].mean(dtype=float)),
        "zero": np.zeros(len(ctx)),
    }[ablation]
    after = oracle.with_values(tokens, [{neuron: float(v)} for v in value])
    expected = measured(measure, after, ctx) - measured(measure, oracle.logits(tokens), ctx)
    ((_, found),) = neuron_changes(ctx, slice(0, len(ctx)), [neuron], Intervention(ablation=ablation, measure=measure))
    assert np.abs(found[0] - expected).max() < DOUBLE


def measured(measure: Measure, logits: torch.Tensor, ctx: AblationContext) -> np.ndarray:
    years = logits[:, ctx.year_ids].numpy()
    if measure in OF_LOGITS:
        return getattr(behaviour, measure)(years, ctx.start_year)
    return getattr(behaviour, measure)(logits.softmax(-1)[:, ctx.year_ids].numpy(), ctx.start_year)


def over_years(values: np.ndarray, ctx: AblationContext) -> float:
    """The mean over start years, each at the average century, which some years lack: by least squares, solved whole."""
    century = np.unique(ctx.cache.century[ctx.rows], return_inverse=True)[1]
    year = np.searchsorted(SPREAD, ctx.start_year)
    C, Y = century.max() + 1, len(SPREAD)
    design = np.concatenate([np.eye(Y)[year], np.eye(C)[century]], 1)
    zero_sum = np.concatenate([np.zeros(Y), np.full(C, 1e3)])
    solved = np.linalg.lstsq(np.vstack([design, zero_sum]), np.append(values, 0), rcond=None)[0]
    return float(solved[:Y].mean())


def test_a_group_over_several_layers_equals_plain_hooks(random_few: AblationContext) -> None:
    ctx = in_double(random_few)
    oracle, (tokens, tokens_01) = hooked_model(ctx.model, torch.float64), prompts_of(ctx)
    neurons = drawn(ctx.cache, 40, seed=1)
    new = oracle.post(tokens_01)
    held = [{n: float(new[n.layer][i, n.index]) for n in neurons} for i in range(len(ctx))]
    groups = group_mask(ctx.cache.layers, ctx.cache.d_mlp, neurons)[None]
    found = group_measures(ctx, groups, ablation="resample")
    after = oracle.with_values(tokens, held)
    for measure, values in found.items():
        assert values[0] == pytest.approx(ctx.averaging @ measured(measure, after, ctx), abs=DOUBLE)


def test_a_group_at_a_random_other_year_is_the_mean_over_draws_of_plain_hooks(random_few: AblationContext) -> None:
    """Three draws; in each all neurons of the set together take their values from one other prompt."""
    ctx = replace(in_double(random_few), seed=5)
    oracle, neurons = hooked_model(ctx.model, torch.float64), drawn(ctx.cache, 40, seed=1)
    expected = {measure: np.zeros(len(ctx)) for measure in MEASURES}
    for other in other_years(ctx, 3):
        new = oracle.post(other)
        held = [{n: float(new[n.layer][i, n.index]) for n in neurons} for i in range(len(ctx))]
        after = oracle.with_values(ctx.tokens[ctx.rows], held)
        for measure in MEASURES:
            expected[measure] += measured(measure, after, ctx) / 3
    groups = group_mask(ctx.cache.layers, ctx.cache.d_mlp, neurons)[None]
    for measure, values in group_measures(ctx, groups, ablation="random-year", draws=3).items():
        assert values[0] == pytest.approx(ctx.averaging @ expected[measure], abs=DOUBLE)
        assert values[0].mean() == pytest.approx(over_years(expected[measure], ctx), abs=DOUBLE)


def test_all_neurons_together_at_another_year_are_the_floor_of_the_shares(random_few: AblationContext) -> None:
    ctx = in_double(random_few)
    shares = attribute(ctx, measures=MEASURES, steps=1)
    for measure, floor in floors(ctx).items():
        assert floor == pytest.approx(shares[measure].floor.mean(), abs=DOUBLE)
        assert references(ctx, measure).baseline == pytest.approx(shares[measure].clean.mean(), abs=1e-5)


def test_single_effects_are_what_attribution_s_table_calls_alone(random_few: AblationContext) -> None:
    ctx = in_double(random_few)
    lost = alone(ctx, measures=["logit_step"], draws=1)["logit_step"].reshape(len(ctx.cache.layers), -1)
    found = neuron_effects(ctx, ["L8N3", "L11N7"], Intervention(measure="logit_step"), keep=False)
    assert found.effect == pytest.approx([-lost[0, 3], -lost[3, 7]], abs=DOUBLE)


def test_intervals_are_a_jackknife_over_centuries(random_few: AblationContext) -> None:
    """Each century left out by hand, its prompts taken out of the context."""
    ctx = random_few
    whole = neuron_effects(ctx, ["L9N4", "L11N7"], keep=False)
    group = group_effect(ctx, ["L9N4", "L11N7"])
    without, of_group = [], []
    for century in np.unique(ctx.cache.century[ctx.rows]):
        rows = ctx.rows[ctx.cache.century[ctx.rows] != century]
        others = replace(ctx, rows=rows)
        assert set(others.start_year) == set(SPREAD), "a year is lost with its century: choose other years"
        without.append(neuron_effects(others, ["L9N4", "L11N7"], keep=False).effect)
        of_group.append(group_effect(others, ["L9N4", "L11N7"]).effect["contrast"])
    by_hand = jackknife(whole.effect, np.stack(without))
    assert whole.ci_low == pytest.approx(by_hand.low, abs=1e-6)
    assert whole.ci_high == pytest.approx(by_hand.high, abs=1e-6)
    together = jackknife(np.array(group.effect["contrast"]), np.array(of_group))
    assert group.interval["contrast"] == pytest.approx((float(together.low), float(together.high)), abs=1e-6)


@pytest.mark.parametrize("effect", ["direct", "total"])
@pytest.mark.parametrize("measure", MEASURES)
def test_a_group_of_one_neuron_is_that_neuron(random_few: AblationContext, effect: str, measure: Measure) -> None:
    ctx = in_double(random_few)
    for neuron in ("L8N3", "L11N7"):
        alone = neuron_effects(ctx, [neuron], Intervention(effect=effect, measure=measure), draws=2, keep=False)
        group = group_effect(ctx, [neuron], Intervention(effect=effect), draws=2)
        assert group.by_start_year[measure] == pytest.approx(alone.by_start_year[0], abs=1e-12)


def test_a_group_of_none_changes_nothing(random_few: AblationContext) -> None:
    groups = np.zeros((2, len(random_few.cache.layers), random_few.cache.d_mlp), bool)
    groups[1, 0, 0] = True
    both = group_measures(random_few, groups, ablation="zero")
    alone = group_measures(random_few, groups[:1], ablation="zero")
    for measure, values in alone.items():
        assert values[0].mean() == pytest.approx(references(random_few, measure).baseline, abs=1e-5)
        assert both[measure][0] == pytest.approx(values[0], abs=1e-5)


# --- prediction meets intervention -----------------------------------------------------------------


@pytest.mark.parametrize("case", ["mini_few", "random_few", "gpt2_few"])
def test_the_frozen_effect_is_what_the_effects_predict(request: pytest.FixtureRequest, case: str) -> None:
    """The prediction for a neuron put to zero is minus its direct logit effect."""
    ctx = request.getfixturevalue(case)
    effects = logit_effects(ctx.cache, years=ctx.start_years)
    for layer in ctx.cache.layers:
        neurons = [NeuronId(layer, index) for index in range(ctx.cache.d_mlp)]
        found = logit_changes(ctx, slice(0, len(ctx)), neurons, Intervention(ablation="zero", effect="frozen"))
        a, readout = effects.activation(layer)[ctx.rows], effects.readout(layer)
        predicted = -a.T[:, :, None] * readout[:, None]
        assert np.abs(found - predicted).max() < 1e-5 * np.abs(ctx.cache.year_logits).max()


@pytest.mark.parametrize("case", ["mini_few", "random_few"])
def test_the_frozen_effect_is_the_prediction_to_the_last_digits_in_double(
    request: pytest.FixtureRequest, case: str
) -> None:
    ctx = in_double(request.getfixturevalue(case))
    kept = ctx.trace(slice(0, len(ctx)))
    ids = torch.as_tensor(ctx.year_ids, dtype=torch.long)
    scale = (kept.after[-1].var(-1, unbiased=False) + ctx.model.config.layer_norm_eps).sqrt()
    for layer in ctx.cache.layers:
        readout = (ctx.model.blocks[layer].W_out @ ctx.model.year_readout(ids)).numpy()
        predicted = -(kept.post[layer] / scale[:, None]).T[:, :, None].numpy() * readout[:, None]
        neurons = [NeuronId(layer, index) for index in range(ctx.cache.d_mlp)]
        found = logit_changes(ctx, slice(0, len(ctx)), neurons, Intervention(ablation="zero", effect="frozen"))
        assert np.abs(found - predicted).max() < DOUBLE


def test_total_is_direct_in_the_last_layer_and_not_before(random_few: AblationContext) -> None:
    neurons = [NeuronId(layer, 5) for layer in (10, 11)]
    total, direct = (
        neuron_effects(random_few, neurons, Intervention(effect=effect), keep=False).by_start_year
        for effect in ("total", "direct")
    )
    assert np.array_equal(total[1], direct[1])
    assert relative(total[0], direct[0]) > 1e-3


@pytest.mark.parametrize("effect", ["total", "direct", "frozen"])
def test_attribution_patching_is_the_effect_of_a_small_change(random_few: AblationContext, effect: str) -> None:
    """A neuron moved by a ten-thousandth of the way to zero changes the contrast by as much of the estimate."""
    ctx, intervention = in_double(random_few), Intervention(ablation="zero", effect=effect)
    estimate = attribution_patching(ctx, intervention)
    small = 1e-4
    for neuron in (NeuronId(8, 3), NeuronId(10, 77), NeuronId(11, 9)):
        moved = nudged(ctx, neuron, intervention, small)
        assert estimate[neuron.layer - 8, neuron.index] == pytest.approx(moved / small, rel=1e-2, abs=1e-7)


def nudged(ctx: AblationContext, neuron: NeuronId, intervention: Intervention, share: float) -> float:
    """Effect of taking away a share of a neuron's activation: `held` is moved, the rest is the exact path."""

    class Nudged(AblationContext):
        def held(self, ablation: str, block: slice, *, draws: int = 1) -> tuple[dict[int, torch.Tensor]]:
            return ({layer: (1 - share) * post for layer, post in enumerate(self.trace(block).post)},)

    near = Nudged(ctx.model, ctx.cache, ctx.start_years, ctx.rows, ctx.activations)
    return float(neuron_effects(near, [neuron], intervention, keep=False).effect[0])


# --- planted circuits ------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[0, 1, 2])
def planted(
    request: pytest.FixtureRequest, planted_case: Callable[[int], PlantedCase]
) -> tuple[PlantedCase, AblationContext]:
    case = planted_case(request.param)
    return case, ablation_context(case.model, case.cache, nouns=1)


def test_without_its_planted_neurons_the_model_is_as_blind_as_on_01(
    planted: tuple[PlantedCase, AblationContext],
) -> None:
    case, ctx = planted
    known = references(ctx, "probability_difference")
    resample = Intervention("resample")
    effect = group_effect(ctx, case.truth.roles["greater"], resample).effect["probability_difference"]
    assert known.baseline > 0.7
    assert known.baseline + effect < known.counterfactual + 0.2


def test_no_decoy_matters(planted: tuple[PlantedCase, AblationContext]) -> None:
    case, ctx = planted
    decoys = [n for role in ("orthogonal", "always_on", "flat") for n in case.truth.roles[role]]
    found = neuron_effects(ctx, decoys, Intervention(measure="probability_difference"), keep=False)
    assert np.abs(found.effect).max() < 0.02


def test_removing_a_mirror_neuron_raises_the_contrast(planted: tuple[PlantedCase, AblationContext]) -> None:
    case, ctx = planted
    assert neuron_effects(ctx, case.truth.roles["mirror"], keep=False).effect.min() > 0


# --- references, measures, selection ---------------------------------------------------------------


def test_the_references_are_the_behaviour_of_the_runs(mini_few: AblationContext) -> None:
    ctx, oracle = mini_few, hooked_model(mini_few.model, torch.float32)
    tokens, tokens_01 = prompts_of(ctx)
    for measure in MEASURES:
        found = references(ctx, measure)
        clean, corrupted = (measured(measure, oracle.logits(rows), ctx) for rows in (tokens, tokens_01))
        assert found.baseline == pytest.approx(over_years(clean, ctx), abs=1e-5)
        assert found.counterfactual == pytest.approx(over_years(corrupted, ctx), abs=1e-5)


def test_the_average_distribution_does_not_look_at_the_start_year(mini_few: AblationContext) -> None:
    cache = mini_few.cache
    average = behaviour.year_probabilities(cache.year_logits, cache.logsumexp).mean(0)
    by_hand = np.mean([average[year + 1 :].sum() - average[: year + 1].sum() for year in SPREAD])
    assert references(mini_few, "probability_difference").average_distribution == pytest.approx(by_hand)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_measure_is_its_weights(measure: Measure) -> None:
    rng = np.random.default_rng(0)
    values, years = rng.random((5, 100)), np.array([2, 30, 55, 97, 98])
    assert (values * measure_weights(measure, years)).sum(1) == pytest.approx(
        getattr(behaviour, measure)(values, years)
    )


def test_the_top_is_what_is_largest_in_size(random_few: AblationContext) -> None:
    values = np.zeros((4, random_few.cache.d_mlp))
    values[1, 7], values[3, 2] = -3.0, 2.0
    assert top_of(random_few, values, 2) == (NeuronId(9, 7), NeuronId(11, 2))
    assert top_of(random_few, values, "all") == all_neurons(random_few.cache)


def test_scores_and_attribution_patching_stand_beside_the_effect(random_few: AblationContext) -> None:
    patching = np.arange(4 * random_few.cache.d_mlp, dtype=float).reshape(4, -1)
    scores = np.full(patching.shape, np.nan)
    scores[1, 4] = 0.5
    beside: dict[Beside, np.ndarray] = {"patching": patching, "score": scores, "year_specific": scores - 1}
    plain = neuron_effects(random_few, ["L9N4", "L8N1"], beside=beside, keep=False)
    zero = neuron_effects(random_few, ["L9N4", "L8N1"], Intervention("zero"), beside=beside, keep=False)
    assert (plain.predicted[0], zero.predicted[0]) == (-0.5, 0.5)
    found = plain.to_json()
    assert [n["neuron"] for n in found["neurons"]] == ["L9N4", "L8N1"]
    assert [n["patching"] for n in found["neurons"]] == [patching[1, 4], patching[0, 1]]
    assert [n["score"] for n in found["neurons"]] == [0.5, None]
    assert len(found["neurons"][0]["by_start_year"]) == len(SPREAD)


# --- interrupted and gone on -----------------------------------------------------------------------


@pytest.fixture
def own_cache(random_few: AblationContext, tmp_path: Path) -> AblationContext:
    """The same experiment on a copy of the cache file, whose folder is empty otherwise."""
    copy = tmp_path / random_few.cache.path.name
    copy.write_bytes(random_few.cache.path.read_bytes())
    moved = replace(random_few.cache, path=copy)
    return ablation_context(random_few.model, moved, nouns=1)


def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the neurons that are really computed."""
    from neurons.intervention import groups as interventions

    counted: list[int] = []
    real = interventions.after_write

    def counting(*args: object, **named: object) -> torch.Tensor:
        counted.append(len(named["write"]))  # type: ignore[arg-type]
        return real(*args, **named)

    monkeypatch.setattr(interventions, "after_write", counting)
    return counted


def test_an_interrupted_run_goes_on_and_ends_with_the_same_numbers(
    own_cache: AblationContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    neurons = all_neurons(own_cache.cache)[:256]
    whole = neuron_effects(own_cache, neurons, keep=False)
    monkeypatch.setattr("neurons.intervention.exact.CHUNK", 64)

    def interrupt(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    counted = forwards(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        neuron_effects(own_cache, neurons, progress=interrupt)
    first = sum(counted)
    counted.clear()
    again = neuron_effects(own_cache, neurons)
    blocks = len(own_cache.blocks())
    assert np.array_equal(again.by_start_year, whole.by_start_year)
    assert first + sum(counted) <= blocks * len(neurons) + 64
    counted.clear()
    assert np.array_equal(neuron_effects(own_cache, neurons[:100]).effect, whole.effect[:100])
    assert counted == []


def test_a_damaged_or_foreign_part_is_computed_again(own_cache: AblationContext) -> None:
    neurons = all_neurons(own_cache.cache)[:8]
    whole = neuron_effects(own_cache, neurons)
    (folder,) = (path for path in own_cache.cache.path.parent.iterdir() if path.is_dir())
    first, second = sorted(folder.iterdir())[:2]
    first.write_bytes(first.read_bytes()[:-40])
    np.savez(second, digest=np.array("other"), neurons=np.array([[8, 0]]), changes=np.zeros((1, 128)))
    assert np.array_equal(neuron_effects(own_cache, neurons).by_start_year, whole.by_start_year)


def test_settings_that_change_the_numbers_do_not_share_parts(own_cache: AblationContext) -> None:
    for intervention in (Intervention(), Intervention(ablation="zero"), Intervention(effect="direct")):
        neuron_effects(own_cache, ["L8N1"], intervention)
    assert len([path for path in own_cache.cache.path.parent.iterdir() if path.is_dir()]) == 3


def test_nothing_is_left_half_written(own_cache: AblationContext) -> None:
    neuron_effects(own_cache, ["L8N1"])
    assert not list(own_cache.cache.path.parent.rglob("*.tmp"))


# --- wrong input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("neuron", "named"), [("L9N99999", "L9N99999"), ("L2N1", "8-11"), ("nine", "nine"), ("L99N1", "L99N1")]
)
def test_a_neuron_outside_the_cache_is_named(random_few: AblationContext, neuron: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        neuron_effects(random_few, [neuron], keep=False)


@pytest.mark.parametrize("count", [0, 1025])
def test_more_exact_neurons_than_there_are_is_refused(random_few: AblationContext, count: int) -> None:
    with pytest.raises(InputError, match=str(count)):
        top_of(random_few, np.zeros((4, 256)), count)


def test_no_neurons_is_refused(random_few: AblationContext) -> None:
    with pytest.raises(InputError, match="no neuron"):
        group_effect(random_few, [])


def test_a_frozen_scale_has_no_probabilities() -> None:
    with pytest.raises(InputError, match="contrast"):
        Intervention(effect="frozen", measure="probability_difference")


def test_another_model_s_cache_is_refused(mini_model: Model, random_cache: Cache) -> None:
    with pytest.raises(CacheError, match="other weights"):
        ablation_context(mini_model, random_cache)


@pytest.mark.parametrize(("years", "nouns"), [((1, 99), None), ((), None), ((2,), 0), ((2,), 21)])
def test_prompts_that_are_not_there_are_refused(
    random_small: Model, random_cache: Cache, years: tuple[int, ...], nouns: int | None
) -> None:
    with pytest.raises(InputError):
        ablation_context(random_small, random_cache, years=years, nouns=nouns)
