"""The published checks: every verdict both ways, each statistic on made-up or planted truth, the model's part exact."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hooked import hooked_model

from neurons.cache.parts import Parts
from neurons.circuit.evaluation import behaviour_alone
from neurons.circuit.graph import Circuit
from neurons.circuit.paths import patching_of
from neurons.comparison import checks as check
from neurons.comparison import published, sampled
from neurons.comparison.checks import SampleRun, edge_checks, lost_shares, patch_checks, resampling, restored_shares
from neurons.comparison.published import Number, judge_bound, judge_exact, judge_number, judge_order, layer_of, unjudged
from neurons.comparison.replication import is_eap_ig_file
from neurons.comparison.results import Checks, conclusion
from neurons.comparison.sampled import patch_mlps, run_sample
from neurons.model.model import Model
from neurons.model.tokenizer import Gpt2Tokenizer
from neurons.task.own_prompts import read_prompts
from neurons.task.sample import Sample, published_sample
from neurons.types import NeuronId


@pytest.fixture(scope="module")
def sample(mini_tokenizer: Gpt2Tokenizer) -> Sample:
    return published_sample(mini_tokenizer, size=60)


@pytest.fixture(scope="module")
def double(mini_model: Model) -> Model:
    return mini_model.to(torch.float64)


def some(sample: Sample, count: int) -> np.ndarray:
    """Prompts with a 01-counterfactual."""
    rows = np.flatnonzero(sample.has_counterfactual)
    return rows[np.linspace(0, len(rows) - 1, count).astype(int)]


# --- verdicts on made-up measurements ---------------------------------------------------------


def test_the_tolerance_is_three_standard_errors_of_both() -> None:
    """As the issue has it: published SD 0.193 over 10,000 prompts."""
    found = judge_number("p", 0.80, 0.01, published.PROBABILITY_DIFFERENCE)
    assert found.tolerance == pytest.approx(3 * np.sqrt(0.01**2 + 0.193**2 / 10_000), abs=1e-12)
    assert found.difference == pytest.approx(0.80 - 0.817)


@pytest.mark.parametrize(
    ("measured", "error", "verdict"),
    [(0.817, 0.001, "agrees"), (0.811, 0.0, "differs"), (0.8115, 0.0, "agrees"), (0.78, 0.01, "differs"),
     (0.85, 0.02, "agrees"), (0.817, 0.2, "none"), (float("nan"), 0.01, "none"), (0.817, float("nan"), "none")],
)  # fmt: skip
def test_a_number_agrees_within_its_tolerance(measured: float, error: float, verdict: str) -> None:
    assert judge_number("p", measured, error, published.PROBABILITY_DIFFERENCE).verdict == verdict


@pytest.mark.parametrize(
    ("measured", "side", "error", "verdict"),
    [(-0.1, "below", 0.01, "agrees"), (-0.02, "below", 0.01, "differs"), (0.1, "below", 0.01, "differs"),
     (0.1, "above", 0.01, "agrees"), (-0.1, "above", 0.0, "differs")],
)  # fmt: skip
def test_a_bound_agrees_only_when_it_is_passed_for_sure(measured: float, side: Any, error: float, verdict: str) -> None:
    found = judge_bound("b", measured, 0.0, error, side=side, published=-1.0, source="s", claim="negative")
    assert found.verdict == verdict
    assert found.tolerance == pytest.approx(3 * error)


@pytest.mark.parametrize(
    ("known", "difference"), [(-0.556, -0.5863 + 0.556), ("negative", -0.5863 - 0.1)], ids=["number", "words"]
)
def test_the_difference_is_measured_minus_published_and_the_bound_is_named(known: Any, difference: float) -> None:
    """Of words there is no difference: then it is that to the bound, with its sign."""
    found = judge_bound("b", -0.5863, 0.1, 0.01, side="below", published=known, source="s", claim="negative")
    assert found.difference == pytest.approx(difference)
    assert (found.bound, found.to_json()["bound"]) == ("below 0.1", "below 0.1")
    assert judge_number("p", 0.8, 0.01, published.CIRCUIT).bound is None


def test_a_fact_is_equal_or_not() -> None:
    assert judge_exact("n", 768, 768, "computed").verdict == "agrees"
    found = judge_exact("n", 851, 768, "computed")
    assert (found.verdict, found.difference, found.tolerance) == ("differs", 83.0, 0.0)
    assert judge_exact("n", (74, 53), (74, 54), "computed").difference is None


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [
        ([0.5, 0.4, 0.2, 0.1, 0.02], "agrees"),
        ([0.4, 0.5, 0.2, 0.1, 0.02], "differs"),  # the first two stand the other way
        ([0.5, 0.51, 0.2, 0.1, 0.02], "agrees"),  # within the tolerance of 0.06
        ([0.5, 0.4, 0.2, 0.1, 0.3], "differs"),  # another is larger than the last of them
        ([0.5, 0.4, 0.2, 0.02, 0.01], "differs"),  # the last is not surely above zero
        ([0.5, 0.4, 0.2, float("nan"), 0.01], "none"),
    ],
)
def test_an_order_holds_unless_one_surely_exceeds_the_one_before(shares: Sequence[float], verdict: str) -> None:
    names = ["MLP 10", "MLP 9", "MLP 8", "MLP 11", "MLP 2"]
    noise = np.random.default_rng(0).normal(size=(5, 400)) * 0.02 / np.sqrt(2)
    resampled = {name: share + one for name, share, one in zip(names, shares, noise, strict=True)}
    found = judge_order("o", dict(zip(names, shares, strict=True)), resampled, names[:4], "replication")
    assert found.verdict == verdict
    assert found.published == tuple(names[:4])
    if verdict == "agrees":
        assert found.tolerance == pytest.approx(0.06, rel=0.2)


def test_without_judgement_the_measurement_stays() -> None:
    one = judge_exact("n", 851, 768, "computed")
    assert unjudged(one) == replace(one, verdict="none")
    all_of = Checks("mini", False, 1, 1, 0, (unjudged(one),), (), ())
    assert "nothing is judged" in conclusion(all_of)
    alike = judge_exact("n", 1, 1, "code")
    for lines, message in (((one,), "different from"), ((one, alike), "different from"), ((alike,), "is as published"),
                        ((one, alike, alike), "for the most part as published")):  # fmt: skip
        assert message in conclusion(replace(all_of, judged=True, checks=lines))


# --- standard errors --------------------------------------------------------------------------


def test_what_varies_with_nouns_alone_has_the_error_of_a_mean_over_nouns() -> None:
    """50 nouns x 40 years; within 15 %, which 400 resamples allow."""
    rng = np.random.default_rng(0)
    noun, year = (axis.reshape(-1) for axis in np.indices((50, 40)))
    values = rng.normal(size=50)
    by_noun, by_year = values[noun], rng.normal(size=40)[year]
    weights = resampling(noun, year, seed=0)
    assert weights.error(by_noun) == pytest.approx(values.std() / np.sqrt(50), rel=0.15)
    assert weights.error(by_noun + by_year) > 1.15 * weights.error(by_noun)
    assert weights.error(np.ones(2000)) == pytest.approx(0, abs=1e-12)


# --- the model's part -------------------------------------------------------------------------


def test_the_sample_s_behaviour_equals_hugging_face_s(double: Model, sample: Sample) -> None:
    """float64, softmax over the full vocabulary; 1e-9."""
    hf, ids = hooked_model(double, torch.float64), sample.year_token_ids.tolist()
    found = run_sample(double, sample)

    def difference(tokens: np.ndarray, row: int) -> float:
        p = hf.logits(tokens[None])[0].softmax(-1)[ids].numpy()
        start = sample.start_year[row]
        return float(p[start + 1 :].sum() - p[: start + 1].sum())

    for row in some(sample, 3).tolist():
        assert found.probability_difference[row] == pytest.approx(difference(sample.tokens[row], row), abs=1e-9)
        p = hf.logits(sample.tokens[row][None])[0].softmax(-1)[ids].numpy()
        start = sample.start_year[row]
        assert found.cutoff_sharpness[row] == pytest.approx(p[start + 1] - p[start - 1], abs=1e-9)
        other = sample.counterfactual_tokens[sample.counterfactual[row]]
        assert found.run_01[row] == pytest.approx(difference(other, row), abs=1e-9)


@pytest.mark.parametrize("into", ["clean", "corrupted"])
def test_a_patched_mlp_equals_a_plain_hook_at_end(double: Model, sample: Sample, into: Any) -> None:
    hf, rows, ids = hooked_model(double, torch.float64), some(sample, 2), sample.year_token_ids.tolist()
    found = patch_mlps(double, sample, rows, into=into)
    for place, row in enumerate(rows.tolist()):
        own, other = sample.tokens[row][None], sample.counterfactual_tokens[sample.counterfactual[row]][None]
        if into == "corrupted":
            own, other = other, own
        for layer in (0, 9, 11):
            mlp = hf.hf.transformer.h[layer].mlp
            seen: list[torch.Tensor] = []
            handle = mlp.register_forward_hook(lambda _, __, out, seen=seen: seen.append(out[:, -1].clone()))
            hf.logits(other)
            handle.remove()

            def replaced(_: Any, __: Any, out: torch.Tensor, seen: list[torch.Tensor] = seen) -> torch.Tensor:
                return torch.cat([out[:, :-1], seen[0][:, None]], 1)

            handle = mlp.register_forward_hook(replaced)
            p = hf.logits(own)[0].softmax(-1)[ids].numpy()
            handle.remove()
            start = sample.start_year[row]
            expected = p[start + 1 :].sum() - p[: start + 1].sum()
            assert found[layer, place] == pytest.approx(expected, abs=1e-9)


def test_a_circuit_of_everything_is_the_model_and_one_of_nothing_the_01_run(double: Model, sample: Sample) -> None:
    rows, run = some(sample, 5), run_sample(double, sample)
    here = patching_of(
        double,
        sample.tokens[rows],
        sample.counterfactual_tokens[sample.counterfactual[rows]],
        first=sample.year_position,
        start_year=sample.start_year[rows],
        year_ids=sample.year_token_ids,
    )
    everything = tuple(node for at in here.layout.positions for node in here.layout.components(at))
    for nodes, expected in ((everything, run.probability_difference), ((), run.run_01)):
        found = behaviour_alone(here, Circuit("these", nodes))
        assert found.probability_difference == pytest.approx(expected[rows], abs=1e-9)


def test_prompts_without_a_counterfactual_have_no_01_run(mini_model: Model, sample: Sample) -> None:
    """As century 10 with GPT-2's tokenizer."""
    without = replace(sample, counterfactual=np.where(sample.century == 10, -1, sample.counterfactual))
    assert (np.isnan(run_sample(mini_model, without).run_01) == (sample.century == 10)).all()


