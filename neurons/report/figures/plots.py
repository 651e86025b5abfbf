"""Results to matplotlib Figures: one function a kind of figure, one style for all, no pyplot state.

1. `STYLE` and the colours say how every figure looks: column width, fonts, colour-blind safe colours.
2. A figure is laid out by fixed margins in inches, which is quick and the same on every machine.
3. `files.save` writes SVG, PDF or PNG; the same figure gives the same bytes each time.

Maps have the start year YY as rows (00 on top) and the answer's year as columns, so "later than YY" is the
upper right triangle. Colours are centred at zero: red raises a year's logit, blue lowers it.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neurons.task.years import N_YEARS

COLUMN, WIDE = 84 / 25.4, 174 / 25.4
"""Widths of all figures, inches: one column of a two-column paper, and both."""
HEIGHT = 2.4
SQUARE_MAP = COLUMN - 0.62 - 0.85 + 0.42 + 0.22
"""Height of a column's figure whose map is a square beside its colour scale."""
LEGEND_COLUMNS = 3

RAISES, LOWERS, NEUTRAL, ACCENT = "#b2182b", "#2166ac", "#4d4d4d", "#d55e00"
CENTRED, SEQUENTIAL, NO_DATA = "RdBu_r", "YlGnBu", "#d9d9d9"
LAYER_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")
"""Okabe and Ito's palette: told apart with every common colour blindness."""

Draw = Callable[[], Figure]
"""Draws a figure when it is written."""

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.titley": 1.0,  # else each drawing measures all tick labels to place it
    "axes.labelsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "figure.dpi": 100,
    "svg.fonttype": "path",
    "svg.hashsalt": "neurons",
    "pdf.fonttype": 42,
}

styled = mpl.rc_context(STYLE)
"""Decorates each function that draws or saves a figure: text and ticks take their looks when they are made."""

YEAR, START_YEAR = "year y", "start year YY"
EFFECT = "effect on the logit"


# --- what all figures share -----------------------------------------------------------------------


def new_figure(width: float = COLUMN, height: float = HEIGHT) -> Figure:
    """An empty figure, sizes in inches."""
    return Figure(figsize=(width, height))


def add_axes(
    figure: Figure, *, left: float = 0.62, right: float = 0.12, bottom: float = 0.42, top: float = 0.22
) -> Axes:
    """Axes that fill the figure but for margins in inches."""
    width, height = figure.get_size_inches()
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    return figure.add_axes(box)


def limit(values: np.ndarray) -> float:
    """The largest size in the values: the end of a scale that is centred at zero."""
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max(initial=0.0)) or 1.0


def full_rows(values: Float[np.ndarray, "Y X"], start_years: Sequence[int]) -> Float[np.ndarray, "rows X"]:
    """A row for every year between the first and the last start year, NaN where a year was not measured."""
    first = start_years[0]
    rows = np.full((start_years[-1] - first + 1, values.shape[1]), np.nan)
    rows[np.asarray(start_years) - first] = values
    return rows


def draw_map(
    axes: Axes, values: Float[np.ndarray, "Y 100"], start_years: Sequence[int], *, colours: str, norm: Normalize
) -> None:
    """A map of start year by year with its diagonal; start years that were not measured are grey."""
    rows = full_rows(values, start_years)
    first, last = start_years[0], start_years[-1]
    cmap = mpl.colormaps[colours].with_extremes(bad=NO_DATA)
    extent = (-0.5, N_YEARS - 0.5, last + 0.5, first - 0.5)
    axes.imshow(rows, cmap=cmap, norm=norm, extent=extent, interpolation="none", aspect="auto")
    for colour, width in (("white", 1.8), ("black", 0.8)):
        axes.plot([first, last], [first, last], color=colour, linewidth=width, dashes=(4, 2))
    axes.set(xlim=(-0.5, N_YEARS - 0.5), ylim=(last + 0.5, first - 0.5), xlabel=YEAR, ylabel=START_YEAR)
    axes.spines[["top", "right"]].set_visible(True)
    plain_ticks(axes, whole="xy")


def draw_colour_bar(axes: Axes, *, colours: str, norm: Normalize, label: str) -> None:
    """The colour scale as a narrow image: small in a file, where matplotlib's own is 256 shapes."""
    low, high = float(norm.vmin or 0.0), float(norm.vmax or 0.0)
    steps = np.linspace(low, high, 256)[:, None]
    axes.imshow(steps, cmap=colours, norm=norm, extent=(0, 1, low, high), origin="lower", aspect="auto")
    axes.set(xlim=(0, 1), ylim=(low, high))
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(True)
    plain_ticks(axes)
    axes.set_xticks([])


