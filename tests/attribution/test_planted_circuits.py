"""The planted circuits do what they are planted for, by the oracle alone: nothing of the package is measured."""

import sys
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from circuit_cases import (
    CIRCUITS,
    DECOYS,
    EACH_SEED,
    LATE,
    MEASURES,
    OWN_MEASURE,
    CircuitCase,
    circuit_case,
    table,
)
from hooked import HookedModel
from planted import MEASURED, contrasts
from shapley_oracle import enumerate_shapley, every_set, shapley_of_values, values_of_sets

from neurons.types import NeuronId

Case = Callable[[str, int], CircuitCase]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return cache(lambda circuit, seed: circuit_case(tmp_path_factory.mktemp(circuit), circuit, seed))


def in_window(case: CircuitCase, neuron: NeuronId) -> np.ndarray:
    """[P]: the neuron is on in the prompt and off in the one that a' comes from."""
    on = case.run.post[neuron.layer][:, neuron.index].numpy() > 1
    return on & ~on[case.other]


# --- the oracle ------------------------------------------------------------------------------------


def test_shapley_values_of_games_known_by_hand() -> None:
    sets = every_set(3)
    either = (sets[:, 0] | sets[:, 1]).astype(float)
    both_then = (sets[:, 0] & sets[:, 1] & sets[:, 2]).astype(float)
    glove = (sets[:, 0] & (sets[:, 1] | sets[:, 2])).astype(float)
    found = shapley_of_values(np.stack([either, both_then, glove], axis=1))
    np.testing.assert_allclose(found, [[1 / 2, 1 / 2, 0], [1 / 3] * 3, [2 / 3, 1 / 6, 1 / 6]], atol=1e-15)


@pytest.mark.parametrize("circuit", CIRCUITS)
def test_end_run_alone_gives_what_the_whole_prompt_gives_with_neurons_held(case: Case, circuit: str) -> None:
    """Logits reach 20, of a residual of 8,192: float64 leaves 1e-9."""
    one = case(circuit, 0)
    rng = np.random.default_rng(0)
    kept = rng.random((3, len(one.players))) < 0.5
    hooked = HookedModel(one.run.hf)
    for sets in kept:
        masks = {layer: torch.ones(1, 16).double() for layer in LATE}
        for n, keep in zip(one.players, sets, strict=True):
            masks[n.layer][0, n.index] = float(keep)
        off = [n for n, keep in zip(one.players, sets, strict=True) if not keep]
        held = [{n: float(one.run.other[n.layer][row, n.index]) for n in off} for row in range(len(one.prompts))]
        with torch.no_grad():
            found = one.run.logits(masks)[:, 0]
        torch.testing.assert_close(found, hooked.with_values(one.prompts.tokens, held), rtol=0, atol=1e-9)


def test_enumeration_from_a_folder_is_the_cases(case: Case) -> None:
    one = case("responding", 0)
    some = one.players[:4]
    found = enumerate_shapley(one.planted.folder, one.prompts, one.other.tolist(), some, "contrast")
    values = values_of_sets(one.run, some, every_set(4), ["contrast"])["contrast"]
    np.testing.assert_array_equal(found, shapley_of_values(values))
    np.testing.assert_allclose(found.sum(1), values[-1] - values[0], atol=1e-12)


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("circuit", CIRCUITS)
def test_shares_sum_to_clean_minus_floor(case: Case, circuit: str, held: bool) -> None:
    """With 64 nodes; a gate opens within 0.04 of the path, which leaves a quarter of a percent."""
    one = case(circuit, 0)
    clean, floor = one.clean_and_floor(OWN_MEASURE[circuit])
    assert sum(one.shares(OWN_MEASURE[circuit], held=held).values()) == pytest.approx(clean - floor, rel=5e-3)


