"""A figure's CSV holds what the figure shows."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurons.report import drawing
from neurons.report.blocks import Gallery, Page, Picture, Section
from neurons.report.drawing import draw_pictures
from neurons.report.figures import model_plots, plots
from neurons.report.figures.files import figure_data


def rows_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_a_map_is_a_table_of_its_values_by_its_years() -> None:
    values = np.random.default_rng(0).normal(size=(3, 100))
    panel, head, *rows = rows_of(figure_data(plots.effect_map(values, [31, 32, 33], label="logits")))
    assert panel[0] == "# panel"
    assert [float(year) for year in head[1:]] == list(range(100))
    assert [float(row[0]) for row in rows] == [31, 32, 33]
    np.testing.assert_allclose(np.array(rows)[:, 1:].astype(float), values, rtol=1e-5)


def test_lying_bars_have_their_names_and_lengths() -> None:
    _, head, *rows = rows_of(figure_data(model_plots.layer_bars({"MLP 8": 0.5, "MLP 9": -0.25}, {"MLP 8": 0.1})))
    assert head[1] == "mean contrast (logits)"
    assert ["neurons", "0.5", "MLP 8"] in rows
    assert ["neurons", "-0.25", "MLP 9"] in rows
    assert ["output bias", "0.1", "MLP 8"] in rows


def test_curves_are_points_and_guide_lines_are_left_out() -> None:
    curves = {"MLP 8": np.array([0.5, 0.25]), "rest": np.array([-1.0, np.nan])}
    _, _, *rows = rows_of(figure_data(model_plots.layer_curves(curves, [2, 3])))
    assert {tuple(row) for row in rows} >= {("MLP 8", "2", "0.5"), ("MLP 8", "3", "0.25"), ("rest", "2", "-1")}


def test_many_figures_are_drawn_in_other_processes_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "MANY", 4)
    values = np.eye(3, 100)
    pictures = tuple(Picture(f"map-{i}", _MapOf(values * (i + 1)), "alt", "caption") for i in range(4))
    written = {}
    for name, shown in (("few", pictures[:2]), ("many", pictures)):
        (folder := tmp_path / name).mkdir()
        draw_pictures([Page("index", "title", "lead", (Section("maps", (Gallery(shown),)),))], folder, figures="png")
        written[name] = {path.name: path.read_bytes() for path in sorted((folder / "figures").glob("map*"))}
    assert len(written["many"]) == 2 * 4
    assert {name: written["many"][name] for name in written["few"]} == written["few"]


def test_a_figure_of_the_report_before_is_drawn_again_only_where_something_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    real = drawing.draw
    monkeypatch.setattr(drawing, "draw", lambda task: (drawn.append(task.picture.name), real(task)))

    def written(name: str, *values: np.ndarray, **options: Any) -> dict[str, bytes]:
        (folder := tmp_path / name).mkdir()
        shown = tuple(Picture(f"map-{i}", _MapOf(one), "alt", "caption") for i, one in enumerate(values))
        drawn.clear()
        draw_pictures([Page("index", "title", "lead", (Section("maps", (Gallery(shown),)),))], folder, **options)
        return {path.name: path.read_bytes() for path in sorted((folder / "figures").iterdir())}

    one, other = np.eye(3, 100), 2 * np.eye(3, 100)
    first = written("first", one, one)
    assert drawn == ["map-0", "map-1"]
    assert written("same", one, one, before=tmp_path / "first") == first
    assert drawn == []
    changed = written("changed", one, other, before=tmp_path / "first")
    assert drawn == ["map-1"]
    assert changed["map-0.svg"] == first["map-0.svg"]
    assert changed["map-1.csv"] != first["map-1.csv"]
    written("pdf", one, one, before=tmp_path / "first", figures="pdf")
    assert drawn == ["map-0", "map-1"], "for a paper all are drawn"
    (tmp_path / "first" / "figures" / "map-1.svg").unlink()
    written("lost", one, one, before=tmp_path / "first")
    assert drawn == ["map-1"]
    monkeypatch.setattr(drawing, "_code", lambda: b"another program")
    written("newer", one, one, before=tmp_path / "same")
    assert drawn == ["map-0", "map-1"]


def test_figures_for_a_paper_are_named_after_their_page_and_number(tmp_path: Path) -> None:
    one, two = (Picture(name, _MapOf(np.eye(3, 100)), "alt", "caption") for name in ("one", "two"))
    pages = [
        Page("index", "title", "lead", (Section("maps", (Gallery((one, two)),)),)),
        Page("neurons/L9N43", "title", "lead", (Section("maps", (Gallery((two,)),)),)),
    ]
    draw_pictures(pages, tmp_path, figures="pdf")
    assert sorted(path.name for path in (tmp_path / "paper").iterdir()) == [
        "index-figure-01-one.pdf", "index-figure-02-two.pdf", "neurons-L9N43-figure-01-two.pdf",
    ]  # fmt: skip
    assert b"/FontFile2" in (tmp_path / "paper" / "index-figure-01-one.pdf").read_bytes()


class _MapOf:
    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __call__(self) -> object:
        return plots.effect_map(self.values, [31, 32, 33], label="logits")
