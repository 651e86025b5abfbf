"""Every method of `Study`, once on `mini`: it gives what its command prints, as JSON, a table and labelled arrays."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neurons.cli.main import main
from neurons.ranking.results import SHAPLEY, OrderComparison
from neurons.shown import WIDTH, Shown
from neurons.study.opened import Opened
from neurons.study.study import Study
from neurons.types import OF_LOGITS, Measure, NeuronId

YEARS = tuple(range(5, 96, 10))
NEURONS = ["L9N43", "L10N18"]
PROMPTS, RANDOM, SAMPLE = 20, 2, 60
NOUNS = ("--nouns", "2")
OPTIONS = (*NOUNS, "--years", ",".join(map(str, YEARS)))

METHODS: dict[str, Callable[[Study], Any]] = {
    "behaviour": lambda study: study.behaviour(resample=True),
    "effects": lambda study: study.effects(),
    "effect": lambda study: study.effect("L9N43", 45),
    "attributed": lambda study: study.attributed(),
    "attribution": lambda study: study.attribution(),
    "sufficient_set": lambda study: study.sufficient_set(0.5),
    "shapley": lambda study: study.shapley(NEURONS, samples=3),
    "approximations": lambda study: study.approximations(),
    "ranking": lambda study: study.ranking(),
    "sets": lambda study: study.sets(),
    "sets_elsewhere": lambda study: study.sets_elsewhere(),
    "interchange": lambda study: study.interchange(),
    "masks": lambda study: study.masks(seeds=1, steps=5),
    "positions": lambda study: study.positions(),
    "pairing": lambda study: study.pairing(),
    "neuron_statistics": lambda study: study.neuron_statistics(),
    "texts": lambda study: study.texts([study.check_neuron(NEURONS[0])]),
    "neighbours": lambda study: study.neighbours([study.check_neuron(NEURONS[0])]),
    "ablate": lambda study: study.ablate(NEURONS),
    "ablations": lambda study: study.ablations(exact=20),
    "curves": lambda study: study.curves(),
    "published_curve": lambda study: study.published_curve(),
    "top_k_curves": lambda study: study.top_k_curves()[0],
    "references": lambda study: study.references(),
    "with_curves": lambda study: study.with_curves(study.ablations()),
    "components": lambda study: study.components(),
    "population": lambda study: study.population(),
    "tuning": lambda study: study.tuning(),
    "clusters": lambda study: study.clusters(),
    "composition": lambda study: study.composition(),
    "faithfulness": lambda study: study.faithfulness(),
    "faithfulness_of_each": lambda study: study.faithfulness_of_each(NEURONS),
    "tiling": lambda study: study.tiling(),
    "circuit": lambda study: study.circuit(prompts=PROMPTS, random=RANDOM),
    "inputs": lambda study: study.inputs(NEURONS[0], prompts=PROMPTS),
    "checks": lambda study: study.checks(SAMPLE),
    "tasks": lambda study: study.tasks(["price-range"], top=3),
    "compare": lambda study: study.compare(beside(study)),
    "neuron": lambda study: study.neuron(NEURONS[0]),
    "routes": lambda study: study.routes(),
    "specificity": lambda study: study.specificity(text_of(study), NEURONS),
    "report": lambda study: study.report(folder_of(study), neurons=NEURONS[:1]),
}  # fmt: skip
COMMANDS: dict[str, tuple[tuple[str, ...], Callable[[Any], Any]]] = {
    "behaviour": (("behaviour", "--resample"), lambda found: found),
    "ranking": (("rank",), lambda found: {name: value for name, value in found.items() if name != "positions"}),
    "positions": (("rank",), lambda found: found["positions"]),
    "sets": (("rank", "--sets"), lambda found: found["sets"]),
    "interchange": (("rank", "--sets"), lambda found: found["interchange"]),
    "ablate": (("causal", "--neurons", ",".join(NEURONS)), lambda found: found),
    "ablations": (("causal", "--exact", "20"), lambda found: found),
    "curves": (("causal", "--curves"), lambda found: {k: v for k, v in found["curves"].items() if k != "published"}),
    "published_curve": (("causal", "--curves"), lambda found: found["curves"]["published"]),
    "with_curves": (("causal", "--curves", "--exact", "512"), lambda found: found),
    "components": (("causal", "--layers-table"), lambda found: found["layers"]),
    "tuning": (("compose",), lambda found: found["tuning"]),
    "clusters": (("cluster",), lambda found: found),
    "composition": (
        ("compose",),
        lambda found: {k: v for k, v in found.items() if k not in {"faithfulness", "tiling", "exchanged"}},
    ),
    "faithfulness": (("compose",), lambda found: found["faithfulness"]),
    "tiling": (("compose",), lambda found: found["tiling"]),
    "circuit": (("circuit", "--on-prompts", str(PROMPTS), "--random", str(RANDOM)), lambda found: found),
    "inputs": (
        ("circuit", "--neuron", NEURONS[0], "--on-prompts", str(PROMPTS)),
        lambda found: {name: value for name, value in found.items() if name != "model"},
    ),
    "checks": (("check", "--sample", str(SAMPLE)), lambda found: found),
    "tasks": (("tasks", "--only", "price-range", "--top", "3"), lambda found: found),
}
"""The command of a method, and which part of what it prints is the method's."""
TABLES = (
    "attribution", "shapley", "approximations", "sets", "interchange", "masks",
    "behaviour", "ranking", "neuron_statistics", "texts", "ablate", "ablations", "curves", "published_curve", "tuning",
    "components", "clusters", "composition", "faithfulness", "faithfulness_of_each", "tiling", "circuit", "inputs",
    "checks", "tasks", "compare",
)  # fmt: skip
LABELLED = {
    "attribution": ("start_year", "neuron"),
    "ablate": ("neuron", "start_year"),
    "published_curve": ("k",),
    "population": ("start_year", "neuron", "year"),
    "tuning": ("start_year", "neuron", "year"),
    "clusters": ("cluster", "start_year", "year"),
    "composition": ("part", "start_year", "year"),
    "inputs": ("component", "start_year"),
    "compare": ("model", "start_year", "year"),
}