# --- what every circuit has ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", EACH_SEED)
@pytest.mark.parametrize("circuit", CIRCUITS)
def test_only_the_ten_planted_neurons_do_anything(case: Case, circuit: str, seed: int) -> None:
    """Decoys move the final LayerNorm's scale by 1e-8, of logits near 10; neurons that were not planted, nothing."""
    one = case(circuit, seed)
    assert len(one.players) == 10
    for measure in MEASURES:
        shares = one.shares(measure)
        assert max(abs(shares[n]) for n in one.decoys) < 1e-6
        assert {x for n, x in shares.items() if n not in (*one.players, *one.decoys)} == {0.0}


@pytest.mark.parametrize("seed", EACH_SEED)
@pytest.mark.parametrize("circuit", CIRCUITS)
def test_decoys_have_shapley_value_zero_whatever_is_kept(case: Case, circuit: str, seed: int) -> None:
    one = case(circuit, seed)
    players = (*one.players[::2], *one.decoys[::2])
    values = values_of_sets(one.run, players, every_set(len(players)), MEASURES)
    for measure in MEASURES:
        found = shapley_of_values(values[measure])
        assert np.abs(found[:, 5:]).max() < 1e-6
        assert np.abs(found[:, :5]).max() > 1e-2


@pytest.mark.parametrize("seed", EACH_SEED)
@pytest.mark.parametrize("circuit", CIRCUITS)
def test_orthogonal_decoys_are_tuned_and_write_much(case: Case, circuit: str, seed: int) -> None:
    one = case(circuit, seed)
    for n in one.planted.roles["orthogonal"]:
        on = one.run.post[n.layer][:, n.index]
        assert float(on.max() - on.min()) > 5
        write = one.run.hf.transformer.h[n.layer].mlp.c_proj.weight[n.index]
        assert float(write.detach().norm()) == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize("seed", EACH_SEED)
def test_where_it_is_linear_both_shares_and_single_effects_are_the_shapley_values(case: Case, seed: int) -> None:
    one = case("linear", seed)
    shapley, clean = one.shapley("contrast"), one.clean_and_floor("contrast")[0]
    for held in (False, True):
        shares = one.shares("contrast", held=held)
        assert max(abs(shares[n] - shapley[n]) for n in one.players) < 1e-6
    alone = {n: clean - one.without(n, measure="contrast").mean() for n in one.players}
    assert max(abs(alone[n] - shapley[n]) for n in one.players) < 1e-6


@pytest.mark.parametrize("seed", EACH_SEED)
@pytest.mark.parametrize("circuit", CIRCUITS)
def test_the_table_of_each_circuit(case: Case, circuit: str, seed: int) -> None:
    """Printed (pytest -rP); by either value the planted neurons come first."""
    one, measure = case(circuit, seed), OWN_MEASURE[circuit]
    sys.stdout.write(f"\n{circuit}, seed {seed}: " + table(one, measure))
    strong = [n for n in one.players if one.role(n) != "smooth"]
    shares, shapley = one.shares(measure), one.shapley(measure)
    first = sorted(shares, key=lambda n: -shares[n])[: len(strong)]
    assert set(first) == set(strong)
    assert set(sorted(shapley, key=lambda n: -shapley[n])[: len(strong)]) == set(strong)


# --- neurons that act through each other -----------------------------------------------------------


@pytest.mark.parametrize("seed", EACH_SEED)
@pytest.mark.parametrize(("circuit", "role"), [("linear", "twin"), ("responding", "twin"), ("responding", "pair")])
def test_equal_neurons_have_equal_values(case: Case, circuit: str, role: str, seed: int) -> None:
    one = case(circuit, seed)
    a, b = one.planted.roles[role]
    assert a.layer == b.layer
    for measure in MEASURES:
        shapley, shares = one.shapley(measure), one.shares(measure)
        assert shapley[a] == pytest.approx(shapley[b], abs=1e-12)
        assert shares[a] == pytest.approx(shares[b], abs=1e-12)


@pytest.mark.parametrize("seed", EACH_SEED)
def test_one_of_the_pair_is_enough(case: Case, seed: int) -> None:
    """Weights are stored in float32: what is written in one direction leaks into others by 1e-7."""
    one, measure = case("responding", seed), "probability_difference"
    a, b = one.planted.roles["pair"]
    clean = one.values[measure][-1]
    for n in (a, b):
        assert np.abs(one.without(n, measure=measure) - clean).max() < 1e-6
    gone = one.without(a, b, measure=measure)
    assert (clean - gone)[in_window(one, a)].mean() > 0.2
    assert one.shapley(measure)[a] > 0.01


