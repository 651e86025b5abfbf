"""Models side by side: a model with itself, with a copy changed in a known way, and with one of another shape."""

import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from random_gpt2 import MINI, write_random_gpt2
from safetensors.numpy import load_file, save_file

from neurons.cache.format import Cache
from neurons.cli.comparisons import folder_name
from neurons.cli.main import main
from neurons.comparison.development import steps_of
from neurons.comparison.model_results import Comparison, Kind, Side
from neurons.comparison.results import Scores
from neurons.comparison.sides import compare_sides, cosine
from neurons.decomposition.effects import logit_effects
from neurons.ranking.ranking import rank
from neurons.report.folder import MARK
from neurons.report.pages.comparison import comparison_page, write_comparison
from neurons.report.render import Site, to_html
from neurons.study.study import Study
from neurons.task.tasks import find_task
from neurons.types import InputError, NeuronId, OutputError

ZEROED = tuple(map(NeuronId.parse, ("L11N106", "L11N252")))
NASTY = '../<b>"a" & $x$</b>'
FEW = ("--nouns", "4", "--centuries", "draw", "--layers", "11", "--no-attribution")


def zeroed_mini(folder: Path, neurons: Sequence[NeuronId] = ZEROED) -> Path:
    """mini with some rows of W_out set to zero."""
    folder.mkdir(parents=True)
    for file in MINI.iterdir():
        shutil.copyfile(file, folder / file.name)
    tensors = load_file(MINI / "model.safetensors")
    for neuron in neurons:
        tensors[f"transformer.h.{neuron.layer}.mlp.c_proj.weight"][neuron.index] = 0
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def side(name: str = "one", *, seed: int = 0, n_layers: int = 12, neurons: int = 40) -> Side:
    """A model made of random numbers."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=neurons)
    composed = rng.normal(size=(97, 100))
    composed -= composed.mean(1, keepdims=True)
    return Side(
        name=name,
        model_sha256="0" * 64,
        n_layers=n_layers,
        layers=(n_layers - 2, n_layers - 1),
        n_prompts=7,
        behaviour={
            "model": {n: {"mean": 0.5, "sd": 0.1} for n in ("probability_difference", "cutoff_sharpness")},
        },
        scores=Scores(
            layer=np.repeat([n_layers - 2, n_layers - 1], neurons // 2),
            index=np.tile(np.arange(neurons // 2), 2),
            score=score,
            share=score,
            ci_low=score - 0.1,
            ci_high=score + 0.1,
            boosting=score > 1,
            suppressing=score < -1,
        ),
        readout=rng.normal(size=(neurons, 100)),
        contrast=float(score.sum()),
        triangle=0.3,
        map=composed,
        singular_values=np.linalg.svd(composed, compute_uv=False),
        kinds=tuple(
            Kind(k, 3, f"L{n_layers - 1}N{k}", 0.1 * k, None, f"kind {k}", rng.normal(size=(97, 100))) for k in range(3)
        ),
    )


def compared(*sides: Side) -> Comparison:
    return compare_sides(sides, task="year-span", start_years=range(2, 99))


# --- the numbers -----------------------------------------------------------------------------------


def test_a_model_equals_itself_in_everything() -> None:
    (pair,) = compared(side("one"), side("again")).pairs
    assert pair.neurons is not None
    assert pair.map_cosine == pytest.approx(1)
    assert pair.neurons.rank_correlation == pytest.approx(1)
    assert len(pair.neurons.both) == pair.neurons.n_first == pair.neurons.n_second > 0
    assert pair.neurons.only_first == pair.neurons.only_second == pair.neurons.undecided == ()
    assert pair.same_index == pytest.approx(1)
    assert [(m.kind, m.of_first) for m in pair.matches] == [(0, 0), (1, 1), (2, 2)]
    assert [m.cosine for m in pair.matches] == pytest.approx([1, 1, 1])
    assert pair.notes == ()


def test_models_of_another_shape_are_not_compared_neuron_by_neuron() -> None:
    first = side("one")
    for other in (side("deeper", n_layers=24), side("wider", neurons=80)):
        (pair,) = compared(first, other).pairs
        assert (pair.neurons, pair.same_index) == (None, None)
        assert "not compared one by one" in pair.notes[0]


def test_neurons_that_write_differently_are_told_to_be_of_another_run() -> None:
    """Random readouts: a cosine of 100 independent numbers is 0.1 wide."""
    (pair,) = compared(side("one"), side("other", seed=1)).pairs
    assert abs(pair.same_index or 0) < 0.1
    assert "seem not to be two checkpoints of one run" in pair.notes[0]


def test_each_kind_is_matched_with_the_most_similar_of_the_first() -> None:
    first = side("one")
    turned = replace(side("other"), kinds=(first.kinds[2], first.kinds[0]))
    renamed = replace(turned, kinds=tuple(replace(kind, id=10 + i) for i, kind in enumerate(turned.kinds)))
    (pair,) = compared(first, renamed).pairs
    assert [(m.kind, m.of_first) for m in pair.matches] == [(10, 2), (11, 0)]


def test_counts_quantiles_and_layers_add_up() -> None:
    one = side()
    layers = one.by_layer()
    assert sum(layer["boosting"] for layer in layers) == int(one.scores.boosting.sum())
    assert sum(layer["contrast"] for layer in layers) == pytest.approx(float(one.scores.score.sum()))
    assert [layer["depth"] for layer in layers] == pytest.approx([11 / 12, 1])
    assert one.quantiles()["0.5"] == pytest.approx(float(np.median(one.scores.score)))
    assert (one.quantiles()["0"], one.quantiles()["1"]) == (one.scores.score.min(), one.scores.score.max())


def test_a_cosine_is_that_of_the_vectors_and_unknown_for_zero() -> None:
    one, other = np.random.default_rng(0).normal(size=(2, 5, 100))
    expected = np.corrcoef(one.ravel() - one.mean(), other.ravel() - other.mean())[0, 1]
    assert cosine(one - one.mean(), other - other.mean()) == pytest.approx(expected, abs=1e-12)
    assert cosine(one, -3 * one) == pytest.approx(-1)
    assert cosine(one, 0 * one) is None


def test_one_model_is_no_comparison() -> None:
    with pytest.raises(InputError, match="two models or more"):
        compared(side())


# --- the page --------------------------------------------------------------------------------------


def test_a_name_is_text_on_the_page_and_in_its_figures(tmp_path: Path) -> None:
    found = compared(side(NASTY), side("other"), side("third", n_layers=24))
    index = write_comparison(found, folder=tmp_path / "compare-x", command="neurons compare")
    page = index.read_text(encoding="utf-8")
    assert not re.search(r'<b>("|&#34;|&quot;)', page)
    assert "&lt;b&gt;" in page
    pictures = {f"{name}.svg" for name in ("maps", "scores", "depth", "singular-values", "neurons-1")}
    assert {file.name for file in (index.parent / "figures").glob("*.svg")} == pictures
    assert [file.name for file in tmp_path.iterdir()] == ["compare-x"]


def test_report_json_holds_what_the_command_prints(tmp_path: Path) -> None:
    found = compared(side(), side("other", seed=1))
    write_comparison(found, folder=tmp_path / "x", command="neurons compare")
    kept = json.loads((tmp_path / "x" / MARK).read_text(encoding="utf-8"))
    assert {key: kept[key] for key in found.to_json()} == json.loads(json.dumps(found.to_json()))


def test_the_page_is_replaced_but_nothing_else_is(tmp_path: Path) -> None:
    found = compared(side(), side("other", seed=1))
    for _ in range(2):
        write_comparison(found, folder=tmp_path / "x", command="neurons compare")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("work")
    with pytest.raises(OutputError, match="holds files that are no report"):
        write_comparison(found, folder=tmp_path / "mine", command="neurons compare")


def test_the_page_lists_what_is_lost_and_gained() -> None:
    first, other = side(), side("other", seed=1)
    found = compared(first, other)
    page = comparison_page(found, command="neurons compare")
    html = to_html(page, Site(model="x", footer="y"))
    assert found.pairs[0].neurons is not None
    for neuron in (*found.pairs[0].neurons.only_first[:20], *found.pairs[0].neurons.only_second[:20]):
        assert f">{neuron}<" in html


@pytest.mark.parametrize("names", [["a", "b"], [NASTY, ".."], ["/etc/passwd", "a/../../b"], ["x" * 400, "y"]])
def test_a_folder_name_stays_in_the_folder(names: list[str]) -> None:
    name = folder_name(names, "")
    assert re.fullmatch(r"compare-[A-Za-z0-9_.-]+", name)
    assert len(name) <= 200


def test_folders_of_two_tasks_differ() -> None:
    assert folder_name(["a", "b"], find_task("price-range").suffix) == "compare-a-b-price-range"


# --- the command, on mini --------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> Done:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["neurons", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
    out, err = capsys.readouterr()
    return Done(int(stop.value.code or 0), out, err)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("compare")
    zeroed_mini(where / "models" / "zeroed")
    return where


@pytest.fixture
def where(folder: Path) -> tuple[object, ...]:
    return (*FEW, "--cache-dir", folder / "cache", "--report-dir", folder / "reports")


def test_neurons_whose_output_is_zeroed_are_exactly_those_lost(
    folder: Path, where: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(capsys, "compare", "mini", folder / "models" / "zeroed", *where, "--json")
    found = json.loads(done.out)
    (pair,) = found["with_first"]
    assert done.code == 0
    assert set(pair["neurons"]["lost"]) == set(map(str, ZEROED))
    assert pair["neurons"]["gained"] == []
    assert pair["same_index"] == pytest.approx(1, abs=1e-6)
    assert (folder / "reports" / "compare-mini-zeroed" / "index.html").is_file()


def test_a_model_compared_with_itself_has_lost_and_gained_nothing(
    folder: Path, where: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(capsys, "compare", "mini", "mini", *where)
    assert "mini (1)" in done.out
    assert "lost: 0\n" in done.out
    assert "gained: 0\n" in done.out
    assert (folder / "reports" / "compare-mini_1-mini_2" / "README.md").is_file()


def test_the_numbers_of_a_side_are_those_of_the_other_commands(
    folder: Path, where: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    one = json.loads(run(capsys, "compare", "mini", "mini", *where, "--json").out)["models"][0]
    caching = where[:-2]
    ranking = json.loads(run(capsys, "rank", *caching, "--json").out)["neurons"]
    plain = [word for word in caching if word != "--no-attribution"]
    behaviour = json.loads(run(capsys, "behaviour", *plain, "--json").out)
    composition = json.loads(run(capsys, "compose", *caching, "--json").out)
    assert one["boosting"] == sum(neuron["boosting"] for neuron in ranking)
    assert one["quantiles"]["1"] == max(neuron["score"] for neuron in ranking)
    assert one["behaviour"]["model"]["probability_difference"] == behaviour["probability_difference"]
    assert one["singular_values"] == composition["singular_values"][:10]
    assert one["triangle"] == next(term["alone"] for term in composition["basis"] if term["term"] == "step")


@pytest.mark.long
def test_a_model_of_another_shape_is_compared_as_a_whole(
    folder: Path, where: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    small = write_random_gpt2(folder / "models" / "small", n_layer=12, n_embd=32)
    done = run(capsys, "compare", "mini", small, *where)
    assert done.code == 0
    assert "note: other layers or another width" in done.out


@pytest.mark.long
def test_two_checkpoints_of_one_name_are_told_apart(
    folder: Path, where: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    namesake = zeroed_mini(folder / "others" / "zeroed", ZEROED[:1])
    done = run(capsys, "compare", folder / "models" / "zeroed", namesake, *where, "--json")
    names = [one["model"] for one in json.loads(done.out)["models"]]
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"zeroed [0-9a-f]{6}", name) for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "mini"), "name another to compare 'mini' with"),
        (("compare", "mini", "./nonesuch"), "is no directory"),
        (("compare", "mini", "mini", "--layers", "20"), "layer 20 is not in this model"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_exit_code_two(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(capsys, *arguments, "--cache-dir", tmp_path, "--report-dir", tmp_path)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert list(tmp_path.iterdir()) == []


def test_rank_agrees_with_the_scores_compared(mini_cache: Cache) -> None:
    from neurons.comparison.overlap import scores_of

    ranking = rank(logit_effects(mini_cache))
    scores = scores_of(ranking)
    assert scores.neurons == tuple(NeuronId(layer, n) for layer in mini_cache.layers for n in range(mini_cache.d_mlp))
    for neuron in ranking.neurons[:50]:
        assert scores.score[scores.neurons.index(neuron)] == ranking.score[ranking.row_of(neuron)]


# --- development -----------------------------------------------------------------------------------


def at_step(step: int, boosting: Sequence[int]) -> Side:
    """A checkpoint of which exactly these of 40 neurons boost."""
    one = side(f"run@checkpoint-{step}")
    return replace(
        one,
        scores=replace(one.scores, boosting=np.isin(np.arange(40), boosting)),
        k={"contrast": step},
        tiling={"correlation": step / 1000},
    )


def test_survival_is_the_fraction_of_a_steps_neurons_that_boosts_at_another() -> None:
    found = compared(at_step(300, [1, 2, 3, 4]), at_step(100, [0, 1]), at_step(200, [1, 2, 3])).development
    assert found is not None
    assert found.steps == (100, 200, 300)
    assert found.names[0] == "run@checkpoint-100"
    np.testing.assert_allclose(found.survival, [[1, 1 / 2, 1 / 2], [1 / 3, 1, 1], [1 / 4, 3 / 4, 1]])
    assert found.chance.tolist() == [2 / 40, 3 / 40, 4 / 40]
    assert found.k["contrast"] == (100, 200, 300)
    assert found.tiling == {"correlation": (0.1, 0.2, 0.3)}
    assert found.boosting == (2, 3, 4)


def test_names_without_numbers_are_in_the_order_given() -> None:
    assert steps_of(["early", "middle", "late"]) == [1, 2, 3]
    assert steps_of(["a-10", "b-10", "c"]) == [1, 2, 3]
    assert steps_of(["gpt2@step-20", "gpt2@step-3"]) == [20, 3]


def test_two_checkpoints_or_other_shapes_are_no_development() -> None:
    assert compared(side("a-1"), side("a-2")).development is None
    assert compared(side("a-1"), side("a-2"), side("a-3", neurons=80)).development is None


def test_a_step_without_boosting_neurons_is_not_a_number_and_none_in_json() -> None:
    found = compared(at_step(1, [1]), at_step(2, []), at_step(3, [2]))
    assert found.development is not None
    assert found.to_json()["development"]["survival"] == [[1, 0, 0], [None, None, None], [0, 0, 1]]


def test_the_command_draws_the_development_of_directories(
    folder: Path, where: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Neurons of mini that boost and have no output in an earlier checkpoint are those that boost in the last alone."""
    options = {"nouns": 4, "centuries": "draw", "layers": (11,), "attribution": False, "cache_dir": folder / "cache"}
    boosting = Study("mini", **options).ranking().boosting_neurons()  # type: ignore[arg-type]
    zeroed = {30: (), 10: boosting[:4], 20: boosting[:1]}
    models = [zeroed_mini(folder / "run" / f"checkpoint-{step}", neurons) for step, neurons in zeroed.items()]
    done = run(capsys, "compare", *models, *where, "--json")
    assert done.code == 0, done.err
    found, n = json.loads(done.out)["development"], len(boosting)
    assert found["steps"] == [10, 20, 30]
    last = Study(models[0], **options).tiling()  # type: ignore[arg-type]
    assert found["tiling"]["correlation"][-1] == pytest.approx(last.law.correlation)
    assert found["survival"][-1] == pytest.approx([1 - 4 / n, 1 - 1 / n, 1])
    (page,) = (folder / "reports").glob("compare-checkpoint-30-*/index.html")
    assert "Neurons by step" in page.read_text(encoding="utf-8")
