"""Results show themselves: one line at a prompt, a table in a notebook, and text that stays text."""

from html.parser import HTMLParser
from importlib import import_module
from inspect import getmembers, isclass

import pandas as pd
import pytest

import neurons
from neurons.attribution.shares import attribute
from neurons.cache.format import Cache
from neurons.model.model import Model
from neurons.shown import ROWS, WIDTH, Shown
from neurons.task.prompt_set import PromptSet


class Odd(Shown):
    def summary(self) -> dict[str, object]:
        return {"name": "<script>alert(1)</script>"}

    def to_frame(self) -> pd.DataFrame:
        return pd.DataFrame({"noun": ["<b>war</b>"] * (ROWS + 3)})


@pytest.fixture(scope="module")
def results(mini_model: Model, mini_prompts: PromptSet, mini_cache: Cache) -> dict[str, Shown]:
    effects = neurons.logit_effects(mini_cache)
    ranking = neurons.rank(effects)
    everyone = neurons.neuron_population(effects)
    clustering = neurons.cluster(everyone, ranking.boosting_neurons()[:12])
    ctx = neurons.ablation_context(mini_model, mini_cache, years=range(40, 45))
    return {
        "model": mini_model,
        "prompts": mini_prompts,
        "cache": mini_cache,
        "effects": effects,
        "ranking": ranking,
        "population": everyone,
        "clustering": clustering,
        "tuning": clustering.tuning,
        "context": ctx,
        "statistics": neurons.neuron_statistics(mini_model, [11]),
        "ablations": neurons.neuron_effects(ctx, ["L9N43"], keep=False),
        "group": neurons.group_effect(ctx, ["L9N43", "L10N18"]),
        "attribution": attribute(ctx, draws=1, steps=2)["cutoff_sharpness"],
        "one_behaviour": neurons.measured_behaviour(mini_cache)["model"],
        "study": neurons.Study("mini"),
    }


NAMES = (
    "model", "prompts", "cache", "effects", "ranking", "population", "clustering", "tuning", "context", "ablations",
    "group", "statistics", "attribution", "one_behaviour", "study",
)  # fmt: skip
"""What one has at hand before a study; `study/test_study.py` looks at every result of one."""
MODULES = tuple(
    f"neurons.{module}"
    for module in (
        "attribution.results", "circuit.results", "clustering.results", "comparison.model_results",
        "comparison.results", "ranking.results", "decomposition.results", "intervention.curve_results",
        "intervention.results", "regression.results", "regression.faithfulness_results", "regression.tiling_results",
        "weights.results",
    )
)  # fmt: skip
TABULAR = {
    f"{name} of {module}": thing
    for module in MODULES
    for name, thing in getmembers(import_module(module), isclass)
    if thing.__module__ == module and hasattr(thing, "to_frame")
}


@pytest.mark.parametrize("name", NAMES)
def test_a_result_is_one_short_line_at_a_prompt(name: str, results: dict[str, Shown]) -> None:
    line = repr(results[name])
    assert line.startswith(f"{type(results[name]).__name__}(")
    assert "\n" not in line
    assert len(line) < WIDTH


@pytest.mark.parametrize("name", TABULAR)
def test_what_has_a_table_shows_it_in_a_notebook(name: str) -> None:
    assert issubclass(TABULAR[name], Shown)


def test_a_repr_too_long_is_cut() -> None:
    class Long(Odd):
        def summary(self) -> dict[str, object]:
            return {"name": "x" * 300}

    assert len(repr(Long())) < WIDTH
    assert repr(Long()).endswith(" ...)")


@pytest.mark.parametrize("name", NAMES)
def test_a_result_is_well_formed_html_in_a_notebook(name: str, results: dict[str, Shown]) -> None:
    opened: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Tags().feed(results[name]._repr_html_())
    assert opened == []


@pytest.mark.parametrize("name", ["prompts", "ranking", "clustering", "tuning", "ablations", "statistics"])
def test_a_result_with_rows_becomes_a_pandas_table(name: str, results: dict[str, Shown]) -> None:
    frame = results[name].to_frame()  # type: ignore[attr-defined]
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) > 0
    assert "<th>" in results[name]._repr_html_()


def test_the_tables_numbers_are_the_results(results: dict[str, Shown]) -> None:
    found, ranking = results["ablations"], results["ranking"]
    assert isinstance(found, neurons.NeuronEffects)
    assert isinstance(ranking, neurons.Ranking)
    assert found.to_frame().effect.tolist() == found.effect.tolist()
    assert ranking.to_frame().score.tolist() == ranking.score.tolist()


def test_text_stays_text_and_long_tables_say_what_is_left_out() -> None:
    html = Odd()._repr_html_()
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert "<b>war" not in html
    assert "3 more rows" in html
