"""Routes in results, pages, figures and the command: what is shown is what was found."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurons.cache.format import Cache
from neurons.decomposition.effects import logit_effects
from neurons.ranking.ranking import rank
from neurons.report.blocks import Gallery, Table, Text
from neurons.report.contents import Contents
from neurons.report.figures.causal_plots import route_matrix
from neurons.report.pages.sections.routes import route_sections
from neurons.report.report import write_report
from neurons.routes.results import ROUTES, Routes, Split
from neurons.types import NeuronId

NEURONS = tuple(NeuronId(layer, index) for layer in (8, 9, 11) for index in range(4))


@pytest.fixture
def routes() -> Routes:
    """Made-up routes of twelve neurons of three layers, of which the first three were ablated alone."""
    rng, n = np.random.default_rng(0), len(NEURONS)
    layer = np.array([neuron.layer for neuron in NEURONS])
    edges = np.where(layer[:, None] < layer, rng.normal(size=(n, n)), 0) / 1000
    parts = rng.normal(size=(n, 4))
    share = Split("share", NEURONS, NEURONS, parts, parts - 1, parts + 1, edges, 50)
    effect = replace(share, of="total effect", neurons=NEURONS[:3], parts=-parts[:3], edges=edges[:3],
                     low=np.full((3, 4), np.nan), high=np.full((3, 4), np.nan))  # fmt: skip
    return Routes("mini", "probability_difference", share, effect, draws=4, steps=6)


def test_json_holds_the_sums_every_record_and_the_matrix(routes: Routes) -> None:
    found = json.loads(json.dumps(routes.to_json(), allow_nan=False))
    assert found["total"] == pytest.approx(sum(found[name] for name in ROUTES))
    assert [one["neuron"] for one in found["share"]] == found["matrix"]["neurons"] == list(map(str, NEURONS))
    assert found["matrix"]["values"] == routes.share.edges.tolist()
    assert found["effect"][0]["direct_low"] is None
    first = found["share"][0]
    left = first["neurons"] - sum(routes.share.edges[0])
    assert first["other_neurons"] == pytest.approx(left)


def test_arrays_have_names(routes: Routes) -> None:
    found = routes.to_xarray()
    assert float(found["edges"].sel(neuron="L8N0", later_neuron="L11N3")) == routes.share.edges[0, 11]
    assert found["parts"].sel(route="scale").values.tolist() == routes.share.parts[:, 1].tolist()


def test_a_neuron_outside_the_set_has_no_routes_and_a_late_one_no_effect(routes: Routes) -> None:
    assert routes.of_neuron(NeuronId(10, 0)) is None
    late = routes.of_neuron(NEURONS[5])
    assert late is not None
    assert late["effect"] is None


def test_the_matrix_is_drawn_in_order_of_tuning_centre(routes: Routes) -> None:
    """Rows and columns in one order, neurons without a centre last."""
    centres = [90.0, np.nan, 10.0, *map(float, range(20, 29))]
    (section,) = route_sections(routes, centres, frozenset())
    gallery = next(block for block in section.blocks if isinstance(block, Gallery))
    image = gallery.pictures[0].draw().axes[0].get_images()[0].get_array()
    order = [2, *range(3, 12), 0, 1]
    expected = 1000 * routes.share.edges[np.ix_(order, order)]
    np.testing.assert_allclose(np.nan_to_num(np.asarray(image)), expected)
    labels = [one.get_text() for one in gallery.pictures[0].draw().axes[0].get_xticklabels()]
    assert labels[0] == "10"
    assert labels[-1] == "–"


def test_the_section_says_the_sums_and_the_largest_edge_first(routes: Routes) -> None:
    (section,) = route_sections(routes, [1.0] * 12, frozenset({"L8N0"}))
    text, *_ = (block for block in section.blocks if isinstance(block, Text))
    assert text.parts[0].startswith("The 12 neurons of the set share ")
    table = next(block for block in section.blocks if isinstance(block, Table))
    sizes = [abs(row[2]) for row in table.rows]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == np.abs(routes.share.edges).max()


def test_one_neuron_alone_has_a_matrix_too(routes: Routes) -> None:
    assert route_matrix(np.zeros((1, 1)), [np.nan]).axes


def test_the_report_shows_routes_on_the_page_of_composition_and_of_each_neuron(
    mini_cache: Cache, routes: Routes, tmp_path: Path
) -> None:
    effects = logit_effects(mini_cache)
    contents = Contents(effects, rank(effects), (NEURONS[0], NeuronId(10, 0)), routes=routes)
    write_report(contents, folder=tmp_path / "mini", command="x")
    followed, not_followed = ((tmp_path / "mini" / "neurons" / f"{name}.html").read_text(encoding="utf-8")
                              for name in ("L8N0", "L10N0"))  # fmt: skip
    assert "Routes to the answer" in followed
    assert "Routes to the answer" not in not_followed
    numbers = json.loads((tmp_path / "mini" / "report.json").read_text(encoding="utf-8"))["neurons"]
    assert numbers["L8N0"]["routes"]["share"]["total"] == pytest.approx(routes.share.total[0])
    assert numbers["L10N0"]["routes"] is None
