"""A cache is never lost, never half there and never wrong: interruptions, reuse, damage, locks."""

import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import builder
import h5py
import numpy as np
import pytest
from random_gpt2 import write_random_gpt2
from sealed import edited

import neurons.cache.compute as compute
from neurons.cache import integrity
from neurons.cache.build import cache_activations
from neurons.cache.folder import building, is_being_built, lock_path
from neurons.cache.format import Cache, open_cache, reading, verify_cache
from neurons.cache.integrity import Manifest, read_manifest
from neurons.cache.parts import Parts, folders_beside
from neurons.model.checkpoint import load_model
from neurons.model.forward import EndRun, run
from neurons.model.model import Model
from neurons.model.tokenizer import Gpt2Tokenizer
from neurons.task.prompt_set import PromptSet
from neurons.task.prompts import year_spans
from neurons.types import CacheError

WORDS = ("war", "siege", "reign", "trial")
LAYERS = (1, 2)
NOBODY = {"user": 65534} if os.geteuid() == 0 else {}
"""For a builder that permissions bind: root may read and write anywhere."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(write_random_gpt2(tmp_path_factory.mktemp("tiny") / "tiny", n_layer=3, n_embd=16, n_inner=24))


@pytest.fixture(scope="module")
def prompts(mini_tokenizer: Gpt2Tokenizer) -> PromptSet:
    return spans(mini_tokenizer, *WORDS)


def spans(tokenizer: Gpt2Tokenizer, *words: str, **settings: Any) -> PromptSet:
    return year_spans(tokenizer, nouns=list(words), **({"centuries": [17]} | settings))


@pytest.fixture(scope="module")
def whole(tiny: Model, prompts: PromptSet, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Built without any interruption."""
    return cache_activations(tiny, prompts, layers=LAYERS, cache_dir=tmp_path_factory.mktemp("whole"))


@pytest.fixture
def copy(whole: Cache, tmp_path: Path) -> Path:
    """The same file, to be damaged."""
    return Path(shutil.copy(whole.path, tmp_path / whole.path.name))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, tuple[int, ...]]]:
    """Prompts and layers of each run of the model."""
    counted: list[tuple[int, tuple[int, ...]]] = []

    def counting(model: Model, tokens: np.ndarray, **settings: Any) -> EndRun:
        counted.append((len(tokens), settings["layers"]))
        return run(model, tokens, **settings)

    monkeypatch.setattr(compute, "run", counting)
    return counted


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def manifest(path: Path) -> Manifest:
    with reading(path) as file:
        return read_manifest(file)


# --- interruptions ---------------------------------------------------------------------------------


