"""Do the same neurons do the work on other prompts? Planted truths, and identities of the shares."""

import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import LATE
from planted import Planted, write_two_tasks

from neurons.cache.build import cache_activations
from neurons.cache.format import Cache
from neurons.cli.main import main
from neurons.comparison.overlap import rank_correlation, scores_of, share
from neurons.comparison.results import Carried, Scores
from neurons.comparison.transfer import carried, groups
from neurons.decomposition.effects import logit_effects
from neurons.intervention.context import ablation_context
from neurons.intervention.exact import group_effect
from neurons.intervention.groups import group_measures
from neurons.model.checkpoint import load_model
from neurons.model.files import BUNDLED
from neurons.model.model import Model
from neurons.ranking.ranking import rank
from neurons.ranking.results import Ranking
from neurons.study.study import Study
from neurons.task.prompts import year_spans
from neurons.task.tasks import TASKS
from neurons.types import InputError


def scores(score: list[float], *, boosting: list[int], width: float = 0.1) -> Scores:
    values = np.array(score)
    called = np.isin(np.arange(len(values)), boosting)
    return Scores(
        layer=np.zeros(len(values), int),
        index=np.arange(len(values)),
        score=values,
        share=values,
        ci_low=values - width,
        ci_high=values + width,
        boosting=called,
        suppressing=~called,
    )


def names(neurons: tuple[object, ...]) -> list[str]:
    return [str(neuron) for neuron in neurons]


# --- planted ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A planted checkpoint that does two tasks, with the cache and the scores of each."""

    truth: Planted
    model: Model
    caches: tuple[Cache, Cache]
    scores: tuple[Scores, Scores]

    def carried(self, task: int, reference: Scores) -> Carried:
        held = groups(reference, self.scores[task], n_layers=len(LATE))
        ctx = ablation_context(self.model, self.caches[task], years=range(2, 99, 8))
        return carried(group_measures(ctx, held, ablation="random-year")["probability_difference"], held)


@pytest.fixture(scope="module", params=[0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2))])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("two")
    truth = write_two_tasks(folder / "tasks", seed=request.param)
    model = load_model(truth.folder)
    spans, started = (
        cache_activations(
            model,
            year_spans(model.tokenizer, nouns=5, centuries="draw", template=TASKS[name].template),
            layers=LATE,
            cache_dir=folder,
        )
        for name in ("year-span", "started-ended")
    )
    return Case(truth, model, (spans, started), (scores_of(ranked(spans)), scores_of(ranked(started))))