def test_finished_blocks_are_not_computed_again(
    mini_model: Model, sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, rows = Parts(tmp_path / "parts", "digest"), some(sample, 20)
    whole, patched = run_sample(mini_model, sample, parts=parts), patch_mlps(mini_model, sample, rows, parts=parts)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(sampled, "run", never)
    monkeypatch.setattr(sampled, "trace", never)
    again = run_sample(mini_model, sample, parts=parts)
    assert (again.probability_difference == whole.probability_difference).all()
    assert (patch_mlps(mini_model, sample, rows, parts=parts) == patched).all()
    with pytest.raises(AssertionError, match="again"):
        patch_mlps(mini_model, sample, some(sample, 30), parts=parts)


# --- from measurements to lines ---------------------------------------------------------------


def made_up(sample: Sample, difference: float, sharpness: float, run_01: float) -> SampleRun:
    noise = np.random.default_rng(0).normal(size=len(sample)) * 0.01
    return SampleRun(difference + noise, sharpness + noise, run_01 + noise)


@pytest.mark.parametrize(
    ("values", "verdicts"),
    [
        ((0.817, 0.060, -0.556), ["agrees", "agrees", "agrees"]),
        ((0.002, 0.000, 0.001), ["differs", "differs", "differs"]),
        ((0.817, 0.000, -0.001), ["agrees", "differs", "differs"]),
    ],
)
def test_behaviour_is_judged_both_ways(sample: Sample, values: tuple[float, ...], verdicts: list[str]) -> None:
    found = check.behaviour_checks(sample, made_up(sample, *values), seed=0)
    assert [one.verdict for one in found] == verdicts


@pytest.mark.parametrize(
    ("alone", "verdicts"), [((0.727, 0.895), ["agrees", "agrees"]), ((0.3, 0.37), ["differs", "differs"])]
)
def test_the_circuit_is_judged_both_ways(sample: Sample, alone: tuple[float, float], verdicts: list[str]) -> None:
    rows, noise = np.arange(60), np.random.default_rng(1).normal(size=60) * 0.01
    run = made_up(sample, alone[0] / alone[1], 0, 0)
    found = check.circuit_checks(sample, rows, alone[0] + noise, run, seed=0)
    assert [one.verdict for one in found] == verdicts
    assert found[1].measured == pytest.approx(alone[1], abs=0.01)


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [({10: 0.535, 9: 0.486, 8: 0.186, 11: 0.131}, "agrees"), ({8: 0.5, 9: 0.4, 10: 0.3, 11: 0.1}, "differs")],
)
def test_the_shares_are_those_taken_away_and_their_order_is_judged(
    sample: Sample, shares: dict[int, float], verdict: str
) -> None:
    rows, run = np.arange(60), made_up(sample, 0.8, 0, -0.5)
    whole = run.probability_difference - run.run_01
    patched = np.tile(run.probability_difference, (12, 1))
    for layer, share in shares.items():
        patched[layer] -= share * whole
    lost = lost_shares(sample, rows, run, patched, seed=0)
    assert lost.shares == pytest.approx([shares.get(layer, 0.0) for layer in range(12)], abs=1e-12)
    turned = run.run_01 + (run.probability_difference - patched)
    restored = restored_shares(sample, rows, run, turned, seed=0)
    assert restored.shares == pytest.approx(lost.shares, abs=1e-12)
    found = patch_checks(lost, restored)
    for (order, *rest), known, source in (
        (found[:5], published.MLP_LOST, "replication"),
        (found[5:], published.MLP_RESTORED, published.RESTORED_SOURCE),
    ):
        assert (order.verdict, order.source) == (verdict, source)
        assert {one.verdict for one in rest} == {"none"}
        assert [one.published for one in rest] == list(known.values())
        assert rest[0].measured == pytest.approx(shares[10])