def fail_at(monkeypatch: pytest.MonkeyPatch, number: int, failure: BaseException) -> None:
    """The model fails at its so many-th run."""
    left = [number]

    def failing(model: Model, tokens: np.ndarray, **settings: Any) -> EndRun:
        left[0] -= 1
        if left[0] == 0:
            raise failure
        return run(model, tokens, **settings)

    monkeypatch.setattr(compute, "run", failing)


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), RuntimeError("bug"), MemoryError()])
def test_an_interrupted_build_goes_on_from_its_finished_blocks(
    tiny: Model, prompts: PromptSet, whole: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    runs: list[Any], failure: BaseException,
) -> None:  # fmt: skip
    with monkeypatch.context() as patch:
        fail_at(patch, 3, failure)
        with pytest.raises(type(failure)):
            cache_activations(tiny, prompts, layers=LAYERS, cache_dir=tmp_path)
    assert files(tmp_path) == [f"{whole.path.stem}.parts"]
    again = cache_activations(tiny, prompts, layers=LAYERS, cache_dir=tmp_path)
    assert len(runs) == 2  # of four
    assert files(tmp_path) == [whole.path.name]
    assert again.path.read_bytes() == whole.path.read_bytes()


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), MemoryError()])
def test_a_build_that_finished_no_block_leaves_nothing(
    tiny: Model, prompts: PromptSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    fail_at(monkeypatch, 1, failure)
    with pytest.raises(type(failure)):
        cache_activations(tiny, prompts, layers=LAYERS, cache_dir=tmp_path)
    assert files(tmp_path) == []


def test_workers_that_finished_no_block_leave_nothing(
    tiny: Model, prompts: PromptSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        assert files(tmp_path / next(tmp_path.glob("*.parts")).name) == ["plan.npz"]
        raise KeyboardInterrupt

    monkeypatch.setattr("neurons.cache.build.run_tasks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache_activations(tiny, prompts, layers=LAYERS, cache_dir=tmp_path, jobs=2)
    assert files(tmp_path) == []


def test_a_part_that_cannot_be_written_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", _failing_for(".npz"))
    with pytest.raises(CacheError, match="No space left on device"):
        Parts(tmp_path / "one.parts", "one").put("block", {"x": np.arange(3)})
    assert files(tmp_path) == []


def test_a_build_killed_in_its_first_block_leaves_no_folder_of_parts(
    tiny: Model, prompts: PromptSet, tmp_path: Path
) -> None:
    process = starved(tmp_path, tiny, prompts, seconds=60)
    while not builder.begun(tmp_path / "asked"):
        time.sleep(0.01)
    process.terminate()
    builder.end(process)
    assert not list((tmp_path / "cache").glob("*.parts"))


def test_a_damaged_part_is_computed_again(
    tiny: Model, prompts: PromptSet, whole: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_at(patch, 4, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            cache_activations(tiny, prompts, layers=LAYERS, cache_dir=tmp_path)
    first, second, third = sorted(tmp_path.glob("*.parts/block-*.npz"))
    first.write_bytes(first.read_bytes()[:500])
    second.write_bytes(second.read_bytes().replace(b"\x3f", b"\x3e", 40))
    third.write_bytes(b"")
    again = cache_activations(tiny, prompts, layers=LAYERS, cache_dir=tmp_path)
    assert manifest(again.path) == manifest(whole.path)


def test_a_part_of_another_computation_counts_as_missing(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts", "one")
    parts.put("block", {"x": np.arange(3)})
    assert replace(parts, digest="other").get("block") is None
    found = parts.get("block")
    assert found is not None
    assert found["x"].tolist() == [0, 1, 2]


def test_temporary_files_of_the_dead_are_cleared_and_of_the_living_kept(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts", "one")
    parts.put("block", {"x": np.arange(3)})
    dead = subprocess.Popen(["true"])
    dead.wait()
    host = re.sub("[^A-Za-z0-9]+", "_", os.uname().nodename)[:40]
    names = {pid: parts.folder / f".block.{host}-{pid}.tmp" for pid in (dead.pid, os.getpid())}
    for path in names.values():
        path.touch()
    parts.tidy()
    assert not names[dead.pid].exists()
    assert names[os.getpid()].exists()
    assert parts.names() == {"block"}


def test_a_leftover_temporary_file_of_a_dead_builder_is_cleared(
    tiny: Model, prompts: PromptSet, whole: Cache, tmp_path: Path
) -> None:
    (tmp_path / f".{whole.path.name}.tmp").write_bytes(b"half")
    (tmp_path / ".other.h5.tmp").write_bytes(b"of another key")
    lock_path(tmp_path / whole.path.name).touch()
    cache_activations(tiny, prompts, layers=LAYERS, cache_dir=tmp_path)
    assert files(tmp_path) == [".other.h5.tmp", whole.path.name]


def finished_in(folder: Path) -> set[int]:
    return {int(path.stem.split("-")[1]) for path in folder.glob("*.parts/block-*.npz")}


@pytest.mark.long
def test_thirty_kills_lose_no_finished_block_and_change_no_number(
    tiny: Model, mini_tokenizer: Gpt2Tokenizer, tmp_path: Path
) -> None:
    many = year_spans(mini_tokenizer, nouns=20, centuries=[11, 12, 13, 14, 16, 17])
    builder.prepare(tmp_path, tiny, many, LAYERS)
    assert builder.end(builder.start(tmp_path, tmp_path / "undisturbed")).code == 0
    (tmp_path / builder.LOG).unlink()
    kills, twice, rng = 0, 0, random.Random(0)
    while kills < 40:
        finished = finished_in(tmp_path / "killed")
        before = len(builder.begun(tmp_path))
        process = builder.start(tmp_path, tmp_path / "killed", seconds=0.02 if kills < 32 else 0)
        assert process.stdout is not None
        assert process.stdout.readline() == "begin\n"
        while kills >= 32 and len(finished_in(tmp_path / "killed")) < 120 and process.poll() is None:
            time.sleep(0.001)  # the last ones hit while the parts are put together
        time.sleep(rng.uniform(0, 0.2))
        if builder.end(process, kill=True).code != -9:
            break
        kills += 1
        twice += len(finished & set(builder.begun(tmp_path)[before:]))
        assert not list((tmp_path / "killed").glob("*.h5")) or not list((tmp_path / "killed").glob("*.parts"))
    last = builder.end(builder.start(tmp_path, tmp_path / "killed"))
    assert (last.code, last.err) == (0, "")
    assert kills >= 30, f"the build ended after {kills} kills"
    assert twice == 0
    (one,), (other,) = ((tmp_path / name).glob("*.h5") for name in ("undisturbed", "killed"))
    assert manifest(one) == manifest(other)
    assert files(other.parent) == [other.name]
    sys.stdout.write(f"{kills} kills, {twice} finished blocks computed twice")


# --- full disk, closed and vanished folders --------------------------------------------------------


def starved(tmp_path: Path, model: Model, prompts: PromptSet, **options: Any) -> "subprocess.Popen[str]":
    builder.prepare(tmp_path / "asked", model, prompts, LAYERS)
    return builder.start(tmp_path / "asked", tmp_path / "cache", **options)


def one_line(process: "subprocess.Popen[str]") -> str:
    ended = builder.end(process)
    assert ended.code == 1, ended
    assert ended.err.count("\n") == 1, ended
    return ended.err


@pytest.mark.long
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.999])
def test_a_file_size_limit_is_one_line_and_finished_blocks_are_kept(
    tiny: Model, prompts: PromptSet, whole: Cache, tmp_path: Path, share: float
) -> None:
    largest = int(share * whole.path.stat().st_size)
    err = one_line(starved(tmp_path, tiny, prompts, largest=largest))
    assert "cannot be written (File too large): choose another for the cache" in err
    assert not [name for name in files(tmp_path / "cache") if name.endswith((".h5", ".tmp"))]
    finished = len(list(tmp_path.glob("cache/*.parts/block-*.npz")))
    assert finished == (0 if share == 0.02 else 4)
    assert builder.end(starved(tmp_path, tiny, prompts)).code == 0
    assert sorted(builder.begun(tmp_path / "asked")) == [0, 0, 1, 2, 3] if finished == 0 else [0, 1, 2, 3]
    assert (tmp_path / "cache" / whole.path.name).read_bytes() == whole.path.read_bytes()


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk: run the tests as root")
def test_a_full_disk_is_one_line_and_what_was_there_stays(
    tiny: Model, prompts: PromptSet, whole: Cache, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "small", str(tmp_path / "cache")]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here: run where root may mount (docker run --privileged)")
    try:
        (tmp_path / "cache" / "mine").write_bytes(b"mine")
        assert "No space left on device" in one_line(starved(tmp_path, tiny, prompts))
        assert (tmp_path / "cache" / "mine").read_bytes() == b"mine"
        assert not list((tmp_path / "cache").glob("*.h5"))
    finally:
        subprocess.run(["umount", str(tmp_path / "cache")], check=True)


@pytest.fixture
def closed(tmp_path: Path, whole: Cache) -> Iterator[Path]:
    """A folder that holds a cache, may be read by all and written by none."""
    with tempfile.TemporaryDirectory() as above:
        Path(above).chmod(0o755)
        folder = Path(above) / "cache"
        folder.mkdir()
        shutil.copy(whole.path, folder)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


def test_a_folder_that_may_not_be_written_is_one_line_and_its_caches_still_open(
    tiny: Model, prompts: PromptSet, whole: Cache, closed: Path, tmp_path: Path
) -> None:
    builder.prepare(tmp_path, tiny, prompts, LAYERS)
    there = builder.end(builder.start(tmp_path, closed, **NOBODY))
    assert there.code == 0, there.err
    builder.prepare(tmp_path, tiny, prompts, (0,))
    err = one_line(builder.start(tmp_path, closed, **NOBODY))
    assert f"cache folder {closed} cannot be written (Permission denied)" in err
    assert (closed / whole.path.name).read_bytes() == whole.path.read_bytes()


@pytest.mark.long
def test_a_folder_that_may_not_be_entered_is_one_line(
    tiny: Model, prompts: PromptSet, closed: Path, tmp_path: Path
) -> None:
    closed.chmod(0o000)
    builder.prepare(tmp_path, tiny, prompts, LAYERS)
    err = one_line(builder.start(tmp_path, closed, **NOBODY))
    assert f"cache folder {closed} cannot be written (Permission denied)" in err


@pytest.mark.long
def test_a_folder_removed_meanwhile_is_one_line(tiny: Model, prompts: PromptSet, tmp_path: Path) -> None:
    process = starved(tmp_path, tiny, prompts, seconds=0.3)
    while not builder.begun(tmp_path / "asked"):
        time.sleep(0.01)
    shutil.rmtree(tmp_path / "cache")
    assert "cannot be written (No such file or directory)" in one_line(process)
    assert not (tmp_path / "cache").exists()


def test_an_error_while_the_file_is_put_together_leaves_the_parts(
    tiny: Model, prompts: PromptSet, whole: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: list[Any]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", _failing_for(".h5"))
        with pytest.raises(CacheError, match="No space left on device"):
            cache_activations(tiny, prompts, layers=LAYERS, cache_dir=tmp_path)
    assert files(tmp_path) == [f"{whole.path.stem}.parts"]
    runs.clear()
    cache_activations(tiny, prompts, layers=LAYERS, cache_dir=tmp_path)
    assert runs == []


def _failing_for(suffix: str) -> Callable[[Path, Path], Path]:
    original = Path.replace

    def replace_path(self: Path, target: Path) -> Path:
        if target.name.endswith(suffix):
            raise OSError(28, "No space left on device")
        return original(self, target)

    return replace_path


# --- asking for more computes only what is missing -------------------------------------------------


def test_fewer_layers_need_no_run(tiny: Model, prompts: PromptSet, copy: Path, runs: list[Any]) -> None:
    fewer = cache_activations(tiny, prompts, layers=[2], cache_dir=copy.parent)
    assert runs == []
    assert np.array_equal(fewer.post(2), open_cache(copy).post(2))


def test_more_layers_compute_the_missing_layer_alone(
    tiny: Model, prompts: PromptSet, copy: Path, tmp_path: Path, runs: list[Any]
) -> None:
    more = cache_activations(tiny, prompts, layers=[0, 1, 2], cache_dir=copy.parent)
    assert {layers for _, layers in runs} == {(0,)}
    fresh = cache_activations(tiny, prompts, layers=[0, 1, 2], cache_dir=tmp_path / "fresh")
    assert manifest(more.path) == manifest(fresh.path)


def test_more_nouns_compute_the_new_nouns_alone(
    tiny: Model, mini_tokenizer: Gpt2Tokenizer, copy: Path, tmp_path: Path, runs: list[Any]
) -> None:
    asked = spans(mini_tokenizer, "voyage", *WORDS)
    more = cache_activations(tiny, asked, layers=LAYERS, cache_dir=copy.parent)
    assert sum(n for n, _ in runs) == 1 + sum(word == "voyage" for word in asked.noun)
    fresh = cache_activations(tiny, asked, layers=LAYERS, cache_dir=tmp_path / "fresh")
    assert manifest(more.path) == manifest(fresh.path)


def only(prompts: PromptSet, kept: np.ndarray) -> PromptSet:
    return replace(
        prompts,
        tokens=prompts.tokens[kept],
        start_year=prompts.start_year[kept],
        century=prompts.century[kept],
        counterfactual=prompts.counterfactual[kept],
        noun=tuple(np.array(prompts.noun)[kept].tolist()),
    )


def test_more_years_compute_the_new_years_alone(
    tiny: Model, prompts: PromptSet, whole: Cache, tmp_path: Path, runs: list[Any]
) -> None:
    some = only(prompts, np.flatnonzero(prompts.start_year >= 30))
    cache_activations(tiny, some, layers=LAYERS, cache_dir=tmp_path)
    runs.clear()
    more = cache_activations(tiny, prompts, layers=LAYERS, cache_dir=tmp_path)
    assert sum(n for n, _ in runs) == len(prompts) - len(some)
    for layer in LAYERS:
        np.testing.assert_allclose(more.post(layer), whole.post(layer), rtol=1e-5, atol=1e-6)
    for name in ("final/year_logits", "counterfactual/year_logits"):
        np.testing.assert_allclose(more.read(name), whole.read(name), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("change", [{"seed": 1}, {"layer_norm_epsilon": 1e-3}, {"activation_function": "relu"}])
def test_other_weights_or_config_reuse_nothing(
    prompts: PromptSet, copy: Path, tmp_path: Path, runs: list[Any], change: dict[str, Any]
) -> None:
    folder = write_random_gpt2(tmp_path / "other" / "tiny", n_layer=3, n_embd=16, n_inner=24, **change)
    cache_activations(load_model(folder), prompts, layers=LAYERS, cache_dir=copy.parent)
    assert sum(n for n, _ in runs) == len(prompts) + len(WORDS)


def test_a_file_of_version_1_is_used_as_it_is_and_gives_its_numbers_to_others(
    mini_tokenizer: Gpt2Tokenizer, tmp_path: Path, runs: list[Any]
) -> None:
    """The model and prompts that it was made from, made again: random weights, two nouns with five start years each."""
    path = tmp_path / "tiny-1dc63f871eddefd7.h5"
    shutil.copy(Path(__file__).parents[1] / "data" / "cache-v1.h5", path)
    model = load_model(write_random_gpt2(tmp_path / "tiny", n_embd=8, n_inner=8, n_head=2))
    prompts = spans(mini_tokenizer, "war", "siege")
    few = only(prompts, np.flatnonzero(np.isin(prompts.start_year, [1, 2, 32, 33, 98])))
    assert cache_activations(model, few, layers=[0, 1], cache_dir=tmp_path).path == path
    cache_activations(model, few, layers=[1], cache_dir=tmp_path)
    assert runs == []
    cache_activations(model, prompts, layers=[1], cache_dir=tmp_path)
    assert sum(n for n, _ in runs) == len(prompts) - len(few)


def test_a_damaged_file_gives_nothing_away(tiny: Model, prompts: PromptSet, copy: Path, runs: list[Any]) -> None:
    flip(copy, copy.stat().st_size // 2)
    cache_activations(tiny, prompts, layers=[2], cache_dir=copy.parent)
    assert len(runs) == len(WORDS)


# --- damage is found and named ---------------------------------------------------------------------


def flip(path: Path, place: int, mask: int = 1) -> None:
    raw = bytearray(path.read_bytes())
    raw[place] ^= mask
    path.write_bytes(raw)


def place_of(path: Path, dataset: str, chunk: int = 0) -> int:
    with h5py.File(path) as file:
        return int(file[dataset].id.get_chunk_info(chunk).byte_offset)


@pytest.mark.parametrize("place", [*range(0, 512, 19), 511])
def test_every_byte_of_the_seal_is_checked(copy: Path, place: int) -> None:
    flip(copy, place)
    with pytest.raises(CacheError):
        open_cache(copy)


def test_a_good_file_is_verified_without_a_word(copy: Path) -> None:
    verify_cache(copy)


def test_a_damaged_file_is_refused_by_name_until_it_is_deleted_and_built_again(
    tiny: Model, prompts: PromptSet, whole: Cache, copy: Path
) -> None:
    flip(copy, place_of(copy, "mlp/2/post") + 40)
    for read in (verify_cache, open_cache):
        with pytest.raises(CacheError, match="it is damaged: its bytes are not those that were written") as error:
            read(copy)
        assert str(error.value).startswith(f"cache {copy} ")
        assert str(error.value).endswith("delete it and run again to rebuild it")
    copy.unlink()
    cache_activations(tiny, prompts, layers=LAYERS, cache_dir=copy.parent)
    assert copy.read_bytes() == whole.path.read_bytes()


def test_verify_names_numbers_that_were_changed_behind_the_seal(copy: Path) -> None:
    with edited(copy) as file:
        file["mlp/1/post"][3, 5] += 1
        one, other = file["final/scale"][()], file["final/logsumexp"][()]
        file["final/scale"][...], file["final/logsumexp"][...] = other, one
    open_cache(copy)
    with pytest.raises(CacheError, match=r"final/logsumexp, final/scale, mlp/1/post"):
        verify_cache(copy)


def test_a_file_beyond_the_limit_is_hashed_by_verify_alone(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "CHECK_LIMIT", 10_000)
    flip(copy, place_of(copy, "mlp/2/post") + 40)
    assert open_cache(copy).bytes_checked is False
    with pytest.raises(CacheError, match="its bytes are not those that were written"):
        verify_cache(copy)
    copy.write_bytes(copy.read_bytes()[:-1])
    with pytest.raises(CacheError, match="its seal does not fit its length"):
        open_cache(copy)


def external_link(file: h5py.File) -> None:
    del file["final/scale"]
    file["final/scale"] = h5py.ExternalLink("elsewhere.h5", "/x")


def soft_link(file: h5py.File) -> None:
    del file["final/scale"]
    file["final/scale"] = h5py.SoftLink("/final/logsumexp")


def linked_group(file: h5py.File) -> None:
    del file["mlp/2"]
    file["mlp/2"] = h5py.ExternalLink("elsewhere.h5", "/mlp")


def virtual(file: h5py.File) -> None:
    n = len(file["final/scale"])
    layout = h5py.VirtualLayout((n,), "<f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (n,))
    del file["final/scale"]
    file.create_virtual_dataset("final/scale", layout)


def external_storage(file: h5py.File) -> None:
    n = len(file["final/scale"])
    del file["final/scale"]
    file.create_dataset("final/scale", (n,), "<f4", external=[("/etc/hostname", 0, 4 * n)])


def compressed(file: h5py.File) -> None:
    values = file["final/scale"][()]
    del file["final/scale"]
    file.create_dataset("final/scale", data=values, compression="gzip", fletcher32=True)


def text(file: h5py.File) -> None:
    n = len(file["prompts/noun"])
    del file["prompts/noun"]
    file.create_dataset("prompts/noun", data=["war"] * n, dtype=h5py.string_dtype())


def double(file: h5py.File) -> None:
    values = file["final/scale"][()]
    del file["final/scale"]
    file.create_dataset("final/scale", data=values.astype(float), chunks=True, fletcher32=True)


def absurd(file: h5py.File) -> None:
    del file["prompts/missing"]
    file.create_dataset("prompts/missing", (1 << 40, 2), "<i2", chunks=(1024, 2), fletcher32=True)


def more(file: h5py.File) -> None:
    file["notes"] = np.zeros(3)


def cycle(file: h5py.File) -> None:
    file["mlp/1/again"] = file["mlp"]


def attribute(file: h5py.File) -> None:
    file["final/scale"].attrs["scale"] = 2.0


def outside(file: h5py.File) -> None:
    file["prompts/counterfactual"][0] = 1000


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (external_link, "final/scale is a link"),
        (soft_link, "final/scale is a link"),
        (linked_group, "mlp/2 is a link"),
        (virtual, "final/scale lies in another file"),
        (external_storage, "final/scale lies in another file"),
        (compressed, "other filters than fletcher32"),
        (text, "prompts/noun is of type object"),
        (double, "final/scale is of type float64"),
        (absurd, "larger than the file"),
        (more, "notes does not belong in a cache"),
        (cycle, "mlp/1/again does not belong in a cache"),
        (attribute, "final/scale has attributes"),
        (outside, "prompts/counterfactual holds numbers outside"),
    ],
)
def test_a_file_that_is_not_what_the_format_says_is_refused_with_the_reason(
    copy: Path, change: Callable[[h5py.File], None], reason: str
) -> None:
    with edited(copy) as file:
        change(file)
    with pytest.raises(CacheError, match="cannot be read") as error:
        open_cache(copy)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("bos", "x"), ("model", 3), ("layers", np.array([2, 1], np.int32)), ("key", "abc"), ("more", 1),
     ("versions", "[1]"), ("d_gain", 2.5), ("template", np.zeros(3)), ("dtype", "float16")],
)  # fmt: skip
def test_an_attribute_of_another_kind_is_refused(copy: Path, name: str, value: Any) -> None:
    with edited(copy) as file:
        file.attrs[name] = value
    with pytest.raises(CacheError, match="cannot be read"):
        open_cache(copy)


# --- several processes at once ---------------------------------------------------------------------


def test_a_second_builder_waits_says_so_and_reuses(
    tiny: Model, prompts: PromptSet, whole: Cache, tmp_path: Path, runs: list[Any]
) -> None:
    path, said = tmp_path / whole.path.name, list[str]()
    found: list[Cache] = []

    def second() -> None:
        found.append(cache_activations(tiny, prompts, layers=LAYERS, cache_dir=tmp_path, waiting=said.append))

    with building(path):
        assert is_being_built(path)
        thread = threading.Thread(target=second)
        thread.start()
        while not said:
            time.sleep(0.01)
        shutil.copy(whole.path, path)
    thread.join()
    assert said == [f"another process is building {path}: waiting for it"]
    assert runs == []
    assert found[0].path == path
    assert not is_being_built(path)


def test_builders_of_other_keys_do_not_wait(tiny: Model, prompts: PromptSet, whole: Cache, tmp_path: Path) -> None:
    said: list[str] = []
    with building(tmp_path / whole.path.name):
        cache_activations(tiny, prompts, layers=[0], cache_dir=tmp_path, waiting=said.append)
    assert said == []


def test_a_lock_left_by_a_killed_process_is_taken_over(
    tiny: Model, prompts: PromptSet, whole: Cache, tmp_path: Path
) -> None:
    lock = lock_path(tmp_path / whole.path.name)
    program = (
        "import sys\nfrom filelock import FileLock\nlock = FileLock(sys.argv[1])\nlock.acquire()\n"
        "print('held', flush=True)\ninput()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert is_being_built(tmp_path / whole.path.name)
        holder.kill()
    assert lock.exists()
    assert not is_being_built(tmp_path / whole.path.name)
    said: list[str] = []
    cache_activations(tiny, prompts, layers=LAYERS, cache_dir=tmp_path, waiting=said.append)
    assert said == []
    assert files(tmp_path) == [whole.path.name]


@pytest.mark.long
def test_eight_processes_at_once_build_it_once(tiny: Model, prompts: PromptSet, whole: Cache, tmp_path: Path) -> None:
    builder.prepare(tmp_path, tiny, prompts, LAYERS)
    processes = [builder.start(tmp_path, tmp_path / "cache", seconds=1) for _ in range(8)]
    ended = [builder.end(process) for process in processes]
    assert [one.code for one in ended] == [0] * 8
    assert sorted(builder.begun(tmp_path)) == [0, 1, 2, 3]
    assert {one.out[-1] for one in ended} == {f"done {tmp_path / 'cache' / whole.path.name}"}
    assert (tmp_path / "cache" / whole.path.name).read_bytes() == whole.path.read_bytes()
    assert files(tmp_path / "cache") == [whole.path.name]


def test_many_read_at_once(whole: Cache) -> None:
    program = (
        "import pickle, sys\nimport numpy as np\n"
        "cache = pickle.loads(sys.stdin.buffer.read())\n"
        "sums = {float(cache.post(layer).sum()) for layer in cache.layers for _ in range(20)}\n"
        "print(sorted(sums))"
    )
    readers = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    outs = {reader.communicate(pickle.dumps(whole))[0] for reader in readers}
    assert len(outs) == 1
    assert outs != {b""}


def test_the_parts_beside_a_cache_are_found(whole: Cache, tmp_path: Path) -> None:
    path = tmp_path / whole.path.name
    for name in (f"{path.stem}.parts", f"{path.stem}.causal-0123", "other.parts"):
        (tmp_path / name).mkdir()
    assert [folder.name for folder in folders_beside(path)] == [f"{path.stem}.causal-0123", f"{path.stem}.parts"]
