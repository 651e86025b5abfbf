"""What pages show is what report.json holds, and that is what the library gives: for every neuron of a planted model.

Pages are made for all neurons of the cached layers; figures are not drawn, because they show the same numbers.
"""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from neurons.clustering.clusters import cluster
from neurons.clustering.results import Clustering
from neurons.decomposition.effects import LogitEffects, logit_effects
from neurons.decomposition.population import neuron_population
from neurons.ranking.ranking import rank
from neurons.ranking.results import Ranking
from neurons.report.blocks import with_space
from neurons.report.contents import Contents
from neurons.report.pages.index import index_page
from neurons.report.pages.neuron import neuron_page
from neurons.report.pages.provenance import provenance_page
from neurons.report.pages.ranking import LISTED
from neurons.report.render import Site, to_html
from neurons.report.weight_numbers import FromWeights
from neurons.task.years import contrast_weights
from neurons.types import NeuronId
from neurons.weights.neighbours import every_neuron, nearest, weight_features
from neurons.weights.statistics import neuron_statistics
from neurons.weights.text import study_text

SITE = Site(model="planted", footer="")
ON_TEXT = 4
"""Neurons that are looked at on text: each runs the model."""


class Shown(HTMLParser):
    """A page's terms with their values, its tables as rows of texts, and the rows that scripts hold."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.terms: dict[str, str] = {}
        self.tables: list[list[list[str]]] = []
        self.held: list[list[list]] = []
        self.tokens: list[tuple[str, str]] = []
        self._open: list[str] = []
        self._text = ""
        self._term = ""
        self._title = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self._open.append("rows" if tag == "script" and values.get("class") == "rows" else tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        if tag in {"dt", "dd", "td", "th", "script"}:
            self._text = ""
        if values.get("class") == "token":
            self._title = values["title"]
            self._text = ""

    def handle_data(self, data):
        self._text += data

    def handle_endtag(self, tag):
        opened = self._open.pop() if tag not in {"meta", "link", "img"} else tag
        text = self._text.strip()
        if tag == "dt":
            self._term = text
        elif tag == "dd":
            self.terms[self._term] = text
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append(text)
        elif opened == "rows":
            self.held.append(json.loads(self._text))
        elif tag == "span" and self._title:
            self.tokens.append((self._text.strip(), self._title))
            self._title = ""

    def handle_startendtag(self, tag, attrs):
        pass

    def table(self, first_column: str) -> list[list[str]]:
        """The rows of the table whose first column has this title, without its head."""
        (found,) = (rows[1:] for rows in self.tables if rows[0][0] == first_column)
        return found


VOID = re.compile(r"<(meta|link|img)\b[^>]*>")


def shown(page) -> Shown:
    return Shown(VOID.sub("", to_html(page, SITE)))


def read(text: str) -> tuple[float, float]:
    """The first number of a text, and half a unit of its last digit."""
    plain = text.replace("−", "-").replace(",", "")
    number, digits, power = re.match(r"(-?\d+(?:\.(\d+))?)(e[-+]\d+)?", plain).groups()
    scale = float(f"1{power or ''}")
    return float(number) * scale, 0.5 * 10.0 ** -len(digits or "") * scale * (1 + 1e-9)


def agrees(text: str, value: float | None) -> bool:
    """Whether a text shows this number, to the digits that it has."""
    if value is None:
        return text in {"–", "undefined"}
    found, half = read(text)
    if text.endswith("%"):
        found, half = found / 100, half / 100
    return abs(found - value) <= half + 1e-15


@pytest.fixture(scope="module")
def effects(planted_case) -> LogitEffects:
    return logit_effects(planted_case(0).cache)


@pytest.fixture(scope="module")
def ranking(effects: LogitEffects) -> Ranking:
    return rank(effects)


@pytest.fixture(scope="module")
def weights(planted_case, ranking) -> FromWeights:
    case = planted_case(0)
    every = every_neuron(case.cache.layers, case.cache.d_mlp)
    return FromWeights(
        neuron_statistics(case.model, case.cache.layers),
        study_text(case.model, case.cache, ranking.neurons[:ON_TEXT]),
        nearest(weight_features(case.model, case.cache.layers), every, every),
    )


@pytest.fixture(scope="module")
def clustering(effects: LogitEffects, ranking: Ranking) -> Clustering:
    return cluster(neuron_population(effects), ranking.boosting_neurons(), resamples=2)


@pytest.fixture(scope="module")
def report(effects: LogitEffects, ranking: Ranking, weights: FromWeights, clustering: Clustering) -> dict:
    """report.json, as it is read back."""
    contents = Contents(effects, ranking, ranking.neurons, clustering=clustering, weights=weights)
    return json.loads(json.dumps(contents.numbers("x"), allow_nan=False))


@pytest.fixture(scope="module")
def pages(report: dict) -> dict[str, Shown]:
    names = list(report["neurons"])
    return {
        name: shown(
            neuron_page(
                report["neurons"][name],
                report["start_years"],
                n_ranked=len(names),
                paged=frozenset(names),
                clustered=True,
            )
        )
        for name in names
    }


# --- the pages show report.json --------------------------------------------------------------------


def test_every_neuron_has_its_numbers(report, effects):
    assert len(report["neurons"]) == len(effects.layers) * effects.cache.d_mlp


@pytest.mark.parametrize(
    ("term", "key"),
    [
        ("95 % interval over centuries", "ci_low"),
        ("static part", "static"),
        ("direct effect, year-specific", "year_specific"),
        ("rank", "rank"),
    ],
)
def test_scores_on_the_pages_are_those_of_report_json(report, pages, term, key):
    for name, page in pages.items():
        assert agrees(page.terms[term], report["neurons"][name][key]), (name, page.terms[term])


def test_the_upper_end_of_the_interval_is_shown_too(report, pages):
    for name, page in pages.items():
        assert agrees(page.terms["95 % interval over centuries"].split(" to ")[1], report["neurons"][name]["ci_high"])


@pytest.mark.parametrize(
    ("term", "key"),
    [
        ("variance of the cosine", "variance"),
        ("skew", "skew"),
        ("kurtosis (normal: 3)", "kurtosis"),
        ("norm of w_out", "norm"),
        ("cosine of w_in and w_out", "in_out_cosine"),
        ("variance of the logits", "logit_variance"),
    ],
)
def test_moments_on_the_pages_are_those_of_report_json(report, pages, term, key):
    for name, page in pages.items():
        assert agrees(page.terms[term], report["neurons"][name]["weights"][key]), name


def test_neighbours_on_the_pages_are_those_of_report_json(report, pages):
    for name, page in pages.items():
        similar = report["neurons"][name]["similar"]
        for place, row in enumerate(page.table("by w_in")):
            for kind, (neighbour, cosine) in zip(
                ("w_in", "w_out", "tuning", "readout"), zip(row[::2], row[1::2], strict=True), strict=True
            ):
                assert neighbour == similar[kind][place]["neuron"]
                assert agrees(cosine, similar[kind][place]["cosine"])


def test_a_neuron_names_its_cluster(pages, clustering):
    cluster_of = {str(neuron): f"cluster {one.id}" for one in clustering.clusters for neuron in one.members}
    assert cluster_of
    assert {name: page.terms["cluster"] for name, page in pages.items() if "cluster" in page.terms} == cluster_of


def test_tokens_and_controls_on_the_pages_are_those_of_report_json(report, pages, ranking):
    for name in map(str, ranking.neurons[:ON_TEXT]):
        numbers, page = report["neurons"][name], pages[name]
        for place, row in enumerate(page.table("promoted")):
            up, down = numbers["vocabulary"]["promoted"][place], numbers["vocabulary"]["suppressed"][place]
            assert row[0] == with_space(up["token"])
            assert all(
                agrees(text, value)
                for text, value in zip(
                    [*row[1:3], *row[4:]], [up["logit"], up["cosine"], down["logit"], down["cosine"]], strict=True
                )
            )
        for row, control in zip(page.table("prompts"), numbers["controls"], strict=True):
            assert row[0] == control["kind"]
            assert all(agrees(t, control["summary"][k]) for t, k in zip(row[3:], ("mean", "min", "max"), strict=True))


def test_every_token_carries_its_activation(report, pages, ranking):
    for name in map(str, ranking.neurons[:ON_TEXT]):
        prompts = report["neurons"][name]["prompts"]
        values = [v for end in ("strongest", "weakest") for one in prompts[end] for v in one["activation"]]
        titles = [float(title) for _, title in pages[name].tokens]
        np.testing.assert_allclose(titles, values, rtol=5.1e-3, atol=1e-12)


def test_the_ranked_table_holds_the_first_neurons_and_all_that_boost_or_suppress(report, effects, ranking):
    index = shown(index_page(effects, ranking, report, lead="", paged=list(report["neurons"])))
    (rows,) = index.held
    listed = [one for one in report["ranking"] if one["rank"] <= LISTED or one["boosting"] or one["suppressing"]]
    assert any(one["rank"] > LISTED for one in listed)
    for row, record in zip(rows, listed, strict=True):
        assert row[0] == [f"{record['rank']:,}", record["rank"]]
        assert row[1][0] == record["neuron"]
        for cell, key in zip((row[5], *row[8:10]), ("ci_low", "year_specific", "static"), strict=True):
            assert agrees(cell[0], record[key]), (key, cell)
            assert cell[1] == pytest.approx(record[key], rel=1e-5)


def test_behaviour_and_layers_on_the_index_are_those_of_report_json(report, effects, ranking):
    index = shown(index_page(effects, ranking, report, lead="", paged=[]))
    behaviour, layers = (rows[1:] for rows in index.tables[:2])
    for row, run in zip(behaviour, ("model", "counterfactual", "average_distribution"), strict=True):
        found = report["behaviour"][run]
        values = [found[m][k] for m in ("probability_difference", "cutoff_sharpness") for k in ("mean", "sd")]
        assert all(map(agrees, row[1:], values))
    for row, part in zip(layers, report["layers"]["parts"], strict=True):
        assert row[0] == part["name"]
        assert all(map(agrees, row[1:], [part["contrast"], part["neurons"], part["bias"]]))


def test_the_page_of_provenance_names_what_report_json_does(report):
    page, found = shown(provenance_page(report)), report["provenance"]
    assert page.terms["checkpoint, SHA-256"] == found["model_sha256"]
    assert page.terms["prompt set, SHA-256"] == found["prompts_sha256"]
    assert page.terms["cache key, SHA-256"] == found["cache_key"]
    assert page.table("analysis") == [list(pair) for pair in found["analyses"].items()]
    assert all(page.terms[name] == version for name, version in found["versions"].items())


# --- report.json holds what the library gives -------------------------------------------------------


def test_records_are_the_rankings(report, ranking):
    for name, neuron in report["neurons"].items():
        record = ranking.record(ranking.row_of(name))
        assert {key: neuron[key] for key in record} == record


def test_curves_are_the_librarys(report, effects):
    """To the six digits that are kept."""
    for layer in effects.layers:
        tuning, readout, contrast = effects.tuning(layer), effects.readout(layer), effects.layer_contrast(layer)
        for index in range(effects.cache.d_mlp):
            found = report["neurons"][f"L{layer}N{index}"]
            np.testing.assert_allclose(found["tuning"], tuning[:, index], rtol=1e-5, atol=1e-12)
            np.testing.assert_allclose(found["readout"], readout[index], rtol=1e-5, atol=1e-12)
            size = np.abs(contrast[:, index]).max()
            np.testing.assert_allclose(found["contrast"], contrast[:, index], rtol=1e-5, atol=1e-5 * size + 1e-9)


def test_the_contrast_band_is_the_tunings_times_the_readouts(report):
    for found in report["neurons"].values():
        readout = np.array(found["readout"])
        value = contrast_weights(report["start_years"]) @ readout
        ends = np.sort([np.array(found[f"tuning_{end}"]) * value for end in ("low", "high")], axis=0)
        # six digits are kept of the readout, whose two means may nearly cancel
        rounding = 1e-5 * np.abs(readout).max() * np.abs([found["tuning_low"], found["tuning_high"]]).max()
        np.testing.assert_allclose(found["contrast_low"], ends[0], rtol=1e-4, atol=rounding)
        np.testing.assert_allclose(found["contrast_high"], ends[1], rtol=1e-4, atol=rounding)


def test_moments_are_the_statistics(report, weights):
    for name, neuron in report["neurons"].items():
        expected = json.loads(json.dumps(weights.statistics.record(name)))
        assert {key: neuron["weights"][key] for key in expected} == expected


def test_similar_neurons_are_those_of_closest_correlation(report, effects):
    """Against numpy's correlation, which centres and scales by itself; four digits are kept."""
    layers = effects.layers
    curves = {
        "tuning": np.concatenate([effects.tuning(layer).T for layer in layers]).astype(float),
        "readout": np.concatenate([effects.readout(layer) for layer in layers]).astype(float),
    }
    names = list(map(str, every_neuron(layers, effects.cache.d_mlp)))
    for kind, rows in curves.items():
        alive = np.ptp(rows, axis=1) > 1e-6 * np.abs(rows).max(1)
        correlation = np.corrcoef(rows[alive])
        np.fill_diagonal(correlation, -np.inf)
        for name, best in zip(np.array(names)[alive], correlation.max(1), strict=True):
            assert report["neurons"][name]["similar"][kind][0]["cosine"] == pytest.approx(best, rel=1e-3, abs=1e-3)


def test_text_is_the_studys(report, weights):
    for one in weights.text.neurons:
        found = report["neurons"][str(one.neuron)]
        assert found["vocabulary"]["counts"] == one.vocabulary.counts.tolist()
        assert [token["token"] for token in found["vocabulary"]["promoted"]] == list(one.vocabulary.promoted.texts)
        for end in ("strongest", "weakest"):
            for prompt, kept in zip(found["prompts"][end], getattr(one, end), strict=True):
                assert prompt["tokens"] == list(kept.texts)
                np.testing.assert_allclose(prompt["activation"], kept.activation, rtol=1e-5, atol=1e-12)
        for control, curve in zip(found["controls"], one.controls, strict=True):
            np.testing.assert_allclose(control["mean"], curve.mean, rtol=1e-5, atol=1e-12)


def test_a_neuron_that_was_not_looked_at_on_text_says_nothing_of_it(report, pages, ranking):
    name = str(ranking.neurons[-1])
    assert report["neurons"][name]["prompts"] is None
    assert not pages[name].tokens
    assert NeuronId.parse(name) in ranking.neurons
