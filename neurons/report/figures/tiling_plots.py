"""Figures of the tiling law and of faithfulness, in the style of `plots`; results in, matplotlib Figures out."""

import base64
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from neurons.regression.faithfulness_results import Faithfulness, Recovered
from neurons.regression.results import Sparse
from neurons.regression.tiling_results import Exchange, Placed, Tiling
from neurons.report.blocks import Panel
from neurons.report.figures.plots import (
    CENTRED,
    COLUMN,
    LAYER_COLOURS,
    START_YEAR,
    WIDE,
    YEAR,
    add_axes,
    draw_colour_bar,
    draw_map,
    full_rows,
    legend_above,
    limit,
    new_figure,
    plain_ticks,
    styled,
)
from neurons.task.years import N_YEARS

SHARPNESS, DIFFERENCE, R2 = LAYER_COLOURS[0], LAYER_COLOURS[1], LAYER_COLOURS[2]
LEFT, RIGHT, GAP, TOP, LOW = 0.5, 0.72, 0.2, 0.46, 0.42
"""Inches: margins of the figure of the tiling, and what is between its panels."""
ROWS_HIGH = 2.35
PANELS = 4
SMALL = 8
"""Neurons of the first panel of the growing map; the next has the square root of what is left."""
BRIGHT = 99.5
"""Percentile of the sizes of the whole map at which the colours end: a corner would dim all else."""
TOO_MANY = 400
"""Neurons from which marks of single neurons are points without their uncertainty."""


SIDE = (WIDE - LEFT - RIGHT - (PANELS - 1) * GAP) / PANELS
HIGH = TOP + ROWS_HIGH + LOW + 0.42 + SIDE + LOW
"""Inches: side of a map of the sum, height of the figure."""


def _heat_boxes() -> list[tuple[float, float, float, float]]:
    """Left, bottom, width and height of tuning and readout, inches."""
    width = (WIDE - LEFT - RIGHT - GAP) / 2
    return [(LEFT + place * (width + GAP), HIGH - TOP - ROWS_HIGH, width, ROWS_HIGH) for place in range(2)]


def tiling_panels(found: Tiling, sparse: Sparse) -> tuple[Panel, ...]:
    """The heat maps of `tiling_figure`, for values under the pointer."""
    years, names = found.start_years, tuple(map(_named, found.neurons))
    part = "of the neuron's largest"
    tuning, readout = _heat_boxes()
    panels = [
        _panel("tuning", tuning, full_rows(found.tuning, years).T, names, (START_YEAR, years[0]), part),
        _panel("readout", readout, found.readout, names, (YEAR, 0), part),
    ]
    rows = tuple(f"{START_YEAR} {year:02d}" for year in range(years[0], years[-1] + 1))
    for place, k in enumerate(panel_sizes(sparse, len(found))):
        box = (LEFT + place * (SIDE + GAP), LOW, SIDE, SIDE)
        values = full_rows(sparse.maps[sparse.sizes.index(k)], years)
        panels.append(_panel(f"first {k:,} by share", box, values, rows, (YEAR, 0), "logits, centred"))
    return tuple(panels)


def _named(one: Placed) -> str:
    error = "" if one.centre_error is None else f" ± {2 * one.centre_error:.1f}"
    return f"{one.neuron} (centre {one.centre:.1f}{error}, edge {one.edge}, share {one.share:.4f})"


def _panel(
    title: str,
    box: tuple[float, float, float, float],
    values: Float[np.ndarray, "rows columns"],
    rows: tuple[str, ...],
    columns: tuple[str, int],
    unit: str,
) -> Panel:
    """box: left, bottom, width and height in inches. What was not measured is 0."""
    left, low, width, height = box
    unit_of = limit(values) / 127
    steps = np.round(np.nan_to_num(values) / unit_of).astype(np.int8)
    place = (left / WIDE, 1 - (low + height) / HIGH, width / WIDE, height / HIGH)
    return Panel(title, place, rows, *columns, base64.b64encode(steps.tobytes()).decode(), unit_of, unit)


@styled
def tiling_figure(found: Tiling, sparse: Sparse) -> Figure:
    """Neurons by tuning centre: tuning and readout as heat maps, centre and edge marked; the summed map as it grows."""
    figure, side, boxes = new_figure(WIDE, HIGH), SIDE, _heat_boxes()
    tuning, readout = (_axes(figure, *box) for box in boxes)
    norm = Normalize(-1, 1)
    years = found.start_years
    _heat(tuning, full_rows(found.tuning, years), (years[0] - 0.5, years[-1] + 0.5), norm)
    _heat(readout, found.readout.T, (-0.5, N_YEARS - 0.5), norm)
    _mark(tuning, readout, found)
    tuning.set(xlabel=START_YEAR, ylabel=f"{len(found)} neurons, by centre")
    readout.set(xlabel=YEAR)
    tuning.set_title("Tuning: activation by start year", loc="left", pad=17)
    readout.set_title("Readout: effect on the year logits", loc="left", pad=17)
    readout.tick_params(labelleft=False)
    bar = _axes(figure, WIDE - RIGHT + 0.08, boxes[0][1], 0.1, ROWS_HIGH)
    draw_colour_bar(bar, colours=CENTRED, norm=norm, label="of the neuron's largest")
    _growing(figure, found, sparse, side)
    return figure


