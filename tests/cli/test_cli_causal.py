"""`neurons causal`: its JSON is the library's result, its table names the references, wrong input is one line."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import neurons
from neurons.attribution.approximations import relp
from neurons.cache.format import Cache
from neurons.cli.main import main
from neurons.intervention import exact as causal
from neurons.intervention import groups as interventions
from neurons.intervention.context import AblationContext, ablation_context
from neurons.intervention.exact import floors, group_effect, neuron_effects, references, top_of
from neurons.intervention.groups import MEASURES
from neurons.model.model import Model
from neurons.task.intervention import Intervention

Run = Callable[..., tuple[int, str, str]]
FEW = ("--years", "10-20", "--on-nouns", "1")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, mini_cache: Cache) -> Run:
    """`neurons causal` on the session's cache of mini."""

    def call(*arguments: object) -> tuple[int, str, str]:
        where = () if "--cache-dir" in arguments else ("--cache-dir", mini_cache.path.parent)
        monkeypatch.setattr(sys, "argv", ["neurons", "causal", *map(str, arguments), *map(str, where)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


@pytest.fixture(scope="module")
def few(mini_model: Model, mini_cache: Cache) -> AblationContext:
    return ablation_context(mini_model, mini_cache, years=range(10, 21), nouns=1)


def test_named_neurons_and_their_group_are_the_library_s(run: Run, few: AblationContext) -> None:
    code, out, _ = run("--neurons", "L9N12,L10N7", *FEW, "--json")
    found = json.loads(out)
    expected = neuron_effects(few, ["L9N12", "L10N7"], keep=False)
    assert code == 0
    assert (found["ablation"], found["effect"], found["measure"]) == ("random-year", "total", "contrast")
    assert [n["neuron"] for n in found["neurons"]] == ["L9N12", "L10N7"]
    assert [n["effect"] for n in found["neurons"]] == pytest.approx(expected.effect.tolist(), abs=1e-6)
    assert len(found["neurons"][0]["by_start_year"]) == 11
    assert [n["ci_low"] for n in found["neurons"]] == pytest.approx(expected.ci_low.tolist(), abs=1e-6)
    assert found["group"]["neurons"] == ["L9N12", "L10N7"]
    together = group_effect(few, ["L9N12", "L10N7"]).effect
    assert found["group"]["effect"] == pytest.approx(together["probability_difference"], abs=1e-6)


def test_the_references_are_in_the_json(run: Run, few: AblationContext) -> None:
    _, out, _ = run("--neurons", "L9N12", *FEW, "--measure", "probability_difference", "--json")
    found, known = json.loads(out), references(few, "probability_difference")
    for name in ("baseline", "counterfactual", "average_distribution"):
        assert found[name] == pytest.approx(getattr(known, name))
    assert found["floor"] == pytest.approx(floors(few)["probability_difference"], abs=1e-6)
    assert found["group"] is None


def test_exact_gives_the_neurons_of_largest_share(run: Run, mini_cache: Cache) -> None:
    _, out, _ = run("--exact", "5", *FEW, "--json")
    study = neurons.Study("mini", years=range(10, 21), cache_dir=mini_cache.path.parent)
    shares = study.attribution()
    largest = sorted(shares.neurons, key=lambda neuron: -abs(shares.share_of(neuron)))[:5]
    found = json.loads(out)["neurons"]
    assert [n["neuron"] for n in found] == [str(neuron) for neuron in largest]
    assert all(n[name] is not None for n in found for name in ("patching", "score", "year_specific"))


def test_without_attribution_exact_gives_the_neurons_that_relp_puts_first(run: Run, few: AblationContext) -> None:
    _, out, _ = run("--exact", "5", *FEW, "--no-attribution", "--json")
    values = relp(few, measures=["probability_difference"])["probability_difference"].reshape(4, -1)
    assert [n["neuron"] for n in json.loads(out)["neurons"]] == [str(neuron) for neuron in top_of(few, values, 5)]


def test_the_scores_are_the_ranking_s(run: Run, mini_cache: Cache) -> None:
    _, out, _ = run("--neurons", "L9N12", "--on-nouns", "1", "--json")
    ranking, found = neurons.rank(neurons.logit_effects(mini_cache)), json.loads(out)["neurons"][0]
    for name in ("score", "year_specific"):
        assert found[name] == pytest.approx(getattr(ranking, name)[ranking.row_of("L9N12")], abs=1e-6)


def test_the_ablation_effect_and_measure_asked_for_are_used(run: Run, few: AblationContext) -> None:
    chosen = ("--ablation", "zero", "--effect", "direct", "--measure", "cutoff_sharpness")
    _, out, _ = run("--neurons", "L9N12", *chosen, *FEW, "--json")
    expected = neuron_effects(few, ["L9N12"], Intervention("zero", "direct", "cutoff_sharpness"), keep=False)
    assert json.loads(out)["neurons"][0]["effect"] == pytest.approx(expected.effect[0], abs=1e-7)


def test_curves_and_layers_are_added_when_asked_for(run: Run) -> None:
    _, out, _ = run("--exact", "8", *FEW, "--curves", "--layers-table", "--json")
    found = json.loads(out)
    assert {curve["order"] for curve in found["curves"]["keep"]} == {
        "share", "direct effect", "exact effect", "activation variance", "random",
    }  # fmt: skip
    assert found["curves"]["measure"] == "probability_difference"
    assert found["curves"]["published"]["layer"] == 10
    assert {"component", "layer", "random-year"} == set(found["layers"][0])
    assert set(found["layers"][0]["random-year"]) == set(MEASURES)


def test_curves_and_layers_alone_run_no_exact_effect(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with_exact = json.loads(run("--exact", "8", *FEW, "--curves", "--layers-table", "--json")[1])

    def not_asked_for(*args: object, **named: object) -> None:
        raise AssertionError("exact effects were not asked for")

    monkeypatch.setattr("neurons.intervention.ablations.neuron_effects", not_asked_for)
    _, out, _ = run(*FEW, "--curves", "--layers-table", "--json")
    found = json.loads(out)
    assert set(found) == {"model", "ablation", "measure", "references", "curves", "layers"}
    without = [one for one in with_exact["curves"]["keep"] if one["order"] != "exact effect"]
    assert [one["order"] for one in found["curves"]["keep"]] == [one["order"] for one in without]
    for one, other in zip(found["curves"]["keep"], without, strict=True):
        assert one["values"] == pytest.approx(other["values"], abs=1e-6)
    for part in ("layers", "references"):
        assert found[part] == with_exact[part]
    assert found["curves"]["published"] == with_exact["curves"]["published"]


def test_the_tables_of_curves_and_of_layers_come_alone(run: Run) -> None:
    assert "neuron " not in run(*FEW, "--layers-table")[1].splitlines()[2]
    code, out, _ = run(*FEW, "--layers-table")
    assert (code, out.count("on the clean run")) == (0, 1)
    assert "whole MLPs (m) and heads (a)" in out
    code, out, _ = run(*FEW, "--curves", "--ablation", "mean")
    assert (code, out.count("mean ablation is no floor")) == (0, 2)
    assert "exact effect" not in out


AGAINST = {
    "random-year": r"run, [+-]\d\.\d{4} at the floor \(all neurons at a random other start year\)",
    "resample": r"run, [+-]\d\.\d{4} on the corrupted run",
    "mean": "mean ablation is no floor",
    "zero": "zero ablation is no floor",
}


@pytest.mark.parametrize("more", [(), ("--curves", "--layers-table")])
@pytest.mark.parametrize("ablation", AGAINST)
def test_every_table_names_its_ablation_and_one_baseline(run: Run, ablation: str, more: tuple[str, ...]) -> None:
    chosen = () if ablation == "random-year" else ("--ablation", ablation)
    code, out, _ = run("--neurons", "L9N12,L10N7,L11N1", *FEW, *chosen, *more)
    assert code == 0
    for word in ("total effect", f"{ablation}-ablat", "contrast"):
        assert word in out
    tables = 5 if more else 2
    text = " ".join(out.split())
    assert len(re.findall(AGAINST[ablation], text)) == text.count("on the clean run") == tables
    for other in set(AGAINST) - {ablation}:
        assert not re.search(AGAINST[other], text)


def test_interrupted_and_run_again_it_goes_on(
    run: Run, mini_cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / mini_cache.path.name
    copy.write_bytes(mini_cache.path.read_bytes())
    monkeypatch.setattr(causal, "CHUNK", 64)
    real, calls = interventions.after_write, []

    def interrupted_once(*args: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 60:
            raise KeyboardInterrupt
        return real(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(interventions, "after_write", interrupted_once)
    asked = ("--exact", "all", "--years", "10-40", "--on-nouns", "1", "--json")
    code, out, err = run(*asked, "--cache-dir", tmp_path)
    assert (code, out, len(calls)) == (130, "", 60)
    assert "interrupted" in err
    found = run(*asked, "--cache-dir", tmp_path)[1]
    resumed = len(calls)
    assert run(*asked, "--cache-dir", tmp_path)[1] == found
    assert len(calls) == resumed, "finished work was done again"
    whole = run(*asked)[1]
    assert json.loads(whole)["neurons"] == json.loads(found)["neurons"]
    assert resumed - 60 < len(calls) - resumed - 30, "the second run did the whole work"


WRONG = [
    (["--neurons", "foo"], "foo"),
    (["--neurons", ""], "neuron"),
    (["--neurons", "L9N12,"], "neuron"),
    (["--neurons", "L99N1"], "99"),
    (["--neurons", "L2N1"], "L2N1"),
    (["--neurons", "L9N99999"], "L9N99999"),
    (["--exact", "0"], "0"),
    (["--exact", "many"], "many"),
    (["--exact", "-3"], "-3"),
    (["--exact", "99999"], "99999"),
    (["--ablation", "noise"], "noise"),
    (["--effect", "indirect"], "indirect"),
    (["--measure", "accuracy"], "accuracy"),
    (["--effect", "frozen", "--measure", "probability_difference"], "frozen"),
    (["--effect", "direct", "--curves"], "--curves"),
    (["--effect", "frozen", "--layers-table"], "--layers-table"),
    (["--curves", "--jobs", "2"], "--exact"),
    (["--on-nouns", "0"], "0"),
    (["--on-nouns", "21"], "21"),
    (["--years", "00-10"], "00"),
]


@pytest.mark.parametrize(("arguments", "named"), WRONG, ids=lambda v: " ".join(v) if isinstance(v, list) else None)
def test_wrong_input_is_one_line_that_names_it(run: Run, arguments: list[str], named: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("neurons: ")
    assert err.count("\n") == 1
    assert named in err
