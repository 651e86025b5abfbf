"""`neurons cache`: where a cache lies, whether it is good, and how it goes away."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

import neurons
from neurons.cache.folder import building
from neurons.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["neurons", "cache", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


@pytest.fixture
def copy(mini_cache: neurons.Cache, tmp_path: Path) -> Path:
    return Path(shutil.copy(mini_cache.path, tmp_path))


def damage(path: Path, dataset: str) -> None:
    with h5py.File(path) as file:
        place = file[dataset].id.get_chunk_info(0).byte_offset + 40
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


def test_path_says_where_the_cache_lies(run: Run, copy: Path) -> None:
    assert run("path", "--cache-dir", copy.parent) == (0, f"{copy}\n", "")
    code, out, _ = run("path", "--cache-dir", copy.parent, "--nouns", "2", "--json")
    assert code == 0
    assert json.loads(out)["exists"] is False


def test_dtype_names_another_cache(run: Run, copy: Path) -> None:
    code, out, _ = run("path", "--cache-dir", copy.parent, "--dtype", "float16")
    assert code == 0
    assert out != f"{copy}\n"
    assert run("path", "--cache-dir", copy.parent, "--dtype", "float32") == (0, f"{copy}\n", "")
    code, out, err = run("path", "--dtype", "half")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "'--dtype': 'half' is not one of 'float32', 'float16'" in err


def test_verify_prints_what_is_good(run: Run, copy: Path) -> None:
    assert run("verify", "--cache-dir", copy.parent) == (0, f"good {copy}\n", "")


def test_verify_refuses_a_damaged_file_by_name_and_says_how_to_rebuild_it(run: Run, copy: Path) -> None:
    damage(copy, "mlp/9/post")
    code, out, err = run("verify", copy.name, "--cache-dir", copy.parent)
    assert (code, out) == (1, "")
    reason = "it is damaged: its bytes are not those that were written"
    assert err == f"neurons: cache {copy} cannot be read ({reason}): delete it and run again to rebuild it\n"


def test_verify_tells_every_file_s_state(run: Run, copy: Path) -> None:
    other = copy.with_name(f"mini-{'0' * 16}.h5")
    other.write_bytes(b"nothing")
    code, out, _ = run("verify", "--cache-dir", copy.parent, "--json")
    states = {Path(entry["path"]).name: entry["state"] for entry in json.loads(out)}
    assert code == 1
    assert states[copy.name] == "good"
    assert "not a cache" in states[other.name]


def test_delete_asks_and_takes_no_for_an_answer(run: Run, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    code, out, err = run("delete", copy.name, "--cache-dir", copy.parent)
    assert (code, out) == (0, "")
    assert f"kept {copy}" in err
    assert copy.exists()


def test_delete_removes_the_file_with_the_parts_and_results_beside_it(run: Run, copy: Path) -> None:
    for name in (f"{copy.stem}.parts", f"{copy.stem}.causal-0123", "mini-other.parts"):
        (copy.parent / name).mkdir()
        (copy.parent / name / "part.npz").touch()
    for name in (f"{copy.stem}.causal.result", f"{copy.stem}.causal.json"):
        (copy.parent / name).touch()
    assert run("delete", copy, "--yes") == (0, f"deleted {copy}\n", "")
    assert [path.name for path in copy.parent.iterdir()] == ["mini-other.parts"]


def test_delete_refuses_what_is_being_built(run: Run, copy: Path) -> None:
    with building(copy):
        code, _, err = run("delete", copy, "--yes")
    assert code == 1
    assert "is being built by another process" in err
    assert copy.exists()


@pytest.mark.parametrize(
    ("name", "says"), [("gone.h5", "no cache 'gone.h5' here or in"), ("notes.txt", "has no cache file's name")]
)
def test_delete_touches_nothing_but_caches(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    code, _, err = run("delete", name, "--yes", "--cache-dir", tmp_path)
    assert code == 2
    assert says in err
    assert (tmp_path / "notes.txt").exists()


def test_list_tells_what_is_unfinished_and_what_is_being_built(run: Run, tmp_path: Path) -> None:
    parts = tmp_path / "mini-0123456789abcdef.parts"
    parts.mkdir()
    (parts / "block-000000.npz").write_bytes(b"x" * 10)
    _, out, _ = run("list", "--cache-dir", tmp_path, "--json")
    (entry,) = json.loads(out)
    assert entry["state"] == "unfinished: 1 finished blocks"
    assert (entry["model"], entry["bytes"]) == ("mini", 10)
    with building(parts.with_suffix(".h5")):
        _, out, _ = run("list", "--cache-dir", tmp_path, "--json")
    assert json.loads(out)[0]["state"] == "being built: 1 finished blocks"


def test_list_shows_what_a_cache_holds_in_lines_of_a_terminal(run: Run, copy: Path) -> None:
    _, out, _ = run("list", "--cache-dir", copy.parent)
    assert [copy.name, "  complete"] == out.splitlines()[2:4]
    for shown in ("of mini as float32", "'The {noun} lasted from the year {XX}{YY} to the year {XX}'", " nouns: ",
                  "; centuries 11-18", " s old"):  # fmt: skip
        assert shown in out
    assert max(map(len, out.splitlines()[1:])) < 80


@pytest.mark.parametrize("options", [["--jobs", "0"], ["--scheduler", "nowhere"]])
def test_jobs_and_schedulers_that_cannot_be_meant_are_refused(run: Run, tmp_path: Path, options: list[str]) -> None:
    code, out, err = run("build", *options, "--cache-dir", tmp_path / "cache")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert not (tmp_path / "cache").exists()