def _axes(figure: Figure, left: float, low: float, width: float, height: float) -> Axes:
    whole = figure.get_size_inches()
    return figure.add_axes((left / whole[0], low / whole[1], width / whole[0], height / whole[1]))


def _heat(axes: Axes, values: Float[np.ndarray, "X M"], ends: tuple[float, float], norm: Normalize) -> None:
    """Neurons as rows, the first on top."""
    M = values.shape[1]
    axes.imshow(values.T, cmap=CENTRED, norm=norm, extent=(*ends, M, 0), interpolation="none", aspect="auto")
    axes.set(xlim=ends, ylim=(M, 0))
    axes.spines[["top", "right"]].set_visible(True)
    plain_ticks(axes, whole="xy")


def _mark(tuning: Axes, readout: Axes, found: Tiling) -> None:
    """Centres with their 95 % reach on the tuning, edges with the steps as good on the readout, centres beside them."""
    rows = np.arange(len(found)) + 0.5
    centre = np.array([one.centre for one in found.neurons])
    edge = np.array([one.edge + 0.5 for one in found.neurons])
    error = np.array([2 * (one.centre_error or 0.0) for one in found.neurons])
    low = np.array([one.edge - one.edge_low for one in found.neurons])
    high = np.array([one.edge_high - one.edge for one in found.neurons])
    single = len(found) < TOO_MANY
    for axes, x, below, above, name in (
        (tuning, centre, error, error, "centre ± 2 standard errors"),
        (readout, edge, low, high, "edge, and steps nearly as good"),
    ):
        if single:
            reach = np.stack([x - below, x + above, np.full(len(x), np.nan)], 1).ravel()
            axes.plot(reach, np.repeat(rows, 3), color="black", linewidth=0.5, alpha=0.6, label="_reach")
        axes.plot(x, rows, ".", color="black", markersize=2.5 if single else 1, label=name)
    readout.plot(centre, rows, color="black", linewidth=0.9, dashes=(1, 1.2), label="centre")
    for axes in (tuning, readout):
        axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.01), ncols=2, handlelength=1.2, borderaxespad=0,
                    borderpad=0.2, columnspacing=1)  # fmt: skip


def _growing(figure: Figure, found: Tiling, sparse: Sparse, side: float) -> None:
    """The summed map of the first neurons by share, one colour scale for all."""
    sizes = panel_sizes(sparse, len(found))
    places = [sparse.sizes.index(k) for k in sizes]
    size = float(np.percentile(np.abs(sparse.maps[-1]), BRIGHT)) or limit(sparse.maps)
    norm = Normalize(-size, size)
    for place, k in enumerate(sizes):
        axes = _axes(figure, LEFT + place * (side + GAP), LOW, side, side)
        draw_map(axes, sparse.maps[places[place]], found.start_years, colours=CENTRED, norm=norm)
        name = f"all {k:,} neurons" if k == sparse.sizes[-1] else f"first {k:,} by share"
        axes.set_title(f"{name}\n{_made(sparse, k)}", pad=3, linespacing=1.3)
        axes.set_ylabel(START_YEAR if place == 0 else "")
        axes.tick_params(labelleft=place == 0)
    bar = _axes(figure, WIDE - RIGHT + 0.08, LOW, 0.1, side)
    draw_colour_bar(bar, colours=CENTRED, norm=norm, label="logits, centred")


def panel_sizes(sparse: Sparse, of_set: int) -> list[int]:
    """At most four sizes: few, some, the set's (the nearest below where it is none of them), all."""
    last = sparse.sizes[-1]
    wanted = (SMALL, int(np.sqrt(SMALL * max(of_set, SMALL))), of_set, last)
    chosen = {max((k for k in sparse.sizes if k <= one), default=last) for one in wanted}
    return sorted(chosen)


def _made(sparse: Sparse, k: int) -> str:
    record = sparse.record(k)
    if record["cutoff_sharpness"] is None:
        return f"R² of the map {record['r2']:.2f}"
    return (
        f"R² {record['r2']:.2f}, PD {record['probability_difference']:.2f}, CS {record['cutoff_sharpness']:.2f}"
    ).replace("-", "−")


