"""Results kept beside a cache: they come back bit for bit, or not at all."""

import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
import pytest
from jaxtyping import Bool, Float

from neurons.cache.format import Cache
from neurons.cache.results import keep_result, kept_result, results_beside
from neurons.study.opened import KEPT
from neurons.types import CacheError, FloatArray, InputError, NeuronId


@dataclass(frozen=True, eq=False)
class Tree:
    name: Literal["oak", "ash"]
    values: Float[np.ndarray, "a b"]
    plain: FloatArray
    absent: Bool[np.ndarray, " a"] | None
    neurons: tuple[NeuronId, ...]
    by_neuron: dict[NeuronId, Float[np.ndarray, " a"]]
    by_pair: dict[tuple[int, str], float | None]
    height: float

    @cached_property
    def total(self) -> float:
        return float(np.nansum(self.values))


@dataclass(frozen=True)
class Positive:
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise InputError("negative")


SETTINGS = {"years": (2, 3), "seed": 0}


@pytest.fixture
def cache(mini_cache: Cache, tmp_path: Path) -> Cache:
    return replace(mini_cache, path=tmp_path / "mini-1234.h5")


@pytest.fixture
def tree() -> Tree:
    return Tree(
        name="oak",
        values=np.array([[0.1, np.nan], [1e-300, -np.inf]], np.float32).T,
        plain=np.zeros((0, 3)),
        absent=None,
        neurons=(NeuronId(9, 12),),
        by_neuron={NeuronId(9, 12): np.array([0.1, 1e-300])},
        by_pair={(8, "x"): 0.5, (9, "y"): None},
        height=float("nan"),
    )


def test_a_kept_result_comes_back_bit_for_bit(cache: Cache, tree: Tree) -> None:
    assert tree.total == -np.inf
    keep_result(cache, "tree", SETTINGS, (tree, 3))
    kept = kept_result(cache, "tree", SETTINGS, tuple[Tree, int])
    assert kept is not None
    found, number = kept
    assert number == 3
    for name in ("name", "absent", "neurons", "by_pair", "total"):
        assert getattr(found, name) == getattr(tree, name), name
    assert np.isnan(found.height)
    assert list(found.by_neuron) == list(tree.by_neuron)
    pairs = [
        (found.values, tree.values),
        (found.plain, tree.plain),
        *zip(found.by_neuron.values(), tree.by_neuron.values(), strict=True),
    ]
    for mine, theirs in pairs:
        assert (mine.dtype, mine.shape, mine.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())
        assert mine.flags.writeable


def test_numpy_s_scalars_come_back_as_numbers(cache: Cache) -> None:
    keep_result(cache, "scalars", {}, {np.int64(3): np.float32(0.5), 4: np.float64(0.1)})
    assert kept_result(cache, "scalars", {}, dict[int, float]) == {3: 0.5, 4: 0.1}


def test_arrays_take_the_room_of_their_bytes(cache: Cache) -> None:
    path = keep_result(cache, "large", {}, {"a": np.random.default_rng(0).normal(size=(1000, 100)).astype(np.float32)})
    assert path.stat().st_size < 400_000 + 500


@pytest.mark.parametrize(
    "other",
    [
        {"settings": {"years": [2, 4], "seed": 0}},
        {"settings": {}},
        {"version": "2"},
        {"what": "other"},
        {"key": "other"},
    ],
)
def test_a_result_of_other_settings_version_name_or_cache_is_absent(
    cache: Cache, tree: Tree, other: dict[str, Any]
) -> None:
    def kept(what: str = "tree", key: str = cache.key, settings: Any = SETTINGS, version: str = "1") -> Tree | None:
        return kept_result(replace(cache, key=key), what, settings, Tree, version=version)

    path = keep_result(cache, "tree", SETTINGS, tree)
    assert kept(settings={"seed": 0, "years": [2, 3]}) is not None
    if "what" in other:
        path.rename(path.with_name("mini-1234.other.result"))
    assert kept(**other) is None