@pytest.mark.parametrize("seed", EACH_SEED)
def test_the_relay_writes_nothing_and_has_a_share(case: Case, seed: int) -> None:
    one, measure = case("responding", seed), "probability_difference"
    (relay,), (relayed,) = one.planted.roles["relay"], one.planted.roles["relayed"]
    assert abs(one.shares(measure, held=True)[relay]) < 1e-8
    assert one.shares(measure)[relay] > 0.05
    shapley = one.shapley(measure)
    assert shapley[relay] == pytest.approx(shapley[relayed], abs=1e-5), "neither does anything without the other"


@pytest.mark.parametrize("seed", EACH_SEED)
def test_the_backup_acts_when_main_is_ablated_and_writes_the_same(case: Case, seed: int) -> None:
    """Rounding of weights that read beside the large constant moves pre-activations by 1e-4, answers by 1e-3."""
    one, measure = case("responding", seed), "probability_difference"
    (main,), (backup,) = one.planted.roles["main"], one.planted.roles["backup"]
    clean, seen = one.values[measure][-1], in_window(one, main)
    assert float(one.run.post[backup.layer][:, backup.index].abs().max()) == 0
    assert np.abs(one.without(backup, measure=measure) - clean).max() < 1e-11
    assert np.abs(one.without(main, measure=measure) - clean)[seen].max() < 5e-3
    assert (clean - one.without(main, backup, measure=measure))[seen].mean() > 0.1


@pytest.mark.parametrize("seed", EACH_SEED)
def test_all_but_the_backup_are_faithful_and_incomplete(case: Case, seed: int) -> None:
    one, measure = case("responding", seed), "probability_difference"
    (main,), (backup,) = one.planted.roles["main"], one.planted.roles["backup"]
    clean = one.values[measure][-1].mean()
    assert one.without(backup, measure=measure).mean() == pytest.approx(clean, abs=1e-11)
    gap = abs(one.without(backup, main, measure=measure).mean() - one.without(main, measure=measure).mean())
    assert gap > 0.02


# --- decoys that write smooth profiles -------------------------------------------------------------


def direct_p_value(case: CircuitCase, neuron: NeuronId) -> float:
    """Of 4,999 random directions of the same norm, how many write a larger year-specific contrast."""
    hf, years = case.run.hf, case.prompts.start_year
    act = case.run.post[neuron.layer][:, neuron.index].numpy()
    read = hf.lm_head.weight[case.run.years].detach().numpy() * hf.transformer.ln_f.weight.detach().numpy()
    read -= read.mean(1, keepdims=True)
    score = (act - act.mean()) @ contrasts()[np.searchsorted(MEASURED, years)] @ read
    write = hf.transformer.h[neuron.layer].mlp.c_proj.weight[neuron.index].detach().numpy()
    null = np.random.default_rng(0).normal(size=(4999, len(write)))
    null *= np.linalg.norm(write) / np.linalg.norm(null, axis=1, keepdims=True)
    return float((1 + (null @ score >= write @ score).sum()) / 5000)


@pytest.mark.parametrize("seed", EACH_SEED)
def test_smooth_decoys_fool_a_test_of_the_direct_effect_and_do_next_to_nothing(case: Case, seed: int) -> None:
    one, measure = case("crowded", seed), "probability_difference"
    clean, floor = one.clean_and_floor(measure)
    shapley, smooth = one.shapley(measure), one.planted.roles["smooth"]
    assert sum(direct_p_value(one, n) < 0.05 for n in smooth) >= 3, [direct_p_value(one, n) for n in smooth]
    assert max(abs(shapley[n]) for n in smooth) < 0.01 * (clean - floor)


def test_the_decoys_roles_are_in_every_circuit(case: Case) -> None:
    assert all(set(DECOYS) <= set(case(circuit, 0).planted.roles) for circuit in CIRCUITS)