def folder_of(study: Study) -> Path:
    return study.plan.settings.cache_dir / "reports"


def text_of(study: Study) -> Path:
    text = study.plan.settings.cache_dir / "text.txt"
    text.write_text("the war lasted from the year 1732 to the year 1740. " * 200, encoding="utf-8")
    return text


def beside(study: Study) -> Study:
    """The same model, of fewer layers."""
    settings = study.plan.settings
    return Study("mini", nouns=settings.nouns, years=study.plan.years, layers=(10, 11), cache_dir=settings.cache_dir)


class Results(dict[str, Any]):
    """Each method's result, made when it is first looked at."""

    def __init__(self, study: Study) -> None:
        self.study = study

    def __missing__(self, name: str) -> Any:
        self[name] = METHODS[name](self.study)
        return self[name]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Results(Study("mini", nouns=2, years=YEARS, cache_dir=tmp_path_factory.mktemp("study")))


@pytest.fixture(scope="module")
def of_one_noun(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """No interval is known, and few curves can be fitted."""
    return Results(Study("mini", nouns=1, years=YEARS[:3], cache_dir=tmp_path_factory.mktemp("one-noun")))


@pytest.fixture
def printed(
    results: Results, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """What a command prints as JSON, on the study's own folder."""

    def run(*arguments: str, options: Sequence[str] = OPTIONS) -> Any:
        folder = str(results.study.plan.settings.cache_dir)
        monkeypatch.setattr(sys, "argv", ["neurons", *arguments, *options, "--cache-dir", folder, "--json"])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        assert not stop.value.code, err
        return json.loads(out)

    return run


def as_json(result: Any) -> Any:
    return json.loads(json.dumps(result.to_json(), allow_nan=False))


def test_no_method_of_a_study_is_left_out() -> None:
    analyses = Study.__mro__[: Study.__mro__.index(Opened)]
    methods = {name for one in analyses for name, thing in vars(one).items() if name[0] != "_" and callable(thing)}
    assert set(METHODS) == methods


@pytest.mark.parametrize("name", COMMANDS)
def test_a_method_gives_what_its_command_prints(name: str, results: Results, printed: Callable[..., Any]) -> None:
    arguments, part = COMMANDS[name]
    assert as_json(results[name]) == part(printed(*arguments))


def test_models_side_by_side_are_what_the_command_prints(
    results: Results, printed: Callable[..., Any], tmp_path: Path
) -> None:
    alike = results.study.compare(results.study)
    found = printed("compare", "mini", "mini", "--report-dir", str(tmp_path))
    assert as_json(alike) == found
    assert found["with_first"][0]["map_cosine"] == pytest.approx(1)


def test_one_effect_is_what_the_command_prints(results: Results, printed: Callable[..., Any]) -> None:
    found = printed("effect", "L9N43", "--year", "45", options=NOUNS)
    assert found["logits"] == results["effect"].tolist()
    labelled = results["effects"].of("L9N43", start_year=45)
    assert labelled.dims == ("year",)
    assert labelled.values.tolist() == found["logits"]


@pytest.mark.parametrize("measure", OF_LOGITS)
def test_shares_of_logits_are_computed_when_asked(results: Results, measure: Measure) -> None:
    assert measure not in {one.measure for one in results["attributed"].shares}
    found = results.study.attribution(measure)
    moved = float((found.clean - found.floor).mean())
    assert found.measure == measure
    assert float(found.share.sum()) == pytest.approx(moved, abs=0.005 * moved)


def test_statistics_are_those_beside_the_ranking(results: Results, printed: Callable[..., Any]) -> None:
    beside = {one["neuron"]: one["statistics"] for one in printed("rank", "--stats")["neurons"]}
    found = as_json(results["neuron_statistics"])["neurons"]
    assert {one.pop("neuron"): one for one in found} == beside


def test_the_population_adds_up_to_the_rankings_scores(results: Results) -> None:
    everyone, ranking = results["population"], results["ranking"]
    scores = dict(zip(everyone.neurons, everyone.score.tolist(), strict=True))
    for neuron, score in zip(ranking.neurons, ranking.score.tolist(), strict=True):
        assert score == pytest.approx(scores[neuron], rel=1e-4, abs=1e-6)


def test_a_neurons_numbers_are_those_of_its_page(results: Results) -> None:
    report = json.loads((results["report"].parent / "report.json").read_text(encoding="utf-8"))
    one = results["neuron"]
    assert json.loads(json.dumps(one, allow_nan=False)) == report["neurons"][NEURONS[0]]
    assert results["neighbours"][0].to_json().items() <= one["similar"].items()


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_returns_shows_itself_in_one_line(name: str, results: Results) -> None:
    found = results[name]
    for one in found if isinstance(found, tuple) else (found,):
        if isinstance(one, Shown):
            assert len(repr(one)) < WIDTH
            assert "<table>" in one._repr_html_()
        else:
            assert isinstance(one, np.ndarray | dict | Path | NeuronId)


@pytest.mark.parametrize("nouns", [1, 2])
@pytest.mark.parametrize("name", METHODS)
def test_json_holds_no_nan(name: str, nouns: int, results: Results, of_one_noun: Results) -> None:
    found = (of_one_noun if nouns == 1 else results)[name]
    for one in found if isinstance(found, tuple) else (found,):
        json.dumps(one.to_json() if hasattr(one, "to_json") else one, allow_nan=False, default=str)


@pytest.mark.parametrize("name", TABLES)
def test_a_result_has_a_table(name: str, results: Results) -> None:
    assert isinstance(results[name].to_frame(), pd.DataFrame)


@pytest.mark.parametrize("name", LABELLED)
def test_a_result_has_labelled_arrays(name: str, results: Results) -> None:
    found = results[name].to_xarray()
    assert set(found.dims) == set(LABELLED[name])
    assert all(dimension in found.coords for dimension in found.dims)
    arrays = found.values() if isinstance(found, xr.Dataset) else [found]
    assert all(array.attrs["units"] for array in arrays)


def test_a_cell_of_a_map_is_found_by_its_years(results: Results) -> None:
    effects = results["effects"]
    cell = effects.map("L9N43").sel(start_year=45, year=46)
    assert cell.item() == effects.map_array("L9N43")[YEARS.index(45), 46]
    assert effects.of("L9N43", start_year=45).sel(year=46).item() == pytest.approx(cell.item(), rel=1e-5)


def test_maps_of_a_layer_are_labelled_and_add_up(results: Results) -> None:
    effects = results["effects"]
    whole = effects.layer_map(9) + effects.bias_map(9)
    assert whole.dims == ("start_year", "year")
    assert whole.sel(start_year=YEARS[-1]).values == pytest.approx(
        effects.layer_map_array(9)[-1] + effects.bias_map_array(9)[-1]
    )


def test_labelled_effects_stand_beside_their_neurons_and_layers(results: Results) -> None:
    found = results["ablate"].to_xarray()
    assert found.sel(neuron="L9N43").mean().item() == pytest.approx(results["ablate"].to_frame().effect[0])
    assert found.layer.sel(neuron="L10N18").item() == 10


def test_orders_that_were_asked_for_before_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table made anew holds exact effects and Shapley values if one before it did."""
    asked = []

    def compare(*_: object, exact: bool, shapley: bool, **__: object) -> OrderComparison:
        asked.append((exact, shapley))
        names = ("share", *([SHAPLEY] if shapley else []))
        curves, known = np.ones((len(names), 2)), np.ones(len(names))
        return OrderComparison(
            "probability_difference", names, np.array([0, 1]), curves, curves, known, known, np.ones((2, int(exact)))
        )

    monkeypatch.setattr("neurons.ranking.orders.compare_orders", compare)
    study = Study("mini", nouns=1, years=YEARS[:3], cache_dir=tmp_path)
    for options in ({}, {"exact": True}, {"shapley": True}, {"exact": True}, {}):
        study.approximations(**options)
    assert asked == [(False, False), (True, False), (True, True)]


def test_a_study_of_all_prompts_takes_no_sample(tmp_path: Path) -> None:
    """And keeps its results apart from those of a sample."""
    few, every = (Study("mini", nouns=1, years=YEARS[:3], cache_dir=tmp_path, all_prompts=yes) for yes in (False, True))
    assert len(few.context().sampled(10**12)) < len(few.context())
    assert len(every.context().sampled(10**12)) == len(few.context())
    assert few.plan.key != every.plan.key
    assert few.plan.path == every.plan.path
