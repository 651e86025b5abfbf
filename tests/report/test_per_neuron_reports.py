"""scripts/per_neuron_reports.py: pages for chosen neurons."""

import importlib.util
import json
from pathlib import Path

import pytest

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
    common = ["--cache-dir", str(mini_cache.path.parent), "--report-dir", str(tmp_path)]
    assert script.main(["L9N12", "--file", str(names), *common]) == 0
    found = json.loads((tmp_path / "mini-neurons" / "report.json").read_text(encoding="utf-8"))
    assert list(found["neurons"]) == ["L9N12", "L8N3"]
    assert str(tmp_path / "mini-neurons" / "index.html") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "no neuron given"),
        (["foo"], 2, "invalid neuron 'foo'"),
        (["L99N1"], 2, "layer 99 is not in this model"),
        (["L9N99999"], 2, "L9N99999 does not exist"),
        (["--file", "nowhere.txt"], 2, "cannot be read as text"),
    ],
)
def test_wrong_input_is_one_line(script, mini_cache, tmp_path, capsys, arguments, code, said):
    common = ["--cache-dir", str(tmp_path), "--report-dir", str(tmp_path)]
    assert script.main([*arguments, *common]) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
