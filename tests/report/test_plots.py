"""Figures: what they show, on which scales, and that a file of them is the same each time."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from neurons.report.figures import model_plots, plots
from neurons.report.figures.files import save
from neurons.types import OutputError

YEARS = tuple(range(2, 99))


@pytest.fixture
def effect() -> np.ndarray:
    """Raises later years more strongly than it lowers the others."""
    return np.where(np.arange(100)[None, :] > np.array(YEARS)[:, None], 3.0, -1.0)


def image_of(figure: Figure, place: int = 0) -> np.ma.MaskedArray:
    return figure.axes[place].images[0].get_array()


def test_effect_map_colours_are_centred_at_zero(effect):
    image = plots.effect_map(effect, YEARS).axes[0].images[0]
    assert image.get_clim() == (-3.0, 3.0)


def test_effect_map_shows_the_effect_cell_by_cell(effect):
    image = plots.effect_map(effect, YEARS).axes[0].images[0]
    np.testing.assert_array_equal(image.get_array(), effect)
    assert image.get_extent() == [-0.5, 99.5, 98.5, 1.5]


def test_diagonal_runs_through_the_cells_where_the_year_is_the_start_year(effect):
    line = plots.effect_map(effect, YEARS).axes[0].lines[0]
    np.testing.assert_array_equal(line.get_xydata(), [[2, 2], [98, 98]])


def test_start_years_that_were_not_measured_are_left_blank(effect):
    years = (2, 3, 6)
    shown = image_of(plots.effect_map(effect[:3], years))
    assert np.ma.getmaskarray(np.ma.masked_invalid(shown)).all(1).tolist() == [False, False, True, True, False]


def test_part_maps_share_one_scale(effect):
    figure = plots.part_maps({"first": effect, "second": 4 * effect}, YEARS)
    assert {axes.images[0].get_clim() for axes in figure.axes} == {(-12.0, 12.0)}


def test_probabilities_start_at_zero(effect):
    assert plots.probability_map(np.abs(effect) / 400, YEARS).axes[0].images[0].get_clim()[0] == 0.0


def test_every_axis_of_a_map_is_labelled_with_its_unit(effect):
    axes, bar = plots.effect_map(effect, YEARS).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("year y", "start year YY")
    assert bar.get_ylabel() == "effect on the logit (logits)"


def test_score_distribution_counts_every_neuron_once():
    score = np.linspace(-1, 2, 50)
    boosting, suppressing = score > 1.5, score < -0.8
    bars = model_plots.score_distribution(score, boosting, suppressing, what="share").axes[0].patches
    assert sum(bar.get_height() for bar in bars) == 50


def test_digit_tables_have_a_row_a_decade():
    figure = plots.digit_tables(np.arange(100.0), -np.arange(100.0))
    np.testing.assert_array_equal(image_of(figure)[3], np.arange(30, 40))


def test_curve_draws_band_and_fit():
    x = [2, 3, 4]
    mean = np.array([1.0, 2.0, 3.0])
    axes = plots.curve(x, mean, mean - 1, mean + 1, xlabel="x", ylabel="y", band="band", fit=mean**2).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["band", "fit"]


def test_figures_are_as_wide_as_a_column(effect):
    assert plots.effect_map(effect, YEARS).get_size_inches()[0] == plots.COLUMN


def test_flat_effect_is_drawn():
    assert plots.effect_map(np.zeros((97, 100)), YEARS).axes[0].images[0].get_clim() == (-1.0, 1.0)


@pytest.mark.parametrize("suffix", [".svg", ".pdf", ".png"])
def test_the_same_figure_gives_the_same_bytes(effect, tmp_path, suffix):
    files = [tmp_path / f"{n}{suffix}" for n in "ab"]
    for file in files:
        save(plots.effect_map(effect, YEARS), file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_images_in_svg_keep_every_pixel(effect, tmp_path, monkeypatch):
    """By a palette, which is smaller, and exact."""

    def pixels(name: str) -> list[np.ndarray]:
        save(plots.effect_map(effect, YEARS), tmp_path / name)
        encoded = re.findall(r'data:image/png;base64,([^"]+)', (tmp_path / name).read_text(encoding="utf-8"))
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGBA")) for one in encoded]

    by_palette = pixels("a.svg")
    monkeypatch.setattr("neurons.report.figures.files._with_palette", lambda encoded: encoded)
    for one, plain in zip(by_palette, pixels("b.svg"), strict=True):
        np.testing.assert_array_equal(one, plain)
    assert (tmp_path / "a.svg").stat().st_size < (tmp_path / "b.svg").stat().st_size


def test_fonts_are_embedded_in_pdf(effect, tmp_path):
    save(plots.effect_map(effect, YEARS), tmp_path / "map.pdf")
    assert b"/FontFile2" in (tmp_path / "map.pdf").read_bytes()


def test_figures_leave_no_trace_in_the_global_style(effect):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    plots.effect_map(effect, YEARS)
    assert dict(mpl.rcParams) == before


def test_unwritable_figure_is_one_line(effect, tmp_path):
    with pytest.raises(OutputError, match=r"figure .*missing/map\.svg' cannot be written"):
        save(plots.effect_map(effect, YEARS), Path(tmp_path / "missing" / "map.svg"))


def test_the_map_of_positions_has_layer_0_at_the_bottom_and_names_end():
    part = np.array([[0.0, 0.1, 0.2], [0.0, 0.3, 0.4]])
    axes, bar = model_plots.position_map(part, ["BOS", "YY", "XX"]).axes
    np.testing.assert_array_equal(axes.images[0].get_array(), part)
    assert axes.get_ylim()[0] < axes.get_ylim()[1]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["BOS", "YY", "XX (END)"]
    assert bar.get_ylabel() == "share"
