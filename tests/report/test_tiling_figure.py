"""The figure of the tiling: its values under the pointer are those of the heat maps."""

import base64
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from browsers import browser_needed

from neurons.cache.format import Cache
from neurons.clustering.tuning import tune
from neurons.decomposition.effects import logit_effects
from neurons.decomposition.population import neuron_population
from neurons.regression.composition import compose
from neurons.regression.results import Sparse
from neurons.regression.tiling import tile
from neurons.regression.tiling_results import Tiling
from neurons.report.blocks import Gallery, Page, Panel, Picture, Section
from neurons.report.drawing import draw_pictures
from neurons.report.figures.plots import WIDE
from neurons.report.figures.tiling_plots import tiling_figure, tiling_panels
from neurons.report.render import Site, write_assets, write_page


@pytest.fixture(scope="module")
def found(mini_cache: Cache) -> tuple[Tiling, Sparse]:
    population = neuron_population(logit_effects(mini_cache))
    rows = np.argsort(-np.abs(population.score))[:30]
    sparse = compose(population, tune(population.take(rows[:2])), groups={}).sparse
    return tile(population, rows, np.ones(len(rows)), exchange=None), sparse


def values_of(panel: Panel) -> np.ndarray:
    steps = np.frombuffer(base64.b64decode(panel.values), np.int8)
    return steps.reshape(len(panel.rows), -1) * panel.unit_of


def test_values_under_the_pointer_are_those_drawn(found: tuple[Tiling, Sparse]) -> None:
    """To a 127th of the largest; each panel lies where its axes do."""
    figure, panels = tiling_figure(*found), tiling_panels(*found)
    drawn = [axes for axes in figure.axes if axes.get_images() and axes.get_xticks().size]
    assert len(drawn) == len(panels)
    for axes, panel in zip(drawn, panels, strict=True):
        values = np.nan_to_num(np.asarray(axes.get_images()[0].get_array(), float))
        np.testing.assert_allclose(values_of(panel), values, atol=0.51 * panel.unit_of)
        box = axes.get_position()
        assert panel.box == pytest.approx((box.x0, 1 - box.y1, box.width, box.height))


def test_rows_name_neurons_with_their_places(found: tuple[Tiling, Sparse]) -> None:
    tiling = found[0]
    panel = tiling_panels(*found)[0]
    for row, one in zip(panel.rows, tiling.neurons, strict=True):
        assert row.startswith(f"{one.neuron} (centre {one.centre:.1f}")
        assert f"edge {one.edge}" in row


@browser_needed
def test_the_pointer_shows_the_value_of_a_cell(found: tuple[Tiling, Sparse], page, tmp_path: Path) -> None:
    panels = tiling_panels(*found)
    picture = Picture("tiling", partial(tiling_figure, *found), "alt", "caption", wide=True, panels=panels)
    shown = Page("index", "title", "lead", (Section("Finding", (Gallery((picture,)),)),))
    write_assets(tmp_path)
    draw_pictures([shown], tmp_path)
    write_page(shown, Site(model="mini", footer=""), tmp_path)
    page.goto((tmp_path / "index.html").as_uri())
    image = page.locator("figure img").bounding_box()
    panel, row, column = panels[1], 7, 40
    left, top, width, height = panel.box
    page.mouse.move(
        image["x"] + image["width"] * (left + width * (column + 0.5) / 100),
        image["y"] + image["height"] * (top + height * (row + 0.5) / len(panel.rows)),
    )
    value = f"{values_of(panel)[row, column]:.2f}".replace("-", "−")
    expected = f"readout: {panel.rows[row]}, year y 40: {value} of the neuron's largest"
    assert page.locator(".under").inner_text() == expected
    page.mouse.move(1, 1)
    assert page.locator(".under").inner_text() == "Point at a heat map for its values."


def test_the_figure_spans_both_columns(found: tuple[Tiling, Sparse]) -> None:
    assert tiling_figure(*found).get_size_inches()[0] == pytest.approx(174 / 25.4) == WIDE
