"""The checks of what MLPs write, on planted triangles and diagonals."""

from dataclasses import replace

import numpy as np
import pytest

from neurons.cache.format import Cache
from neurons.comparison import check_maps
from neurons.comparison.check_maps import LayerMaps, map_checks
from neurons.decomposition.effects import logit_effects
from neurons.decomposition.shapes import doubly_centred, shapes
from neurons.intervals import Cells

YEARS = tuple(range(2, 99))
SHAPED = shapes(YEARS)


def planted_maps(readout: np.ndarray, *, centuries: int = 4, noise: float = 0.01) -> LayerMaps:
    """Neuron n is active at the n-th start year alone, so that row n of the map is its readout."""
    rng = np.random.default_rng(0)
    value = np.eye(97) + rng.normal(size=(centuries, 97, 97)) * noise
    return LayerMaps(YEARS, Cells(value, np.ones((centuries, 97), bool)), readout)


@pytest.mark.parametrize(
    ("readout", "verdicts"),
    [
        (SHAPED["triangle"], ["agrees", "differs", "agrees"]),
        (SHAPED["diagonal"], ["differs", "agrees", "differs"]),
        (np.random.default_rng(3).normal(size=(97, 100)), ["differs", "differs", "differs"]),
        (-SHAPED["triangle"], ["differs", "differs", "differs"]),
    ],
)
def test_maps_are_triangular_or_diagonal_and_sums_are_greater_than(readout: np.ndarray, verdicts: list[str]) -> None:
    found = planted_maps(readout)
    lines = (
        check_maps._triangle_check(9, found),
        check_maps._diagonal_check(8, found),
        check_maps._sum_check(10, found, np.arange(97)),
    )
    assert [one.verdict for one in lines] == verdicts


def test_the_planted_triangle_is_wholly_one() -> None:
    assert check_maps._triangle_check(9, planted_maps(SHAPED["triangle"], noise=0)).measured == pytest.approx(1)


def test_a_step_shared_by_many_is_no_single_neuron_s_and_one_neuron_s_is() -> None:
    shared = check_maps._single_check(10, planted_maps(SHAPED["triangle"]))
    assert shared.verdict == "agrees"
    assert isinstance(shared.measured, float)
    assert shared.measured < 0.05
    found = planted_maps(SHAPED["triangle"])
    U, _, Vh = np.linalg.svd(doubly_centred(SHAPED["triangle"]))
    one = replace(found, cells=Cells(np.repeat(U[None, :, :1], 4, 0), found.cells.held), readout=Vh[:1])
    alone = check_maps._single_check(10, one)
    assert (alone.verdict, alone.measured) == ("differs", pytest.approx(1))


def test_one_neuron_is_not_judged_against_itself() -> None:
    found = planted_maps(SHAPED["triangle"])
    assert check_maps._sum_check(10, found, np.arange(1)).verdict == "none"
    assert check_maps._sum_check(10, found, np.arange(97)).verdict == "agrees"


def test_with_one_century_there_is_no_verdict_on_maps() -> None:
    one = planted_maps(SHAPED["triangle"], centuries=1)
    assert check_maps._triangle_check(9, one).verdict == "none"
    assert check_maps._single_check(9, one).verdict == "none"


def test_the_maps_of_a_cache_are_the_effects_own(mini_cache: Cache) -> None:
    effects = logit_effects(mini_cache)
    found = check_maps.layer_maps(effects, 9)
    assert found.tuning @ found.readout == pytest.approx(effects.layer_map(9), abs=1e-4)
    lines = map_checks(effects, 12)
    assert [one.name.split(":")[0] for one in lines] == ["MLP 9", "MLP 10", "MLP 8", "MLP 10", "MLP 10", "MLP 10"]
    assert all(one.tolerance is not None for one in lines)
