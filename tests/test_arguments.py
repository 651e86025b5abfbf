"""Whatever a public function is given: a result, or one line of `InputError`. Nothing else comes out of the depths.

Annotations are not checked here (`unchecked`), as they are not for a user. One argument at a time is drawn: of another
type, misspelt, out of range or empty; the others are as they should be.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import neurons
from neurons.cache.format import Cache
from neurons.model.model import Model
from neurons.types import InputError, NeuronsError

FOUND = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ODD = [
    None, True, False, 0, -1, 1, 2, 17, 99, 101, 10**9, 2**70, 1.0, 1.5, float("nan"), "", " ", "17", "zero", "zeor",
    "resample ", "L9N43", "L99N1", "L9N43,L10N18", "two\nlines", b"L9N43", [], (), {}, set(), [None], [1.5], [True],
    ["17"], [1700], [17, "17"], [-1], ["L9N43", 3], ["L9N43", "L9N43"], [[9]], {"a": 1}, {"a": "L9N43"}, {"a": 3},
    range(0), range(3, 5), np.int64(17), np.array([17]), np.array([]), np.array(3), np.ones((2, 2)), object(),
]  # fmt: skip
"""What people and programs pass by mistake, and a few values that are right somewhere."""
STRANGE = st.one_of(
    st.sampled_from(ODD), st.text(max_size=8), st.integers(-3, 120), st.floats(), st.lists(st.integers(), max_size=3),
    st.lists(st.text(max_size=4), max_size=3), st.lists(st.floats(), max_size=2),
)  # fmt: skip


@pytest.fixture(autouse=True)
def unchecked() -> Iterator[None]:
    """Public functions as users call them: their annotations are not enforced."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@dataclass(frozen=True, eq=False)
class Right:
    """Arguments that are right: small ones, so that a call takes no time."""

    model: Model
    cache: Cache
    folder: Path

    def __post_init__(self) -> None:
        made = self.__dict__
        made["prompts"] = neurons.year_spans(self.model.tokenizer, nouns=2, centuries=[17])
        made["effects"] = neurons.logit_effects(self.cache)
        made["ctx"] = neurons.ablation_context(self.model, self.cache, years=[31, 32], nouns=1)
        made["attributed"] = neurons.attributed(
            neurons.ablation_context(self.model, self.cache, years=self.effects.start_years)
        )
        made["ranking"] = neurons.rank(self.effects)
        made["population"] = neurons.neuron_population(self.effects)
        few = self.population.take(np.arange(60))
        made["few"], made["tuning"] = few, neurons.tune(few)
        made["statistics"] = neurons.neuron_statistics(self.model, [11])
        made["group"] = neurons.group_effect(self.ctx, ["L11N1"])
        made["some"] = neurons.neuron_effects(self.ctx, ["L11N1"], keep=False)

    def __getattr__(self, name: str) -> Any:
        return self.__dict__[name]


