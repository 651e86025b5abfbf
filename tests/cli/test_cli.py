"""The command: results on standard output, one line and an exit code for what cannot be done."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

import neurons
from neurons.cli.common import print_table
from neurons.cli.main import GROUPS, build_app
from neurons.model.files import BUNDLED

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def built(mini_cache: neurons.Cache) -> neurons.Cache:
    return mini_cache


@pytest.fixture
def folder(mini_cache: neurons.Cache, mini_attributed: neurons.Attributed) -> Path:
    return mini_cache.path.parent


def test_cache_build_reuses_what_is_there(run: Run, built: neurons.Cache, folder: Path) -> None:
    code, out, _ = run("cache", "build", "--cache-dir", folder, "--json")
    found = json.loads(out)
    assert code == 0
    assert found == {"path": str(built.path), "reused": True, "prompts": len(built), "layers": [8, 9, 10, 11],
                     "attribution": True}  # fmt: skip


def test_rank_json_lists_every_neuron_by_share(run: Run, built: neurons.Cache, folder: Path) -> None:
    _, out, err = run("rank", "--cache-dir", folder, "--json")
    found = json.loads(out)
    neurons_ = found["neurons"]
    assert err == ""
    assert len(neurons_) == 4 * built.d_mlp
    assert [n["rank"] for n in neurons_] == list(range(1, len(neurons_) + 1))
    keys = {"neuron", "layer", "index", "rank", "share", "ci_low", "ci_high", "written_share", "sharpness_share",
            "score", "static", "year_specific", "total", "indirect", "tuning_centre", "readout_edge", "edge_gap",
            "boosting", "suppressing"}  # fmt: skip
    assert set(neurons_[0]) == keys
    shares = np.array([one["share"] for one in neurons_])
    assert (np.diff(shares) <= 1e-6 * shares.max()).all()
    moved = found["clean"]["probability_difference"] - found["floor"]["probability_difference"]
    assert shares.sum() == pytest.approx(moved, rel=0.005)
    assert set(found["k"]["probability_difference"]) == {"50", "80", "90", "99"}
    assert [set(one) for one in found["pairing"]] == [{"layer", "z", "p_value"}] * 4
    assert found["alone"] is None


def test_rank_without_attribution_says_so_and_runs_no_model(run: Run, built: neurons.Cache, folder: Path) -> None:
    _, out, _ = run("rank", "--cache-dir", folder, "--no-attribution", "--json")
    found = json.loads(out)
    assert (found["order"], found["clean"], found["k"], found["neurons"][0]["share"]) == ("direct", None, None, None)
    _, out, _ = run("rank", "--cache-dir", folder, "--no-attribution")
    assert "no attribution" in " ".join(out.split())


def test_rank_orders_by_what_is_asked(run: Run, built: neurons.Cache, folder: Path) -> None:
    for order, key in (("direct", "year_specific"), ("sharpness", "sharpness_share")):
        _, out, _ = run("rank", "--cache-dir", folder, "--order", order, "--json")
        values = np.array([one[key] for one in json.loads(out)["neurons"]])
        assert (np.diff(values) <= 1e-6 * values.max()).all()
    code, _, err = run("rank", "--cache-dir", folder, "--order", "total")
    assert code == 2
    assert "order total needs numbers that are not there" in err


def test_rank_prints_what_the_library_says(
    run: Run, built: neurons.Cache, mini_attributed: neurons.Attributed, folder: Path
) -> None:
    _, out, _ = run("rank", "--cache-dir", folder, "--json", "--top", "3")
    ranking = neurons.rank(neurons.logit_effects(built), attribution=mini_attributed)
    assert json.loads(out)["neurons"] == [ranking.record(row) for row in range(3)]


def test_rank_of_one_start_year_scores_that_year_alone(run: Run, built: neurons.Cache, folder: Path) -> None:
    _, out, _ = run("rank", "--cache-dir", folder, "--year", "32", "--top", "1", "--json")
    best = json.loads(out)["neurons"][0]
    contrast = neurons.logit_effects(built).contrast(best["neuron"])
    assert best["score"] == pytest.approx(contrast[32 - 2], rel=1e-5)


def test_effect_json_equals_the_library(run: Run, built: neurons.Cache, folder: Path) -> None:
    _, out, _ = run("effect", "L9N12", "--year", "32", "--cache-dir", folder, "--json")
    found = json.loads(out)
    logits = neurons.logit_effects(built).of_array("L9N12", start_year=32)
    assert found["neuron"] == "L9N12"
    assert found["start_year"] == 32
    assert found["logits"] == logits.tolist()
    assert found["contrast"] == pytest.approx(logits[33:].mean() - logits[:33].mean(), abs=1e-7)


def test_behaviour_reaches_the_bars_of_the_card(run: Run, built: neurons.Cache, folder: Path) -> None:
    _, out, _ = run("behaviour", "--cache-dir", folder, "--json")
    found = json.loads(out)
    assert found["probability_difference"]["mean"] >= 0.80
    assert found["cutoff_sharpness"]["mean"] >= 0.035
    assert found["counterfactual"]["probability_difference"]["mean"] < 0
    assert found["n_prompts"] == int(np.isin(built.start_year, range(2, 99)).sum())


def test_the_cards_numbers_are_what_the_command_prints(run: Run, folder: Path) -> None:
    _, out, _ = run("behaviour", "--resample", "--json", "--cache-dir", folder)
    found = json.loads(out)
    rows = {"clean run": found,
            "corrupted run (YY replaced by 01, scored against the true YY)": found["counterfactual"],
            "average distribution (of all start years)": found["average_distribution"],
            "MLPs 8-11 at END from the corrupted run": found["mlps_resampled"]}  # fmt: skip
    card = (BUNDLED["mini"] / "README.md").read_text(encoding="utf-8")
    for name, values in rows.items():
        numbers = [values[measure]["mean"] for measure in ("probability_difference", "cutoff_sharpness")]
        line = next(line for line in card.splitlines() if line.startswith(f"| {name} |"))
        assert [float(cell) for cell in line.split("|")[2:4]] == pytest.approx(numbers, abs=1e-4)


def test_the_late_mlps_of_mini_carry_the_answer(run: Run, built: neurons.Cache, folder: Path) -> None:
    _, out, _ = run("behaviour", "--resample", "--cache-dir", folder, "--json")
    found = json.loads(out)
    gap = (
        found["mlps_resampled"]["probability_difference"]["mean"]
        - found["counterfactual"]["probability_difference"]["mean"]
    )
    assert abs(gap) < 0.10


@pytest.mark.parametrize("command", [["rank"], ["behaviour"], ["effect", "L9N12", "--year", "32"], ["cache", "list"]])
def test_the_table_for_people_names_the_model(run: Run, built: neurons.Cache, folder: Path, command: list[str]) -> None:
    code, out, _ = run(*command, "--cache-dir", folder)
    assert code == 0
    assert "mini" in out


def test_models_says_which_work_now(run: Run) -> None:
    _, out, _ = run("models", "--json")
    states = {entry["model"]: entry["ready"] for entry in json.loads(out)}
    assert states["mini"] is True
    assert "gpt2-medium" in states


WRONG = [
    (["rank", "--model", "gtp2"], "gtp2", 2),
    (["rank", "--model", "/nowhere/at/all"], "/nowhere/at/all", 2),
    (["rank", "--layers", "12"], "12", 2),
    (["rank", "--layers", "8-99"], "12", 2),
    (["rank", "--layers", "eight"], "eight", 2),
    (["rank", "--years", "98-02"], "98-02", 2),
    (["rank", "--years", "0-120"], "00", 2),
    (["rank", "--years", "00-50"], "00", 2),
    (["rank", "--years", "abc"], "abc", 2),
    (["rank", "--year", "99"], "99", 2),
    (["rank", "--nouns", "0"], "0", 2),
    (["rank", "--nouns", "9999"], "9999", 2),
    (["rank", "--nouns", "no-such-file"], "no-such-file", 2),
    (["rank", "--centuries", "10"], "10", 2),
    (["rank", "--top", "0"], "--top", 2),
    (["rank", "--modle", "mini"], "--modle", 2),
    (["effect", "L99N1", "--year", "32"], "99", 2),
    (["effect", "L9N99999", "--year", "32"], "L9N99999", 2),
    (["effect", "foo", "--year", "32"], "foo", 2),
    (["effect", "L2N1", "--year", "32"], "L2N1", 2),
    (["effect", "L9N1", "--year", "99"], "99", 2),
    (["effect", "L9N1", "--year", "x"], "--year", 2),
    (["effect", "L9N1"], "--year", 2),
    (["frobnicate"], "frobnicate", 2),
]


@pytest.mark.parametrize(
    ("arguments", "named", "expected"), WRONG, ids=lambda v: " ".join(v) if isinstance(v, list) else None
)
def test_wrong_input_is_one_line_that_names_it_and_writes_nothing(
    run: Run, tmp_path: Path, arguments: list[str], named: str, expected: int
) -> None:
    where = [] if arguments == ["frobnicate"] else ["--cache-dir", tmp_path / "cache"]
    code, out, err = run(*arguments, *where)
    assert code == expected
    assert out == ""
    assert err.startswith("neurons: ")
    assert err.count("\n") == 1
    assert named in err
    assert list(tmp_path.iterdir()) == []


def test_a_noun_that_is_not_one_token_is_named(run: Run, tmp_path: Path) -> None:
    nouns = tmp_path / "nouns.txt"
    nouns.write_text("war\nantidisestablishmentarianism\n")
    code, _, err = run("rank", "--nouns", nouns, "--cache-dir", tmp_path / "cache")
    assert code == 2
    assert "antidisestablishmentarianism" in err
    assert not (tmp_path / "cache").exists()


def test_a_nouns_file_that_is_not_text_is_refused(run: Run, tmp_path: Path) -> None:
    nouns = tmp_path / "nouns.bin"
    nouns.write_bytes(b"\xff\xfe\x00war")
    code, _, err = run("rank", "--nouns", nouns, "--cache-dir", tmp_path / "cache")
    assert code == 2
    assert "nouns.bin" in err


def test_an_unwritable_cache_folder_is_one_line_and_exit_code_1(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code, out, err = run("rank", "--cache-dir", tmp_path / "file")
    assert (code, out) == (1, "")
    assert "choose another for the cache" in err
    assert err.count("\n") == 1


def test_an_unwritable_report_folder_is_one_line_and_exit_code_1(
    run: Run, built: neurons.Cache, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    code, _, err = run("report", "--cache-dir", folder, "--report-dir", tmp_path / "file", "--quiet")
    assert code == 1
    assert str(tmp_path / "file") in err
    assert err.count("\n") == 1


def test_an_unreadable_cache_file_is_one_line_and_exit_code_1(run: Run, built: neurons.Cache, tmp_path: Path) -> None:
    damaged = tmp_path / built.path.name
    damaged.write_bytes(built.path.read_bytes()[:4000])
    code, out, err = run("rank", "--cache-dir", tmp_path)
    assert (code, out) == (1, "")
    assert str(damaged) in err
    assert err.count("\n") == 1


def test_cache_list_shows_a_damaged_file_as_such(run: Run, built: neurons.Cache, tmp_path: Path) -> None:
    shutil.copy(built.path, tmp_path)
    (tmp_path / "other.h5").write_bytes(b"nothing")
    _, out, _ = run("cache", "list", "--cache-dir", tmp_path, "--json")
    states = {Path(entry["path"]).name: entry["state"] for entry in json.loads(out)}
    assert states[built.path.name] == "complete"
    assert "cannot be read" in states["other.h5"]


def test_debug_shows_the_traceback(run: Run, tmp_path: Path) -> None:
    code, _, err = run("rank", "--years", "abc", "--debug", "--cache-dir", tmp_path)
    assert code == 2
    assert "Traceback" in err


NO_TORCH = """
import sys
from neurons.cli.main import main
sys.argv = ["neurons", *sys.argv[1:]]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
assert "torch" not in sys.modules, "torch was imported"
assert "transformers" not in sys.modules, "transformers was imported"
assert "xarray" not in sys.modules, "xarray was imported"
"""


@pytest.mark.parametrize(
    "command", [["rank"], ["effect", "L9N12", "--year", "32", "--json"], ["behaviour"], ["report", "--top", "1"]]
)
def test_a_command_on_an_existing_cache_imports_no_torch(
    built: neurons.Cache, folder: Path, tmp_path: Path, command: list[str]
) -> None:
    where = ["--cache-dir", str(folder)] + (["--report-dir", str(tmp_path)] if command[0] == "report" else [])
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH, *command, *where], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_numpys_own_products_have_one_thread_in_the_command() -> None:
    code = (
        "import neurons.cli.main, numpy\n"
        "from threadpoolctl import threadpool_info\n"
        "print({one['num_threads'] for one in threadpool_info() if one['internal_api'] == 'openblas'} <= {1})"
    )
    asked = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], env=asked, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_importing_the_package_loads_no_heavy_library() -> None:
    heavy = "{'torch', 'numpy', 'h5py', 'scipy', 'matplotlib', 'pandas', 'transformer_lens'}"
    code = f"import sys, neurons; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def every_command() -> list[list[str]]:
    def walk(command: object, path: list[str]) -> list[list[str]]:
        below = getattr(command, "commands", {})
        return [path] + [found for name, sub in below.items() for found in walk(sub, [*path, name])]

    return walk(get_command(build_app()), [])


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_every_command_and_option_has_help(path: list[str]) -> None:
    command = get_command(build_app())
    for name in path:
        command = command.commands[name]  # type: ignore[attr-defined]
    assert command.help
    for parameter in command.params:
        if parameter.name != "help":
            assert getattr(parameter, "help", None), f"{' '.join(path)}: {parameter.name} has no help"


@pytest.mark.parametrize("group", GROUPS)
def test_a_file_of_commands_registers_what_it_is_looked_up_by(group: str) -> None:
    """Only the group of the command asked for is imported."""
    for name in GROUPS[group]:
        assert set(get_command(build_app([name])).commands) == set(GROUPS[group])  # type: ignore[attr-defined]


def test_a_narrow_terminal_cuts_no_number(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    row = ["L11N165", "+0.1616", "+0.1606 .. +0.1626", "+0.1152"]
    print_table("a title", ["neuron", "score", "95 % interval", "static"], [row])
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert all(text in printed for text in row)
