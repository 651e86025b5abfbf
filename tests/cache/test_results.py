"""Kept results come back as they were, or not at all."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from neurons.cache.format import Cache
from neurons.cache.results import keep_result, kept_result
from neurons.types import CacheError, NeuronId


@dataclass(frozen=True, eq=False)
class Tree:
    name: str
    values: np.ndarray
    neurons: tuple[NeuronId, ...]
    by_layer: dict[int, float | None]


CLASSES = (Tree, NeuronId)
SETTINGS = {"years": [2, 3], "seed": 0}


@pytest.fixture
def cache(mini_cache: Cache, tmp_path: Path) -> Cache:
    return replace(mini_cache, path=tmp_path / "mini-1234.h5")


@pytest.fixture
def tree() -> Tree:
    return Tree("a", np.array([[0.1, np.nan], [1e-300, -3]], np.float32), (NeuronId(9, 12),), {8: 0.5, 9: None})


def test_a_kept_result_comes_back_bit_for_bit(cache: Cache, tree: Tree) -> None:
    keep_result(cache, "tree", SETTINGS, (tree, 3))
    found, number = kept_result(cache, "tree", SETTINGS, CLASSES)
    assert number == 3
    assert (found.name, found.neurons, found.by_layer) == (tree.name, tree.neurons, tree.by_layer)
    assert found.values.dtype == tree.values.dtype
    assert found.values.tobytes() == tree.values.tobytes()


@pytest.mark.parametrize("other", [{"years": [2, 4], "seed": 0}, {}])
def test_a_result_of_other_settings_is_not_there(cache: Cache, tree: Tree, other: dict[str, object]) -> None:
    keep_result(cache, "tree", SETTINGS, tree)
    assert kept_result(cache, "tree", other, CLASSES) is None


def test_a_result_of_another_cache_is_not_there(cache: Cache, tree: Tree) -> None:
    keep_result(cache, "tree", SETTINGS, tree)
    assert kept_result(replace(cache, key="other"), "tree", SETTINGS, CLASSES) is None


def test_a_result_of_a_class_that_the_reader_does_not_name_is_not_there(cache: Cache, tree: Tree) -> None:
    keep_result(cache, "tree", SETTINGS, tree)
    assert kept_result(cache, "tree", SETTINGS, (NeuronId,)) is None


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"version": 1}', "\ufffd"])
def test_a_damaged_file_is_not_there(cache: Cache, tree: Tree, damage: str) -> None:
    keep_result(cache, "tree", SETTINGS, tree).write_text(damage, encoding="utf-8")
    assert kept_result(cache, "tree", SETTINGS, CLASSES) is None


def test_a_folder_that_cannot_be_written_is_one_line(cache: Cache, tree: Tree) -> None:
    nowhere = replace(cache, path=cache.path.parent / "absent" / "mini.h5")
    with pytest.raises(CacheError, match="choose another for the cache"):
        keep_result(nowhere, "tree", SETTINGS, tree)