@pytest.fixture(scope="module")
def right(mini_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Right:
    folder = tmp_path_factory.mktemp("arguments")
    prompts = neurons.year_spans(mini_model.tokenizer, nouns=2, centuries=[17])
    cache = neurons.cache_activations(mini_model, prompts, layers=[11], cache_dir=folder)
    return Right(mini_model, cache, folder)


Call = tuple[Callable[..., Any], dict[str, Any]]
NEURON = "L11N1"
CALLS: dict[str, Callable[["Right"], Call]] = {
    "attribute": lambda r: (
        neurons.attribute,
        {"ctx": r.ctx, "measures": ("contrast",), "draws": 1, "seed": 0, "steps": 2, "keep": False, "progress": None},
    ),
    "attributed": lambda r: (
        neurons.attributed,
        {"ctx": r.ctx, "seed": 0, "jobs": None, "scheduler": None, "progress": None},
    ),
    "shapley": lambda r: (
        neurons.shapley,
        {
            "ctx": r.ctx,
            "neurons": [NEURON],
            "samples": 2,
            "prompts": 2,
            "measures": ("contrast",),
            "seed": 0,
            "progress": None,
        },
    ),
    "Attributed.share": lambda r: (r.attributed.share, {"measure": "cutoff_sharpness"}),
    "Attributed.recovery": lambda r: (r.attributed.recovery, {"measure": "cutoff_sharpness"}),
    "Attribution.share_of": lambda r: (r.attributed.shares[0].share_of, {"neuron": NEURON}),
    "Attribution.place_of": lambda r: (r.attributed.shares[0].place_of, {"start_year": 31}),
    "Attribution.interval_at": lambda r: (r.attributed.shares[0].interval_at, {"start_year": 31}),
    "Recovery.fewest": lambda r: (r.attributed.recoveries[0].fewest, {"part": 0.5}),
    "cache_activations": lambda r: (
        neurons.cache_activations,
        {
            "model": r.model,
            "prompts": r.prompts,
            "layers": [11],
            "dtype": "float32",
            "cache_dir": r.folder,
            "progress": None,
            "jobs": None,
            "scheduler": None,
            "waiting": None,
        },
    ),
    "cluster": lambda r: (
        neurons.cluster,
        {
            "population": r.few,
            "called": r.few.neurons[:12],
            "method": "hdbscan",
            "cap": 20,
            "smallest": 3,
            "resamples": 2,
            "seed": 0,
            "progress": None,
        },
    ),
    "compose": lambda r: (
        neurons.compose,
        {
            "population": r.few,
            "tuning": r.tuning,
            "groups": {"mine": [r.few.neurons[0]]},
            "sparse": None,
            "notes": (),
        },
    ),
    "ablation_context": lambda r: (
        neurons.ablation_context,
        {
            "model": r.model,
            "cache": r.cache,
            "years": [31, 32],
            "nouns": 1,
            "activations": r.effects.activations,
            "seed": 0,
            "all_prompts": False,
        },
    ),
    "find_task": lambda r: (neurons.find_task, {"name": "price-range"}),
    "neuron_population": lambda r: (neurons.neuron_population, {"effects": r.effects, "progress": None}),
    "group_effect": lambda r: (
        neurons.group_effect,
        {"ctx": r.ctx, "neurons": [NEURON], "intervention": neurons.Intervention(), "draws": 1},
    ),
    "load_model": lambda r: (
        neurons.load_model,
        {"source": "mini", "tokenizer": None, "name": None, "revision": None, "device": "cpu"},
    ),
    "logit_effects": lambda r: (neurons.logit_effects, {"cache": r.cache, "years": [31, 32]}),
    "measured_behaviour": lambda r: (neurons.measured_behaviour, {"cache": r.cache, "years": [31, 32]}),
    "neuron_effects": lambda r: (
        neurons.neuron_effects,
        {
            "ctx": r.ctx,
            "neurons": [NEURON],
            "intervention": neurons.Intervention(),
            "beside": {},
            "draws": 1,
            "keep": False,
            "progress": None,
        },
    ),
    "neuron_statistics": lambda r: (neurons.neuron_statistics, {"model": r.model, "layers": [11], "progress": None}),
    "open_cache": lambda r: (neurons.open_cache, {"path": r.cache.path}),
    "custom_task": lambda r: (neurons.custom_task, {"text": "The {noun} cost $ {XX}{YY} or $ {XX}"}),
    "plain_logit_lens": lambda r: (neurons.plain_logit_lens, {"cache": r.cache, "years": [31, 32]}),
    "rank": lambda r: (
        neurons.rank,
        {
            "effects": r.effects,
            "attribution": r.attributed,
            "alone": None,
            "start_year": 32,
            "order": None,
            "progress": None,
        },
    ),
    "attribution_patching": lambda r: (
        neurons.attribution_patching,
        {"ctx": r.ctx, "intervention": neurons.Intervention(), "draws": 1, "progress": None},
    ),
    "tune": lambda r: (neurons.tune, {"population": r.few.take(np.arange(3)), "seed": 0, "progress": None}),
    "read_prompts": lambda r: (neurons.read_prompts, {"source": r.prompts.to_layout(), "skip": False}),
    "year_spans": lambda r: (
        neurons.year_spans,
        {
            "tokenizer": r.model.tokenizer,
            "nouns": 2,
            "centuries": [17],
            "seed": 0,
            "bos": True,
            "template": neurons.find_task("price-range").template,
        },
    ),
    "Intervention": lambda r: (neurons.Intervention, {"ablation": "zero", "effect": "direct", "measure": "contrast"}),
    "LogitEffects": lambda r: (neurons.LogitEffects, {"activations": r.effects.activations, "start_years": (31, 32)}),
    "NeuronId": lambda r: (neurons.NeuronId, {"layer": 9, "index": 43}),
    "Task": lambda r: (
        neurons.Task,
        {"name": "mine", "template": neurons.Template("x"), "answer": "later", "source": "me"},
    ),
    "Template": lambda r: (neurons.Template, {"text": "x", "words": ("war",), "centuries": (17,)}),
    "Cache.check_layer": lambda r: (r.cache.check_layer, {"layer": 11}),
    "Cache.check_neuron": lambda r: (r.cache.check_neuron, {"neuron": NEURON}),
    "Cache.post": lambda r: (r.cache.post, {"layer": 11}),
    "Cache.readout": lambda r: (r.cache.readout, {"layer": 11}),
    "Cache.read": lambda r: (r.cache.read, {"dataset": "final/scale"}),
    "GroupEffect.to_json": lambda r: (r.group.to_json, {"measure": "contrast"}),
    "LogitEffects.map": lambda r: (r.effects.map, {"neuron": NEURON}),
    "LogitEffects.of": lambda r: (r.effects.of, {"neuron": NEURON, "start_year": 32}),
    "LogitEffects.contrast": lambda r: (r.effects.contrast, {"neuron": NEURON}),
    "LogitEffects.activation": lambda r: (r.effects.activation, {"layer": 11}),
    "LogitEffects.tuning": lambda r: (r.effects.tuning, {"layer": 11}),
    "LogitEffects.layer_contrast": lambda r: (r.effects.layer_contrast, {"layer": 11}),
    "LogitEffects.layer_map": lambda r: (r.effects.layer_map, {"layer": 11}),
    "LogitEffects.bias_map": lambda r: (r.effects.bias_map, {"layer": 11}),
    "NeuronEffects.record": lambda r: (r.some.record, {"row": 0}),
    "NeuronId.parse": lambda r: (neurons.NeuronId.parse, {"text": NEURON}),
    "NeuronStatistics.of_class": lambda r: (r.statistics.of_class, {"neuron_class": "entropy"}),
    "NeuronStatistics.record": lambda r: (r.statistics.record, {"neuron": NEURON}),
    "NeuronStatistics.row_of": lambda r: (r.statistics.row_of, {"neuron": NEURON}),
    "Population.rows": lambda r: (r.population.rows, {"neurons": [NEURON]}),
    "PromptSet.text": lambda r: (r.prompts.text, {"row": 0}),
    "Ranking.record": lambda r: (r.ranking.record, {"row": 0}),
    "Ranking.row_of": lambda r: (r.ranking.row_of, {"neuron": NEURON}),
}
"""Each public function, and the methods of public classes that take arguments: the call, and what is right."""


def test_every_argument_of_every_public_function_is_drawn(right: Right) -> None:
    functions = {name for name in neurons.__all__ if inspect.isfunction(getattr(neurons, name))}
    assert functions <= set(CALLS)
    for name in functions:
        assert set(CALLS[name](right)[1]) == set(inspect.signature(getattr(neurons, name)).parameters), name


@pytest.mark.parametrize("label", CALLS)
def test_the_right_arguments_are_taken(label: str, right: Right) -> None:
    function, good = CALLS[label](right)
    function(**good)


@pytest.mark.parametrize("label", CALLS)
def test_a_strange_argument_is_taken_or_refused_in_one_line(
    label: str, right: Right, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a folder of any name may be asked for
    function, good = CALLS[label](right)

    @FOUND
    @given(st.sampled_from(sorted(good)), STRANGE)
    def strange(name: str, value: object) -> None:
        try:
            function(**good | {name: value})
        except NeuronsError as error:
            line = str(error)
            assert line
            assert "\n" not in line
            assert " --" not in line, "Python has no options"
            assert len(line) < 400

    strange()


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("Intervention", {"ablation": "zeor"}, "ablation 'zeor' is unknown: choose random-year, resample, mean, zero"),
    (
        "Intervention",
        {"ablation": "resample "},
        "ablation 'resample ' is unknown: choose random-year, resample, mean, zero",
    ),
    ("Intervention", {"effect": "drect"}, "effect 'drect' is unknown: choose total, direct, frozen"),
    ("Intervention", {"measure": "contrst"}, "measure 'contrst' is unknown: choose contrast, probability_difference"),
    ("LogitEffects", {"activations": "mini"}, "activations must be Activations(cache), not 'mini'"),
    ("Task", {"answer": "latter"}, "answer 'latter' is unknown: choose later, earlier, any"),
    ("cluster", {"method": "kmeans"}, "method 'kmeans' is unknown: choose hdbscan, agglomerative"),
    ("cache_activations", {"dtype": "float64"}, "dtype 'float64' is unknown: choose float32, float16"),
    ("load_model", {"device": "gpu"}, "device 'gpu' is unknown: choose cpu, cuda, mps"),
    (
        "NeuronStatistics.of_class",
        {"neuron_class": "predicton"},
        "neuron_class 'predicton' is unknown: choose prediction, suppression",
    ),
    ("GroupEffect.to_json", {"measure": "sharpness"}, "measure 'sharpness' is unknown: choose contrast"),
    ("group_effect", {"intervention": "zero"}, "intervention must be an Intervention, not 'zero'"),
    (
        "year_spans",
        {"centuries": [1700]},
        "invalid century 1700: choose among 10-20, for instance 17 for the years 1700-1799; did you mean 17?",
    ),
    ("year_spans", {"centuries": ["17"]}, "centuries must be a whole number, not '17'"),
    ("year_spans", {"centuries": 17}, "centuries must be whole numbers like [16, 17], not 17"),
    ("year_spans", {"centuries": "17"}, "invalid centuries '17': choose draw, all, or numbers like [16, 17]"),
    ("year_spans", {"centuries": []}, "no century given: choose among 10-20"),
    ("year_spans", {"nouns": True}, "nouns must be a whole number, not True"),
    ("year_spans", {"nouns": 2.0}, "nouns must be a whole number, not 2.0"),
    ("year_spans", {"nouns": ["war", 3]}, "nouns must be a number, or words in a list, not 3"),
    ("year_spans", {"seed": -1}, "seed must be a whole number of at least 0, not -1"),
    ("year_spans", {"template": "The {noun}"}, "template must be a Template, like custom_task(text).template"),
    ("rank", {"start_year": "32"}, "start_year must be a whole number, not '32'"),
    ("rank", {"start_year": 1732}, "start year 1732 is not measured: choose within 02-98"),
    ("cluster", {"resamples": 0}, "resamples must be a whole number from 1 to 100000, not 0"),
    ("rank", {"effects": "mini"}, "effects must be what logit_effects(cache) returns, not 'mini'"),
    ("LogitEffects.of", {"start_year": "32"}, "start_year must be a whole number, not '32'"),
    ("logit_effects", {"years": [31.5]}, "years must be a whole number, not 31.5"),
    ("logit_effects", {"years": "31"}, "years must be whole numbers like [31, 32], not '31'"),
    ("logit_effects", {"years": []}, "no start year chosen: choose within 01-98"),
    ("neuron_statistics", {"layers": [9.0]}, "layers must be a whole number, not 9.0"),
    ("neuron_effects", {"neurons": []}, "no neuron named: write layer and index like L9N12"),
    ("neuron_effects", {"neurons": None}, "neurons must be names like L9N12, not None"),
    (
        "neuron_effects",
        {"beside": {"score": np.zeros((2, 2))}},
        "score must be an array of shape (1, 256), layers by neurons",
    ),
    ("Cache.read", {"dataset": "final/scael"}, "invalid dataset 'final/scael'"),
    ("ablation_context", {"nouns": 0}, "0 nouns asked for: this cache holds 1 to 2"),
    ("NeuronEffects.record", {"row": -1}, "row must be a whole number from 0 to 0, not -1"),
    ("measured_behaviour", {"years": [99]}, "start year 99 cannot be measured"),
]


@pytest.mark.parametrize(("label", "wrong", "message"), WRONG, ids=lambda v: str(v)[:40])
def test_what_is_wrong_is_said_with_what_would_be_right(
    label: str, wrong: dict[str, Any], message: str, right: Right
) -> None:
    function, good = CALLS[label](right)
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        function(**good | wrong)


@pytest.mark.parametrize("name", [NEURON, neurons.NeuronId(11, 1)], ids=["text", "NeuronId"])
def test_a_single_name_is_one_neuron_everywhere(name: Any, right: Right) -> None:
    """`group_effect(on, "L9N43")` once read letters."""
    one = neurons.NeuronId(11, 1)
    assert neurons.group_effect(right.ctx, name).neurons == (one,)
    assert neurons.neuron_effects(right.ctx, name, keep=False).neurons == (one,)
    assert right.population.rows(name).tolist() == right.population.rows([one]).tolist() == [1]
    assert len(neurons.cluster(right.few, name, resamples=1).tuning) == 1


def test_a_neuron_named_twice_counts_once(right: Right) -> None:
    twice = neurons.cluster(right.few, [NEURON, "L11N2", NEURON], resamples=1)
    assert [one.neuron for one in twice.tuning.neurons] == sorted({one.neuron for one in twice.tuning.neurons})
    assert twice.total_contrast == pytest.approx(twice.unclustered_share, abs=1e-12)


def test_a_single_noun_is_one_word_and_numpy_s_numbers_are_numbers(right: Right) -> None:
    tokenizer = right.model.tokenizer
    assert set(neurons.year_spans(tokenizer, nouns="war", centuries=[17]).noun) == {"war"}
    plain = neurons.year_spans(tokenizer, nouns=3, centuries=[17], seed=2)
    numbers = {"nouns": np.int64(3), "centuries": np.array([17]), "seed": np.int32(2)}
    assert neurons.year_spans(tokenizer, **numbers).digest == plain.digest
    assert neurons.logit_effects(right.cache, years=np.arange(31, 33)).start_years == (31, 32)


def test_the_first_row_of_a_map_is_the_first_measured_start_year(right: Right) -> None:
    assert right.effects.start_years[0] == 2
    of_02 = right.effects.of(NEURON, start_year=2)
    np.testing.assert_allclose(right.effects.map_array(NEURON)[0], of_02, atol=1e-6)
    first_line = (neurons.LogitEffects.map_array.__doc__ or "").split("\n")[0]
    assert "row 0 is the first measured start year (02 by default)" in first_line
