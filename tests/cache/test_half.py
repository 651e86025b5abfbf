"""float16 caches: half the file, everything else as before, and what the rounding costs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.stats import spearmanr

from neurons.cache import compute
from neurons.cache.build import cache_activations
from neurons.cache.format import Cache, reading, verify_cache
from neurons.cache.layout import Dtype, Sizes, rounded, shapes_of, type_of
from neurons.cache.parts import parts_of
from neurons.cache.plan import load_plan, plan_of, save_plan
from neurons.decomposition.cells import Activations
from neurons.decomposition.effects import LogitEffects, logit_effects
from neurons.model.forward import EndRun
from neurons.model.model import Model
from neurons.ranking.ranking import rank
from neurons.ranking.results import Ranking
from neurons.task.prompt_set import PromptSet
from neurons.task.prompts import year_spans
from neurons.task.years import contrast_weights
from neurons.types import CacheError, InputError

STEP, SMALLEST = 2.0**-11, 2.0**-25
"""Half a unit in the last place of float16: relative, and absolute where numbers are subnormal."""


@pytest.fixture(scope="module")
def half(mini_model: Model, mini_prompts: PromptSet, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return cache_activations(mini_model, mini_prompts, cache_dir=tmp_path_factory.mktemp("half"), dtype="float16")


@pytest.fixture(scope="module")
def few(mini_model: Model) -> PromptSet:
    return year_spans(mini_model.tokenizer, nouns=["war", "siege"], centuries=[17])


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each time that the model runs."""
    original: Callable[..., object] = compute.run
    seen: list[int] = []

    def counted(*arguments: object, **options: object) -> object:
        seen.append(len(seen))
        return original(*arguments, **options)

    monkeypatch.setattr(compute, "run", counted)
    return seen


# --- what is stored ---------------------------------------------------------------------------------


def test_a_default_cache_of_gpt2_small_is_half_as_large() -> None:
    def size(dtype: Dtype) -> int:
        shapes = shapes_of(Sizes(1970, 13, 20, 3072, (8, 9, 10, 11)))
        numbers = {name: type_of(name, dtype) for name, shape in shapes.items() if None not in shape}
        del numbers["prompts/noun"]
        return sum(int(np.prod(shapes[name])) * np.dtype(number).itemsize for name, number in numbers.items())

    assert size("float16") <= 0.56 * size("float32")


def test_activations_are_rounded_and_nothing_else(half: Cache, mini_cache: Cache) -> None:
    with reading(half.path) as mine, reading(mini_cache.path) as theirs:
        names: list[str] = []
        theirs.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
        for name in set(names) - {"manifest"}:
            values = theirs[name][()]
            assert mine[name].dtype == (np.float16 if name.endswith("/post") else values.dtype), name
            np.testing.assert_array_equal(mine[name][()], values.astype(mine[name].dtype), err_msg=name)


def test_what_is_read_is_float32(half: Cache) -> None:
    layer = half.layers[0]
    assert half.dtype == "float16"
    assert half.post(layer).dtype == np.float32
    assert logit_effects(half).activation(layer).dtype == np.float32


def test_the_two_types_are_two_caches(half: Cache, mini_cache: Cache) -> None:
    assert half.key != mini_cache.key
    assert half.path.name != mini_cache.path.name
    assert mini_cache.dtype == "float32"
    verify_cache(half.path)