@pytest.mark.parametrize(("full", "verdict"), [(0.883, "agrees"), (0.6, "differs")])
def test_points_of_the_curve_are_judged_both_ways(full: float, verdict: str) -> None:
    start_year = np.arange(1, 99)
    noise = np.random.default_rng(0).normal(size=98) * 0.02
    *points, last = check.curve_checks(10, {0: 0.63 + noise, 15: 0.8 + noise, 256: full + noise}, start_year, seed=0)
    assert [one.published for one in (*points, last)] == [0.63, 0.80, 0.883]
    assert {one.verdict for one in points} == {"agrees"}
    assert last.verdict == verdict
    assert last.tolerance == pytest.approx(3 * np.hypot(0.01, noise.std() / np.sqrt(98)), rel=0.15)
    assert points[0].tolerance == pytest.approx(last.tolerance)
    assert points[1].tolerance == pytest.approx(np.hypot(last.tolerance, 3 * 0.008))
    assert "0.008 the order of near-ties" in points[1].claim
    assert "near-ties" not in points[0].claim + last.claim


@pytest.mark.parametrize(("measured", "verdict"), [(0.8141, "agrees"), (0.80, "differs")])
def test_eap_ig_s_difference_is_judged_on_its_own_file_alone(sample: Sample, measured: float, verdict: str) -> None:
    rows, alone = np.arange(60), {5: np.full(60, 0.7), 1: np.full(60, 0.6)}
    on_file, *circuits = edge_checks(sample, rows, alone, np.full(60, 0.9), np.full(1000, measured), seed=0)
    assert (on_file.verdict, on_file.measured) == (verdict, pytest.approx(measured))
    assert {one.verdict for one in circuits} == {"none"}
    assert [one.published for one in circuits] == [0.7449, 0.6563]
    assert [one.measured for one in circuits] == pytest.approx([0.7, 0.6])
    first, *_ = edge_checks(sample, rows, alone, np.full(60, 0.8143), None, seed=0)
    assert (first.verdict, first.measured) == ("none", pytest.approx(0.8143))
    assert "greater_than_data.csv of github.com/hannamw/EAP-IG" in first.claim