@pytest.mark.parametrize("of_type", [NeuronId, tuple[Tree, Tree], int])
def test_a_result_of_another_type_is_absent(cache: Cache, tree: Tree, of_type: type) -> None:
    keep_result(cache, "tree", SETTINGS, tree)
    assert kept_result(cache, "tree", SETTINGS, of_type) is None


def test_a_result_that_its_class_refuses_is_absent(cache: Cache) -> None:
    keep_result(cache, "one", {}, {"number": -1})
    assert kept_result(cache, "one", {}, Positive) is None


@pytest.mark.parametrize("values", [3, ["<f4", [2, 2], b"short"], ["|O", [1], b"12345678"], ["<f8", [1], b"12345678"]])
def test_what_is_no_array_of_the_annotated_shape_and_type_is_absent(cache: Cache, tree: Tree, values: Any) -> None:
    keep_result(cache, "tree", SETTINGS, vars(tree) | {"values": values})
    assert kept_result(cache, "tree", SETTINGS, Tree) is None


def test_every_flipped_or_missing_byte_is_noticed(cache: Cache, tree: Tree) -> None:
    path = keep_result(cache, "tree", SETTINGS, tree)
    whole, rng = path.read_bytes(), Random(0)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << rng.randrange(8)]) + whole[place + 1 :])
        assert kept_result(cache, "tree", SETTINGS, Tree) is None, place
        path.write_bytes(whole[:place])
        assert kept_result(cache, "tree", SETTINGS, Tree) is None, place


def test_a_result_kept_as_json_by_an_earlier_version_is_absent_and_known_as_litter(cache: Cache) -> None:
    old = cache.path.with_name("mini-1234.tree.json")
    old.write_text('{"version": [1, "0.1.0"]}')
    assert kept_result(cache, "tree", SETTINGS, Tree) is None
    assert results_beside(cache.path) == [old]


@pytest.mark.parametrize("value", [object(), np.array([object()]), {1, 2}.__iter__()])
def test_what_cannot_come_back_is_not_kept(cache: Cache, value: object) -> None:
    with pytest.raises(TypeError, match="a kept result cannot hold"):
        keep_result(cache, "odd", {}, value)
    assert not list(cache.path.parent.iterdir())


def test_a_folder_that_cannot_be_written_is_one_line(cache: Cache, tree: Tree) -> None:
    nowhere = replace(cache, path=cache.path.parent / "absent" / "mini.h5")
    with pytest.raises(CacheError, match="choose another for the cache"):
        keep_result(nowhere, "tree", SETTINGS, tree)


def test_kept_results_are_read_without_torch(cache: Cache, mini_cache: Cache) -> None:
    keep_result(mini_cache, "plain", {}, (NeuronId(9, 12),))
    program = (
        "import sys\nfrom neurons.cache.format import open_cache\nfrom neurons.cache.results import kept_result\n"
        "from neurons.types import NeuronId\n"
        f"print(kept_result(open_cache({str(mini_cache.path)!r}), 'plain', {{}}, tuple[NeuronId, ...]))\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "(L9N12,)\n")


def test_a_type_that_could_never_come_back_is_an_error_not_an_absent_result(cache: Cache) -> None:
    keep_result(cache, "odd", {}, {"a": 1})
    with pytest.raises(TypeError, match="Type unions may not contain more than one array-like"):
        kept_result(cache, "odd", {}, dict[str, tuple[int, ...] | tuple[str, ...]])
    with pytest.raises(NotImplementedError, match="a kept result cannot hold a"):
        kept_result(cache, "odd", {}, dict[str, Random])


@pytest.mark.parametrize("name", KEPT)
def test_every_type_of_result_that_a_study_keeps_can_come_back(name: str, cache: Cache) -> None:
    module, attribute = KEPT[name][0].split(":")
    assert kept_result(cache, name, {}, getattr(import_module(module), attribute)) is None