def test_an_unknown_type_is_refused(mini_model: Model, few: PromptSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dtype 'float8' is unknown: choose float32, float16"):
        cache_activations(mini_model, few, cache_dir=tmp_path, dtype="float8")


# --- beyond its range -------------------------------------------------------------------------------


def test_a_number_beyond_float16_is_refused_in_one_line() -> None:
    arrays = {"post_9": np.array([[1.0, -70000.0]], np.float32), "scale": np.array([1e6], np.float32)}
    message = r"an activation of layer 9 is 7e\+04, float16 holds up to 65504: use dtype float32"
    with pytest.raises(CacheError, match=message) as caught:
        rounded(arrays, "float16")
    assert "\n" not in str(caught.value)
    assert rounded(arrays, "float32")["post_9"][0, 1] == -70000


def test_the_largest_number_of_float16_is_kept() -> None:
    found = rounded({"post_9": np.array([65504.0, 65519.0, np.nan], np.float32)}, "float16")["post_9"]
    np.testing.assert_array_equal(found, np.array([65504.0, 65504.0, np.nan], np.float16))


def test_a_refused_build_leaves_no_cache(
    mini_model: Model, few: PromptSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = compute.run

    def enormous(*arguments: Any, **options: Any) -> EndRun:
        found = original(*arguments, **options)
        return replace(found, post=found.post | {9: found.post[9] * 1e9})

    monkeypatch.setattr(compute, "run", enormous)
    with pytest.raises(CacheError, match="an activation of layer 9"):
        cache_activations(mini_model, few, cache_dir=tmp_path, dtype="float16")
    assert not list(tmp_path.glob("*.h5"))


# --- the durable build ------------------------------------------------------------------------------


def test_a_half_cache_is_made_from_a_whole_one_without_a_run(
    mini_model: Model, few: PromptSet, tmp_path: Path, runs: list[int]
) -> None:
    cache_activations(mini_model, few, cache_dir=tmp_path)
    first = len(runs)
    derived = cache_activations(mini_model, few, cache_dir=tmp_path, dtype="float16")
    assert len(runs) == first
    fresh = cache_activations(mini_model, few, cache_dir=tmp_path / "fresh", dtype="float16")
    assert derived.path.read_bytes() == fresh.path.read_bytes()


def test_a_whole_cache_is_never_made_from_a_half_one(
    mini_model: Model, few: PromptSet, tmp_path: Path, runs: list[int]
) -> None:
    cache_activations(mini_model, few, cache_dir=tmp_path, dtype="float16")
    first = len(runs)
    found = cache_activations(mini_model, few, cache_dir=tmp_path)
    assert len(runs) == 2 * first
    assert (found.post(9).astype(np.float16) != found.post(9)).any()


def test_a_larger_half_cache_reuses_a_smaller_one(
    mini_model: Model, few: PromptSet, tmp_path: Path, runs: list[int]
) -> None:
    one = year_spans(mini_model.tokenizer, nouns=["war"], centuries=[17])
    cache_activations(mini_model, one, layers=(8, 9), cache_dir=tmp_path, dtype="float16")
    first = len(runs)
    grown = cache_activations(mini_model, few, layers=(9,), cache_dir=tmp_path, dtype="float16")
    assert len(runs) == first + 1  # the other noun's block
    fresh = cache_activations(mini_model, few, layers=(9,), cache_dir=tmp_path / "fresh", dtype="float16")
    assert grown.path.read_bytes() == fresh.path.read_bytes()


def test_a_worker_is_told_the_type(few: PromptSet, tmp_path: Path) -> None:
    parts = parts_of(tmp_path / "some.h5", "key")
    save_plan(plan_of(few, (8,), "float16"), parts)
    assert load_plan(parts).dtype == "float16"


# --- what it costs ----------------------------------------------------------------------------------


def test_no_contrast_is_further_off_than_its_activations_are(half: Cache, mini_cache: Cache) -> None:
    """A mean of products with the readout errs by no more than the mean of |a| does, times the readout's contrast."""
    exact, mine = logit_effects(mini_cache), logit_effects(half)
    for layer in half.layers:
        size = np.abs(exact.activation(layer))
        step = np.maximum(STEP * size, SMALLEST / mini_cache.scale[:, None]) + 1e-6 * size  # and float32's own
        by_year = np.stack([step[mini_cache.start_year == year].mean(0) for year in exact.start_years])
        bound = by_year * np.abs(contrast_weights(exact.start_years) @ exact.readout(layer).T)
        plain = exact.cells(layer).held.all(0)  # elsewhere the average leans on other start years
        assert plain.mean() > 0.7
        assert (np.abs(mine.layer_contrast(layer) - exact.layer_contrast(layer)) <= bound + 1e-9)[plain].all()


@pytest.fixture(scope="module")
def rankings(half: Cache, mini_cache: Cache) -> dict[str, Ranking]:
    return {cache.dtype: rank(LogitEffects(Activations(cache), tuple(range(2, 99)))) for cache in (half, mini_cache)}


def test_the_ranking_of_mini_stays(rankings: dict[str, Ranking]) -> None:
    """Measured: largest error of a score 2.4e-6 of 0.16 logits, rank correlation 1 - 1e-8, no other verdict."""
    exact, mine = (rankings[name].to_frame().set_index("neuron") for name in ("float32", "float16"))
    mine = mine.loc[exact.index]
    assert np.abs(mine.score - exact.score).max() < 1e-4 * np.abs(exact.score).max()
    assert spearmanr(mine.score, exact.score).statistic > 1 - 1e-6
    changed = (mine.boosting != exact.boosting) | (mine.suppressing != exact.suppressing)
    assert changed.sum() <= 0.01 * (exact.boosting | exact.suppressing).sum() + 1
    assert set(mine.nsmallest(10, "rank").index) == set(exact.nsmallest(10, "rank").index)
