"""scripts/per_neuron_reports.py: pages for chosen neurons, from a cache and without a model."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from neurons.cache.format import open_cache
from neurons.cache.results import keep_result
from neurons.weights.statistics import neuron_statistics

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "per_neuron_reports.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("per_neuron_reports", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_follow_the_order_of_arguments_and_file(script, mini_cache, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("L8N3  # late\n\n# nothing\n")
    common = ["--cache", str(mini_cache.path), "--report-dir", str(tmp_path)]
    assert script.main(["L9N12", "--file", str(names), *common]) == 0
    found = json.loads((tmp_path / "mini-neurons" / "report.json").read_text(encoding="utf-8"))
    assert list(found["neurons"]) == ["L9N12", "L8N3"]
    assert str(tmp_path / "mini-neurons" / "index.html") in capsys.readouterr().out


def test_what_was_kept_of_the_weights_is_shown(script, mini_model, mini_cache, tmp_path):
    """Statistics are of every neuron, so those of any page are there."""
    cache = open_cache(shutil.copy(mini_cache.path, tmp_path))
    keep_result(cache, "statistics", {}, neuron_statistics(mini_model, cache.layers))
    assert script.main(["L9N12", "--cache", str(cache.path), "--report-dir", str(tmp_path)]) == 0
    page = (tmp_path / "mini-neurons" / "neurons" / "L9N12.html").read_text(encoding="utf-8")
    assert "kurtosis" in page
    assert "Strongest and weakest prompts" not in page


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "no neuron given"),
        (["foo"], 2, "'foo' is not a neuron"),
        (["L99N1"], 2, "L99N1 is outside the cached layers"),
        (["L9N99999"], 2, "L9N99999 does not exist"),
        (["L9N1", "--years", "98-02"], 2, "runs backwards"),
        (["--file", "nowhere.txt"], 2, "cannot be read as text"),
    ],
)
def test_wrong_input_is_one_line(script, mini_cache, tmp_path, capsys, arguments, code, said):
    common = ["--cache", str(mini_cache.path), "--report-dir", str(tmp_path)]
    assert script.main([*arguments, *common]) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_missing_cache_is_told_with_the_way_to_build_it(script, tmp_path, capsys):
    assert script.main(["L9N12", "--cache-dir", str(tmp_path)]) == 1
    assert "neurons cache build" in capsys.readouterr().err
