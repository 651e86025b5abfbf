"""The report's section on sets: what is shown, which figures are drawn, and that nothing kept is no section."""

from dataclasses import replace

import numpy as np
import pytest

from neurons.attribution.recovery import Recovery
from neurons.ranking.mask_results import LearnedMasks
from neurons.ranking.set_results import Interchange, Members, OtherPrompts, PatchedRuns, SetCurve, SetStudy, WorstPrompt
from neurons.report.blocks import Gallery, Table
from neurons.report.pages.sets import TITLE, sets_sections
from neurons.types import NeuronId

SIZES = np.array([0, 1, 2, 4, 8])
CURVE = np.array([0, 0.3, 0.6, 0.95, 1.0])
YEARS = (2, 3, 7)
NAMED = tuple(NeuronId(9, n) for n in range(4))


@pytest.fixture
def sets() -> SetStudy:
    random = np.array([[0, 0.1, 0.2, 0.5, 1], [0, 0.1, 0.3, 0.6, 1]])
    curves = tuple(
        SetCurve(measure, SIZES, CURVE, 1 - CURVE, random, 1 - random)
        for measure in ("probability_difference", "cutoff_sharpness")
    )
    members = Members(NAMED, 0.95, np.array([0.1, 0.4, 0, 0]), np.array([0.05, 0.3]), np.array([0, 2]), NAMED[:2], 60)
    worst = (WorstPrompt("war", 17, 32, 1, 2.5, 0.1),)
    values = np.array([0.2, 0.7, 0.8])
    runs = (PatchedRuns("keep", "corrupted", values, values / 10, values[::-1], worst),)
    return SetStudy("mini", 8, 60, 30, 0, curves, members, runs)


@pytest.fixture
def exchanged() -> Interchange:
    maps = np.full((3, 3), 0.5)
    return Interchange(YEARS, 60, SIZES, CURVE, 1 - CURVE, 1 - CURVE, 4, maps, -maps)


@pytest.fixture
def masks() -> LearnedMasks:
    orders = np.broadcast_to(np.arange(8), (3, 1, 8)).copy()
    recovered = np.broadcast_to(CURVE, (3, 1, 5)).copy()
    neurons = tuple(NeuronId(9, n) for n in range(8))
    return LearnedMasks(neurons, 0, 10, 60, 4, SIZES, np.arange(8), CURVE, orders, recovered)


def test_what_was_not_measured_has_no_section() -> None:
    assert sets_sections(None, None, None, None) == ()


def test_every_part_is_shown_and_every_figure_drawn(
    sets: SetStudy, exchanged: Interchange, masks: LearnedMasks
) -> None:
    other = OtherPrompts(
        "price-range", 50, {}, {}, (Recovery("probability_difference", SIZES, CURVE, held_out=True, n_prompts=50),)
    )
    (section,) = sets_sections(sets, (other,), exchanged, masks)
    assert section.title == TITLE
    pictures = [picture for block in section.blocks if isinstance(block, Gallery) for picture in block.pictures]
    assert [picture.name for picture in pictures] == ["sets", "interchange", "interchange-maps", "masks"]
    assert all(picture.draw().axes for picture in pictures)
    first, members, runs, learned = [block for block in section.blocks if isinstance(block, Table)]
    assert first.rows[0][:4] == ("probability difference", "share", 60, 2)
    assert first.rows[-1][1:3] == ("share, on price-range", 50)
    assert first.rows[0][-1] == pytest.approx(0.9, abs=0.1)
    assert members.rows[1] == ("largest loss without one member", "L9N1", 0.4)
    assert runs.rows[0][-1] == "war 1732 (2.5)"
    assert len(learned.rows) == 4


def test_without_a_set_there_are_curves_alone(sets: SetStudy, exchanged: Interchange) -> None:
    (section,) = sets_sections(replace(sets, members=None, runs=()), None, replace(exchanged, k=None), None)
    pictures = [picture for block in section.blocks if isinstance(block, Gallery) for picture in block.pictures]
    assert [picture.name for picture in pictures] == ["sets", "interchange"]


def test_maps_are_centred_at_zero_and_hold_each_pair_in_its_cell(exchanged: Interchange) -> None:
    from neurons.report.figures.set_plots import interchange_maps

    maps = {"transplanted": exchanged.map_for_transplanted, "own": exchanged.map_for_own}
    figure = interchange_maps(maps, YEARS)
    image = figure.axes[0].images[0]
    assert image.get_clim() == (-1.0, 1.0)
    assert image.get_array().shape == (6, 6)
    assert np.ma.masked_invalid(image.get_array()).count() == 9
