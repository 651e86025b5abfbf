"""Remembered digests: a second process need not read the file again, and a changed file is never taken for the old."""

import json
import os
import time
from pathlib import Path

import pytest
from random_gpt2 import write_random_gpt2

from neurons import remembered
from neurons.cache.format import open_cache, verify_cache
from neurons.model.files import find_checkpoint
from neurons.remembered import MOST, NAME, Remembered, beside
from neurons.types import CacheError

OLD = Path(__file__).parent / "data" / "cache-v1.h5"
CLOCK_STEP = 0.02
"""Longer than a step of the kernel's clock, so that two writes have different times."""


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as old and large enough at once."""
    monkeypatch.setattr(remembered, "LARGE_BYTES", 1)
    monkeypatch.setattr(remembered, "SETTLED_SECONDS", -3600.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    return path


def read(memory: Remembered, *files: Path, what: str = "content") -> tuple[str, bool]:
    """The content as `digest` gives it, and whether the files were read."""
    reads = []

    def compute() -> str:
        reads.append(files)
        return "".join(file.read_text() for file in files)

    return memory.digest(what, files, compute), bool(reads)


def flip(path: Path, place: int) -> None:
    """Change one byte; size and mtime stay."""
    time.sleep(CLOCK_STEP)
    before = path.stat()
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.usefixtures("settled")
def test_an_unchanged_file_is_read_once(file: Path, tmp_path: Path) -> None:
    assert read(beside(tmp_path), file) == ("weights", True)
    assert read(beside(tmp_path), file) == ("weights", False)
    assert [path.name for path in tmp_path.iterdir() if path != file] == [NAME]


@pytest.mark.usefixtures("settled")
def test_a_changed_byte_is_seen_though_size_and_mtime_are_the_same(file: Path, tmp_path: Path) -> None:
    read(beside(tmp_path), file)
    flip(file, 0)
    assert read(beside(tmp_path), file) == ("veights", True)


@pytest.mark.usefixtures("settled")
def test_a_file_put_in_the_place_of_another_is_read(file: Path, tmp_path: Path) -> None:
    read(beside(tmp_path), file)
    other = tmp_path / "other"
    other.write_bytes(b"weighty")
    os.utime(other, ns=(0, file.stat().st_mtime_ns))
    other.replace(file)
    assert read(beside(tmp_path), file) == ("weighty", True)


@pytest.mark.usefixtures("settled")
def test_each_file_counts(file: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.write_bytes(b"!")
    assert read(beside(tmp_path), file, second) == ("weights!", True)
    assert read(beside(tmp_path), file, second) == ("weights!", False)
    flip(second, 0)
    assert read(beside(tmp_path), file, second) == ("weights ", True)
    assert read(beside(tmp_path), file, second, what="another digest") == ("weights ", True)


def test_of_a_file_that_has_just_changed_nothing_is_remembered(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "LARGE_BYTES", 1)
    read(beside(tmp_path), file)
    assert read(beside(tmp_path), file) == ("weights", True)


def test_of_a_small_file_nothing_is_remembered(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "SETTLED_SECONDS", -3600.0)
    read(beside(tmp_path), file)
    assert read(beside(tmp_path), file) == ("weights", True)


def test_a_file_that_changes_while_it_is_read_is_not_remembered(file: Path, tmp_path: Path, settled: None) -> None:
    def changed_meanwhile() -> str:
        flip(file, 0)
        return "weights"

    beside(tmp_path).digest("content", [file], changed_meanwhile)
    assert read(beside(tmp_path), file) == ("veights", True)


@pytest.mark.usefixtures("settled")
def test_after_a_day_the_file_is_read_again(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(beside(tmp_path), file)
    now = time.time()
    for moved in (25 * 3600, -3600):
        monkeypatch.setattr(time, "time", lambda moved=moved: now + moved)
        assert read(beside(tmp_path), file)[1]
        monkeypatch.setattr(time, "time", lambda: now)


def altered(text: str) -> str:
    return text.replace('"weights"', '"veights"')


@pytest.mark.parametrize(
    "damage",
    [altered, lambda text: "", lambda text: text[:-5], lambda text: "[]", lambda text: '{"a": 1}',
     lambda text: '{"a": [{}, ""]}', lambda text: "[" * 100_000, lambda text: "\udcff"],
    ids=["altered", "empty", "cut", "list", "number", "entry", "deep", "bytes"],
)  # fmt: skip
@pytest.mark.usefixtures("settled")
def test_a_damaged_memory_counts_as_empty(damage, file: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    read(beside(tmp_path), file)
    path = tmp_path / NAME
    path.write_text(damage(path.read_text()), errors="surrogateescape")
    assert read(beside(tmp_path), file) == ("weights", True)
    assert read(beside(tmp_path), file) == ("weights", False)


@pytest.mark.usefixtures("settled")
def test_a_folder_that_cannot_be_written_only_costs_the_time(file: Path, tmp_path: Path) -> None:
    nowhere = beside(tmp_path / "nowhere")
    (tmp_path / "occupied" / NAME).mkdir(parents=True)
    for memory in (nowhere, beside(tmp_path / "occupied")):
        assert read(memory, file) == read(memory, file) == ("weights", True)
    assert [path.name for path in (tmp_path / "occupied").iterdir()] == [NAME]


@pytest.mark.usefixtures("settled")
def test_only_the_newest_are_kept(file: Path, tmp_path: Path) -> None:
    for number in range(MOST + 5):
        read(beside(tmp_path), file, what=str(number))
    assert len(json.loads((tmp_path / NAME).read_text())) == MOST
    assert read(beside(tmp_path), file, what="0")[1]
    assert not read(beside(tmp_path), file, what=str(MOST + 4))[1]


# --- fingerprints and seals -------------------------------------------------------------------------


@pytest.mark.usefixtures("settled")
def test_a_changed_weight_is_another_fingerprint(tmp_path: Path) -> None:
    folder = write_random_gpt2(tmp_path / "small", n_layer=1, n_embd=8, n_head=2)
    plain, first = find_checkpoint(folder), find_checkpoint(folder, remembered=beside(tmp_path))
    assert first.fingerprint == plain.fingerprint
    assert (tmp_path / NAME).is_file()
    again = find_checkpoint(folder, remembered=beside(tmp_path))
    assert again.fingerprint == plain.fingerprint
    weights = folder / "model.safetensors"
    flip(weights, weights.stat().st_size - 3)
    changed = find_checkpoint(folder, remembered=beside(tmp_path)).fingerprint
    assert changed == find_checkpoint(folder).fingerprint != plain.fingerprint


@pytest.mark.usefixtures("settled")
def test_a_fingerprint_is_of_the_tensors_that_are_used(tmp_path: Path) -> None:
    """The same file under another config is another model."""
    folder = write_random_gpt2(tmp_path / "small", n_layer=2, n_embd=8, n_head=2)
    both = find_checkpoint(folder, remembered=beside(tmp_path)).fingerprint
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_layer": 1}))
    assert find_checkpoint(folder, remembered=beside(tmp_path)).fingerprint != both


@pytest.fixture
def cache_file(tmp_path: Path) -> Path:
    path = tmp_path / OLD.name
    path.write_bytes(OLD.read_bytes())
    return path


@pytest.mark.usefixtures("settled")
def test_a_cache_is_hashed_once_and_refused_when_a_byte_changes(
    cache_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = open_cache(cache_file).key
    with monkeypatch.context() as patched:
        patched.setattr("neurons.cache.integrity._digest", None)
        assert open_cache(cache_file).key == key
    flip(cache_file, cache_file.stat().st_size // 2)
    with pytest.raises(CacheError, match="its bytes are not those that were written"):
        open_cache(cache_file)


@pytest.mark.usefixtures("settled")
def test_verify_reads_every_byte_whatever_is_remembered(cache_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bit that rots on the disk changes no time: as if nothing had happened."""
    monkeypatch.setattr(remembered, "_stamps", lambda files: [[0, 0, 1, 0, 0]])
    open_cache(cache_file)
    flip(cache_file, cache_file.stat().st_size - 20)
    with pytest.raises(CacheError, match=r"damaged|cannot be read"):
        verify_cache(cache_file)