def ranked(cache: Cache) -> Ranking:
    """Boosting are all that add anything: the verdict's 90 % leaves out the weakest of those planted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neurons.ranking.ranking.HELD", 0.9999)
        return rank(logit_effects(cache))


def test_the_comparison_names_exactly_the_neurons_planted_for_both_tasks(case: Case) -> None:
    found = share(*case.scores)
    assert set(found.both) == set(case.truth.roles["both"])


def test_the_comparison_names_exactly_the_neurons_planted_for_one_task(case: Case) -> None:
    found = share(*case.scores)
    assert set(found.only_first) == set(case.truth.roles["lasted"])
    assert set(found.only_second) == set(case.truth.roles["started"])
    assert found.undecided == ()


def test_the_planted_neurons_carry_all_of_their_own_task(case: Case) -> None:
    """What all other neurons write is 0.1 in directions that no year reads; measured: within 2e-5 of 1."""
    for task in (0, 1):
        parts = case.carried(task, case.scores[0])
        assert parts.share(parts.own) == pytest.approx(1, abs=1e-3)


def test_of_the_other_task_the_first_s_neurons_carry_what_the_shared_ones_do(case: Case) -> None:
    """The rest of the first task's neurons is silent there, and holding it at the 01-run's silence does nothing."""
    spans, started = case.scores
    planted = np.isin(names(started.neurons), names(case.truth.roles["both"]))
    parts = case.carried(1, spans)
    assert parts.reference == pytest.approx(case.carried(1, replace(spans, boosting=planted)).reference, abs=1e-3)
    assert 0.1 < (parts.share(parts.reference) or 0) < 0.6


# --- made up ---------------------------------------------------------------------------------------


def test_boosting_in_one_alone_needs_a_share_that_is_reliably_lower_in_the_other() -> None:
    first = scores([1.0, 1.0, 1.0], boosting=[0, 1, 2])
    second = scores([0.0, 0.9, 1.0], boosting=[2])
    found = share(first, second)
    assert names(found.both) == ["L0N2"]
    assert names(found.only_first) == ["L0N0"]
    assert names(found.undecided) == ["L0N1"]
    assert found.only_second == ()


def test_the_interval_of_a_difference_of_equal_widths_is_wider_by_the_root_of_two() -> None:
    """0.1 each way: the difference must exceed 0.1 sqrt(2) = 0.1414."""
    for gap, apart in ((0.141, False), (0.142, True)):
        found = share(scores([1.0], boosting=[0]), scores([1.0 - gap], boosting=[]))
        assert bool(found.only_first) is apart


def test_which_side_comes_first_only_exchanges_the_sides() -> None:
    rng = np.random.default_rng(0)
    one, other = (scores(rng.normal(size=50).tolist(), boosting=rng.choice(50, 20).tolist()) for _ in range(2))
    there, back = share(one, other), share(other, one)
    assert (there.both, there.only_first, there.undecided) == (back.both, back.only_second, back.undecided)
    assert there.rank_correlation == pytest.approx(back.rank_correlation)


def test_every_boosting_neuron_is_in_one_list() -> None:
    rng = np.random.default_rng(1)
    one, other = (scores(rng.normal(size=50).tolist(), boosting=rng.choice(50, 20).tolist()) for _ in range(2))
    found = share(one, other)
    lists = [*found.both, *found.only_first, *found.only_second, *found.undecided]
    assert len(lists) == len(set(lists)) == int((one.boosting | other.boosting).sum())
    assert found.jaccard == pytest.approx(len(found.both) / len(lists))


def test_the_rank_correlation_is_that_of_the_ranks() -> None:
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(2, 200))
    ranks = [np.argsort(np.argsort(values)).astype(float) for values in (one, other)]
    assert rank_correlation(one, other) == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-12)
    assert rank_correlation(one, np.exp(one)) == pytest.approx(1)
    assert rank_correlation(one, np.zeros(200)) is None


def test_with_no_intervals_nothing_is_called_and_nothing_is_decided() -> None:
    unknown = scores([1.0, 0.0], boosting=[], width=float("nan"))
    found = share(unknown, unknown)
    assert found.both == found.only_first == found.only_second == found.undecided == ()
    assert found.jaccard is None


def test_neurons_of_other_layers_are_not_compared() -> None:
    one = scores([1.0, 2.0], boosting=[0])
    with pytest.raises(InputError, match="only where both rankings are of the same layers"):
        share(one, replace(one, layer=np.ones(2, int)))


def test_a_top_is_cut_from_the_boosting_neurons_by_share() -> None:
    one = scores([0.1, 0.5, 0.9, 0.3], boosting=[0, 1, 3])
    assert one.top_boosting().tolist() == [True, True, False, True]
    assert one.top_boosting(2).tolist() == [False, True, False, True]
    assert one.top_boosting(9).sum() == 3


def test_a_share_of_next_to_no_change_is_unknown() -> None:
    assert Carried(0.001, 0.001, 0.0, 1, 1).share(0.001) is None
    assert Carried(-0.5, -0.1, 0.0, 1, 1).share(-0.1) == pytest.approx(0.2)


# --- the command -----------------------------------------------------------------------------------


def run(*arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["neurons", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
    return int(stop.value.code or 0)


FEW = ("--nouns", "2", "--centuries", "draw", "--layers", "10-11", "--years", "10-20", "--no-attribution")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks")


def test_the_command_compares_the_tasks_named_with_the_year_span(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("tasks", "--only", "started-ended,unordered", *FEW, "--cache-dir", folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [task["task"] for task in found["tasks"]] == ["year-span", "started-ended", "unordered"]
    reference, other, _ = found["tasks"]
    assert reference["shared"] is None
    assert other["shared"]["rank_correlation"] > 0.9
    assert other["right"] == "later"
    assert reference["carried"]["reference"] == reference["carried"]["own"]
    assert found["left_out"] == []


def test_the_command_reports_the_change_that_group_effect_does(
    folder: Path, capsys: pytest.CaptureFixture[str], mini_model: Model
) -> None:
    assert run("tasks", "--only", "started-ended", "--top", "2", *FEW, "--cache-dir", folder, "--json") == 0
    task = json.loads(capsys.readouterr().out)["tasks"][1]
    prompts = year_spans(mini_model.tokenizer, nouns=2, centuries="draw", template=TASKS["started-ended"].template)
    cache = cache_activations(mini_model, prompts, layers=(10, 11), cache_dir=folder)
    top = rank(logit_effects(cache, years=range(10, 21))).boosting_neurons()[:2]
    ctx = ablation_context(mini_model, cache, years=range(10, 21))
    expected = group_effect(ctx, top).effect["probability_difference"]
    assert task["carried"]["own"]["neurons"] == 2
    assert task["carried"]["own"]["change"] == pytest.approx(expected, abs=1e-9)


def test_the_table_names_what_is_left_out_and_why(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    template = "The {noun} lasted from the year {XX}{YY} and to the year {XX}"
    assert run("tasks", "--template", template, *FEW, "--cache-dir", folder) == 0
    out = capsys.readouterr().out
    assert "left out: task years-bc needs the word 'BC'" in out
    assert f"template: {template}" in out
    assert all(name in out for name in TASKS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tasks", "--only", "years-bc"), "needs the word 'BC'"),
        (("tasks", "--only", "nonesuch"), "task 'nonesuch' is unknown"),
        (("tasks", "--template", "The {noun}"), "must hold the start year"),
        (("tasks", "--only", "sequence", "--centuries", "12"), "century 12 does not fit"),
        (("behaviour", "--task", "sequence", "--template", "x"), "task and template"),
        (("rank", "--task", "years-bc"), "needs the word 'BC'"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_exit_code_two(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, "--cache-dir", tmp_path) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert message in captured.err
    assert list(tmp_path.iterdir()) == []


def test_reports_of_two_tasks_lie_in_two_folders(tmp_path: Path) -> None:
    names_of = [
        Study(cache_dir=tmp_path, **options).plan.folder_name
        for options in ({}, {"task": "price-range"}, {"template": "The {noun} cost $ {XX}{YY} or $ {XX}"})
    ]
    assert names_of[:2] == ["mini", "mini-price-range"]
    assert re.fullmatch(r"mini-template-[0-9a-f]{8}", names_of[2])


@pytest.mark.long
def test_the_cards_table_of_tasks_is_what_the_command_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("tasks", "--cache-dir", tmp_path, "--json") == 0
    card = (BUNDLED["mini"] / "README.md").read_text(encoding="utf-8")
    for task in json.loads(capsys.readouterr().out)["tasks"]:
        line = next(line for line in card.splitlines() if line.startswith(f"| {task['task']} |"))
        right, *measured, counts = (cell.strip() for cell in line.split("|")[2:-1])
        runs = (task["behaviour"][name]["probability_difference"]["mean"] for name in ("model", "counterfactual"))
        assert [float(cell) for cell in measured] == pytest.approx(list(runs), abs=1e-4)
        in_both = len(task["shared"]["both"]) if task["shared"] else 0
        numbers = [int(cell) for cell in counts.split(",")]
        assert (right, [*numbers, 0][:2]) == (task["right"], [task["boosting"], in_both])