def test_eap_ig_s_file_is_known_by_its_rows(
    mini_tokenizer: Gpt2Tokenizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "file.csv"
    path.write_text("clean,corrupted,label\nThe war lasted from 1732 to 17,The war lasted from 1701 to 17,32\n")
    own = read_prompts(path).align(mini_tokenizer)
    assert not is_eap_ig_file(own)
    assert not is_eap_ig_file(None)
    row = b"The war lasted from 1732 to 17\tThe war lasted from 1701 to 17\t32\n"
    monkeypatch.setattr(published, "EAP_IG_DIGEST", hashlib.sha256(row).hexdigest())
    assert is_eap_ig_file(own)


def test_entropy_neurons_are_counted_in_their_layer() -> None:
    known = [NeuronId(11, index) for index in published.ENTROPY_NEURONS]
    assert check.entropy_check(11, [*known, NeuronId(11, 5)]).verdict == "agrees"
    found = check.entropy_check(11, [*known[1:], NeuronId(10, 584)])
    assert (found.verdict, found.measured, found.difference) == ("differs", 5, -1.0)


@pytest.mark.parametrize(
    ("n_layers", "expected"), [(12, (8, 9, 10, 11)), (24, (20, 21, 22, 23)), (6, (4, 4, 4, 5)), (2, (1, 1, 1, 1))]
)
def test_layers_are_counted_from_the_last_within_the_last_third(n_layers: int, expected: tuple[int, ...]) -> None:
    assert tuple(layer_of(layer, n_layers) for layer in (8, 9, 10, 11)) == expected


def test_numbers_carry_their_source() -> None:
    numbers = [value for value in vars(published).values() if isinstance(value, Number)]
    assert len(numbers) == 6
    assert all(one.source for one in numbers)
