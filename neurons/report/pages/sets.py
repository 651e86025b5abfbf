"""The index's section on how many neurons are enough: sets of the first by share, interchange, learned masks."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from neurons.ranking.mask_results import PARTS, LearnedMasks
from neurons.ranking.ranking import LEVELS
from neurons.ranking.set_results import SETS, Interchange, Members, OnOtherPrompts, PatchedRuns, SetCurve, SetStudy
from neurons.report.blocks import Block, Cell, Column, Gallery, Picture, Section, Table, Text, number
from neurons.report.figures import set_plots
from neurons.report.pages.neuron import neuron_link

TITLE = "How many are enough"
KEPT, PART = 0.9, "part of clean minus floor"


def sets_sections(
    sets: SetStudy | None,
    elsewhere: OnOtherPrompts | None,
    exchanged: Interchange | None,
    masks: LearnedMasks | None,
    paged: frozenset[str] = frozenset(),
) -> tuple[Section, ...]:
    """Of what was measured; none where nothing was. paged: neurons with a page."""
    blocks: list[Block] = []
    if sets is not None:
        blocks += _enough(sets, elsewhere or ())
        if sets.members is not None:
            blocks += [*_members(sets.members, sets.seed, paged), *_runs(sets.runs)]
    if exchanged is not None:
        blocks += _interchange(exchanged)
    if masks is not None:
        blocks += _masks(masks)
    return (Section(TITLE, tuple(blocks), "" if sets is None else _claim(sets)),) if blocks else ()


def _claim(sets: SetStudy) -> str:
    """How many recover 90 % of each measure."""
    found = {curve.measure.replace("_", " "): curve.fewest(KEPT) for curve in sets.curves}
    said = "; ".join(f"{name}: {'no set' if k is None else f'{k:,}'}" for name, k in found.items())
    return f"Fewest neurons, first by share, that recover {100 * KEPT:.0f} % of clean minus floor, by measure: {said}."


def _enough(sets: SetStudy, elsewhere: OnOtherPrompts) -> Iterator[Block]:
    picture = Picture(
        "sets",
        partial(set_plots.curves_figure, [one.to_json() for one in sets.curves]),
        "Part of each measure recovered with the first k neurons by share kept, and with them removed.",
        "Part of clean minus floor with the first k neurons by share kept and all others at a random other start year"
        " (red), and the other way round (blue); order from one half of the centuries, measured on the other: kept on"
        f" {sets.n_prompts:,} prompts, the rest on {sets.n_sampled:,}. Dotted: sets of equal size, layers and fifths of"
        " activation variance, mean and range of five. Where the two lines add up to more than 1, other neurons can do"
        " what these do.",
        wide=True,
    )
    yield Gallery((picture,))
    columns = (
        Column("measure"), Column("order"), Column("prompts", "count"),
        *(Column(f"k for {level} %", "count", "first neurons that recover so much") for level in LEVELS),
        Column("at k for 90 %", "number", "part recovered here by as many as are enough on the study's own prompts"),
    )  # fmt: skip
    yield Table("First neurons that recover a part of clean minus floor", columns, tuple(_rows(sets, elsewhere)))
    yield Text((
        "Chosen on one half of the centuries, measured on the other; on other templates the same neurons in the order"
        " of all centuries. Matched random: neurons exchanged within layer and fifth of activation variance.",
    ))  # fmt: skip


def _rows(sets: SetStudy, elsewhere: OnOtherPrompts) -> Iterator[tuple[Any, ...]]:
    for curve in sets.curves:
        name, k = curve.measure.replace("_", " "), curve.fewest(KEPT)
        yield name, "share", sets.n_prompts, *map(curve.fewest, LEVELS.values()), _at(curve, k, "kept")
        yield (
            name, "matched random", sets.n_sampled, *map(curve.fewest_random, LEVELS.values()),
            _at(curve, k, "random_kept"),
        )  # fmt: skip
    for other in elsewhere:
        for one in other.recoveries:
            k = sets.curve(one.measure).fewest(KEPT)
            part = None if k is None else float(np.interp(k, one.sizes, one.recovered))
            yield (
                one.measure.replace("_", " "), f"share, on {other.name}", other.n_prompts,
                *map(one.fewest, LEVELS.values()), part,
            )  # fmt: skip


def _at(curve: SetCurve, k: int | None, name: str) -> float | None:
    return None if k is None else curve.at(k)[name]


def _members(members: Members, seed: int, paged: frozenset[str]) -> Iterator[Block]:
    rows = (
        ("recovered by the set", "", members.recovered),
        ("largest loss without one member", neuron_link(str(members.costliest), paged), float(members.loss.max())),
        ("largest completeness gap", f"without {len(members.worst)} of its members", members.incompleteness),
    )
    caption = f"The first {len(members.neurons)} neurons as a set, {members.n_prompts:,} prompts"
    yield Table(caption, (Column("quantity"), Column("neuron"), Column(PART, "number")), rows)
    yield Text((
        "Completeness (Wang et al. 2022): without a subset K of its members the set should answer as the whole model"
        f" does without K. The gap is the largest of {len(members.gap)} random K (seed {seed}); what other neurons do"
        " in place of K makes it large.",
    ))  # fmt: skip


def _runs(runs: tuple[PatchedRuns, ...]) -> Iterator[Block]:
    columns = (
        Column("direction"), Column("other run"),
        *(Column(f"difference, {name}", "number", "probability difference for the prompt's own year") for name in SETS),
        *(Column(f"KL, {name}", "number", "nats, from the whole model's answer") for name in SETS),
        Column("worst prompts of the set (KL)"),
    )  # fmt: skip
    rows = tuple(
        (one.direction, one.reference, *one.probability_difference.tolist(), *one.divergence.tolist(), _worst(one))
        for one in runs
    )
    yield Table("The set in both directions", columns, rows)
    yield Text((
        "Keep: the prompt's own run, all other neurons of the layers from the other run. Insert: the other run, the set"
        " from the prompt's own. Columns: with none of the neurons, the set, all of them. An answer can score well and"
        " be another: the prompts named are those where it is furthest from the whole model's.",
    ))  # fmt: skip


def _worst(one: PatchedRuns) -> str:
    return ", ".join(f"{prompt.name} ({number(prompt.divergence, decimals=1)})" for prompt in one.worst[:3])


def _interchange(found: Interchange) -> Iterator[Block]:
    curve = Picture(
        "interchange",
        partial(set_plots.interchange_figure, found.columns()),
        "Probability difference for the transplanted and for the prompt's own year against k.",
        f"The first k neurons by share take their activations from a prompt of another start year; {found.n_prompts:,}"
        " pairs of one noun and century. Red: the answer scored for the transplanted year; blue: for the prompt's own;"
        " dashed: total variation to the other prompt's own answer.",
    )
    yield Gallery((curve,))
    if found.k is not None:
        maps = {"scored for the transplanted year": found.map_for_transplanted,
                "scored for its own year": found.map_for_own}  # fmt: skip
        picture = Picture(
            "interchange-maps",
            partial(set_plots.interchange_maps, maps, found.start_years),
            "Two heat maps of start year by transplanted year.",
            f"Probability difference with the first {found.k} neurons from a prompt of the transplanted year (column)"
            " in the run of each start year (row), one pair of prompts a cell. The redder the"
            " left map, the more of the year these neurons carry.",
            wide=True,
        )
        yield Gallery((picture,))


def _masks(found: LearnedMasks) -> Iterator[Block]:
    data: Mapping[str, Any] = found.to_json()
    picture = Picture(
        "masks",
        partial(set_plots.masks_figure, data),
        "Part recovered by the first k of masks learned from several seeds.",
        f"Part of the probability difference that the first k recover, ordered by share (black) and by learned masks, a"
        f" line a seed; {found.n_prompts:,} prompts of centuries on which neither was chosen.",
    )
    columns = (
        Column("start"), Column("seed", "count"), *(Column(f"k for {level} %", "count") for level in PARTS),
        Column(f"first {found.k}", "number", "part that they recover"),
        Column("overlap", "number", f"of the first {found.k} with the first {found.k} by share"),
    )  # fmt: skip
    rows: tuple[tuple[Cell, ...], ...] = (("share", None, *data["share_k"].values(), found.share_at(found.k), None),)
    rows += tuple(
        (run["start"], run["seed"], run["k_50"], run["k_80"], run["k_90"], run["recovered"], run["overlap"])
        for run in data["runs"]
    )
    among = ", ".join(
        f"{start} {'–' if value is None else number(value, decimals=2)}"
        for start, value in data["overlap_among"].items()
    )
    yield Gallery((picture,))
    yield Table(f"Masks learned by gradient, {found.steps} steps", columns, rows)
    yield Text((
        f"Overlap among seeds: {among}. By share the first {found.k} recover"
        f" {number(found.share_at(found.k), decimals=2)} on these prompts. Without: the first {found.k} by share are"
            " closed for good. Sets of nearly equal size and effect differ in their"
        " members: shares are certain, membership of a set is not. `neurons rank --masks` learns them.",
    ))  # fmt: skip