@styled
def law_scatter(found: Tiling) -> Figure:
    """Readout edge against tuning centre, a point a neuron, area by share."""
    figure = new_figure(height=COLUMN - 0.74 + 0.64)
    axes = add_axes(figure)
    share = np.array([one.share for one in found.neurons])
    axes.plot([0, 99], [0, 99], color="black", linewidth=0.7, dashes=(4, 2), label="edge at the centre")
    if found.law.offset is not None:
        x = np.array([0.0, 99.0])
        axes.plot(
            x, x + found.law.offset, color=DIFFERENCE, linewidth=0.9, label=f"{-found.law.offset:.0f} years before it"
        )
    area = 40 * np.maximum(share, 0) / max(share.max(initial=0.0), 1e-300) + 2
    axes.scatter([one.centre for one in found.neurons], [one.edge for one in found.neurons], s=area, color=SHARPNESS,
                 alpha=0.6, linewidths=0)  # fmt: skip
    axes.set(xlabel="tuning centre (start year)", ylabel="readout edge (year)", xlim=(0, 99), ylim=(0, 99))
    plain_ticks(axes, whole="xy")
    axes.legend(loc="upper left")
    return figure


@styled
def exchange_curve(found: Exchange) -> Figure:
    """Recovered behaviour against the distance between the centres of partners; dashed: partners drawn at random."""
    figure = new_figure()
    axes = add_axes(figure, bottom=0.55)
    at = np.arange(len(found.by_distance), dtype=float)
    for name, colour, label in (
        ("cutoff_sharpness", SHARPNESS, "cutoff sharpness"),
        ("probability_difference", DIFFERENCE, "probability difference"),
    ):
        _points(axes, at, [getattr(one, name) for one in found.by_distance], colour, label, line=True)
        axes.axhline(getattr(found.at_random, name).value, color=colour, linewidth=0.8, dashes=(3, 2))
    axes.set_xticks(at, [f"{low}–{high}" if high < N_YEARS else f"over {low}" for low, high in
                         (one.years for one in found.by_distance)])  # fmt: skip
    axes.set(xlabel="years between tuning centres", ylabel="recovered", ylim=(0, None))
    axes.axhline(1, color="black", linewidth=0.6)
    legend_above(axes)
    return figure


def _points(
    axes: Axes, at: Float[np.ndarray, " n"], values: Sequence[Recovered], colour: str, label: str, *, line: bool
) -> None:
    """Values with their intervals: along x where joined by a line, else along y."""
    mean = np.array([one.value for one in values])
    ends = [(one.ci_low if one.ci_low is not None else one.value, one.ci_high if one.ci_high is not None else one.value)
            for one in values]  # fmt: skip
    low, high = np.array(ends).reshape(-1, 2).T
    if line:
        axes.plot(at, mean, "o-", color=colour, markersize=3, label=label)
        axes.vlines(at, low, high, color=colour)
    else:
        axes.plot(mean, at, "o", color=colour, markersize=3.5, label=label)
        axes.hlines(at, low, high, color=colour)


@styled
def faithfulness_points(found: Faithfulness) -> Figure:
    """What each description recovers of both measures, with intervals over centuries."""
    rows = len(found.rows)
    figure = new_figure(WIDE, 0.16 * rows + 0.8)
    axes = add_axes(figure, left=1.9, top=0.3)
    at = np.arange(rows, dtype=float)
    _points(
        axes, at, [one.probability_difference for one in found.rows], DIFFERENCE, "probability difference", line=False
    )
    _points(axes, at, [one.cutoff_sharpness for one in found.rows], SHARPNESS, "cutoff sharpness", line=False)
    axes.set_yticks(at, [one.description for one in found.rows])
    for value in (0, 1):
        axes.axvline(value, color="black", linewidth=0.6)
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set(xlabel="recovered of clean minus floor", ylim=(rows - 0.4, -0.6))
    legend_above(axes)
    return figure


@styled
def sparse_curve(found: Sparse) -> Figure:
    """R^2 of the map and recovered behaviour with the first k neurons, on a logarithmic axis."""
    figure = new_figure()
    axes = add_axes(figure)
    for values, colour, label in (
        (found.probability_difference, DIFFERENCE, "probability difference"),
        (found.cutoff_sharpness, SHARPNESS, "cutoff sharpness"),
        (found.r2, R2, "R² of the map"),
    ):
        if values is not None:
            axes.plot(found.sizes, values, color=colour, label=label)
    axes.axhline(1, color="black", linewidth=0.6)
    axes.set(xscale="log", xlabel="first k neurons by share", ylabel="recovered, R²")
    axes.legend(loc="best")
    return figure