def plain_ticks(axes: Axes, *, whole: Literal["x", "xy", ""] = "x") -> None:
    """At most five ticks an axis, labelled as short as possible; `whole`: the axes that count years.

    Matplotlib's own labels go through its formula parser, which takes as long as all the rest.
    """
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        axis.set_major_locator(MaxNLocator(5, integer=name in whole, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(lambda value, _: f"{value:.6g}".replace("-", "−"))


def legend_above(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=LEGEND_COLUMNS, borderaxespad=0, columnspacing=1)


def ends(x: Sequence[int]) -> tuple[float, float]:
    return min(x) - 0.5, max(x) + 0.5


def _one_map(
    values: Float[np.ndarray, "Y 100"], start_years: Sequence[int], *, colours: str, norm: Normalize, label: str
) -> Figure:
    figure = new_figure(height=SQUARE_MAP)
    draw_map(add_axes(figure, right=0.85), values, start_years, colours=colours, norm=norm)
    draw_colour_bar(add_axes(figure, left=COLUMN - 0.77, right=0.65), colours=colours, norm=norm, label=label)
    return figure


# --- maps ------------------------------------------------------------------------------------


@styled
def probability_map(probability: Float[np.ndarray, "Y 100"], start_years: Sequence[int]) -> Figure:
    """Mean probability of each year (column) after each start year (row); colours by its square root.

    The colours end at the 99th percentile: where few years are left their probabilities dwarf all others.
    """
    norm = PowerNorm(0.5, 0.0, float(np.percentile(probability, 99)) or 1.0)
    return _one_map(probability, start_years, colours=SEQUENTIAL, norm=norm, label="mean probability")


@styled
def effect_map(effect: Float[np.ndarray, "Y 100"], start_years: Sequence[int], *, label: str = EFFECT) -> Figure:
    """What is added to each year's logit (column) after each start year (row), colours centred at zero."""
    norm = Normalize(-limit(effect), limit(effect))
    return _one_map(effect, start_years, colours=CENTRED, norm=norm, label=f"{label} (logits)")


@styled
def part_maps(
    maps: dict[str, Float[np.ndarray, "Y 100"]], start_years: Sequence[int], *, label: str = EFFECT, columns: int = 4
) -> Figure:
    """Several maps on one scale, each under its name."""
    columns = min(columns, len(maps))
    rows = -(-len(maps) // columns)
    left, right, top, bottom, gap = 0.5, 0.72, 0.22, 0.42, 0.12
    whole = COLUMN if columns == 1 else WIDE
    side = min(1.9, (whole - left - right) / columns - gap)
    high = side + 0.25
    figure = new_figure(whole, rows * high + bottom)
    width, height = figure.get_size_inches()
    size = limit(np.stack(list(maps.values())))
    norm = Normalize(-size, size)
    for place, (name, values) in enumerate(maps.items()):
        row, column = divmod(place, columns)
        x, y = left + column * (side + gap), height - top - row * high - side
        axes = figure.add_axes((x / width, y / height, side / width, side / height))
        axes.set_title(name, pad=3)
        draw_map(axes, values, start_years, colours=CENTRED, norm=norm)
        lowest = place + columns >= len(maps)
        axes.set(xlabel=YEAR if lowest else "", ylabel=START_YEAR if column == 0 else "")
        axes.tick_params(labelbottom=lowest, labelleft=column == 0)
    bar = add_axes(
        figure,
        left=left + columns * (side + gap) + 0.02,
        right=width - left - columns * (side + gap) - 0.12,
        bottom=bottom + 0.03,
        top=top,
    )
    draw_colour_bar(bar, colours=CENTRED, norm=norm, label=f"{label} (logits)")
    return figure


# --- one neuron -----------------------------------------------------------------------------------


@styled
def curve(
    x: Sequence[int],
    mean: Float[np.ndarray, " X"],
    low: Float[np.ndarray, " X"] | None = None,
    high: Float[np.ndarray, " X"] | None = None,
    *,
    xlabel: str,
    ylabel: str,
    band: str = "",
    fit: Float[np.ndarray, " X"] | None = None,
    at: int | None = None,
) -> Figure:
    """A curve, with a band where one is known; `fit` is drawn over it, `at` marks a place on the axis."""
    figure = new_figure()
    axes = add_axes(figure)
    if low is not None and high is not None:
        axes.fill_between(x, low, high, color=LAYER_COLOURS[0], alpha=0.25, linewidth=0, label=band)
    axes.plot(x, mean, color=LAYER_COLOURS[0])
    if fit is not None:
        axes.plot(x, fit, color=ACCENT, linestyle="--", label="fit")
    axes.axhline(0, color="black", linewidth=0.6)
    if at is not None:
        axes.axvline(at, color="black", linewidth=0.6, dashes=(4, 2))
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=ends(x))
    plain_ticks(axes)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="best")
    return figure


@styled
def digit_tables(tuning: Float[np.ndarray, "100"], readout: Float[np.ndarray, "100"]) -> Figure:
    """Activation by the start year's two digits, and readout by the year's: tens down, last digit across."""
    side = 0.92
    figure = new_figure(height=side + 0.64)
    lefts = (0.45, 2.03)
    sides = tuple(
        (name, values, left, COLUMN - left - side)
        for name, values, left in zip(("activation a/σ", "readout"), (tuning, readout), lefts, strict=True)
    )
    for name, values, left, right in sides:
        norm = Normalize(-limit(values), limit(values))
        axes = add_axes(figure, left=left, right=right)
        cmap = mpl.colormaps[CENTRED].with_extremes(bad=NO_DATA)
        axes.imshow(values.reshape(10, 10), cmap=cmap, norm=norm, interpolation="none", aspect="auto")
        axes.set(xticks=[0, 3, 6, 9], yticks=[0, 3, 6, 9], xlabel="last digit", title=name)
        if left < 1:
            axes.set_ylabel("tens")
        axes.spines[["top", "right"]].set_visible(True)
        bar = add_axes(figure, left=COLUMN - right + 0.05, right=right - 0.13)
        draw_colour_bar(bar, colours=CENTRED, norm=norm, label="")
    return figure
