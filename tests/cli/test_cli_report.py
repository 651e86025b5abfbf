"""`neurons report` puts all analyses together, keeps what it computed, and then needs no model."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from neurons.cache.results import keep_result
from neurons.cli.core import _command
from neurons.cli.main import main
from neurons.comparison.published import PROBABILITY_DIFFERENCE, judge_number
from neurons.comparison.results import Checks
from neurons.report.folder import place_of
from neurons.study.opened import KEPT
from neurons.study.study import Study

FEW = ["--nouns", "3", "--centuries", "draw", "--layers", "10-11", "--top", "2"]


def run(*arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["neurons", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with caches and a report of everything."""
    where = tmp_path_factory.mktemp("report")
    assert run("report", "--causal", *FEW, "--cache-dir", where / "cache", "--report-dir", where / "reports") == 0
    return where


@pytest.mark.parametrize("page", ["index", "causal", "composition", "clusters", "explorer", "provenance"])
def test_the_report_has_the_page(folder: Path, page: str) -> None:
    assert (folder / "reports" / "mini" / f"{page}.html").is_file()


def test_the_numbers_of_all_analyses_are_in_report_json(folder: Path) -> None:
    numbers = json.loads((folder / "reports/mini/report.json").read_text())
    causal, composition = numbers["pages"]["causal"], numbers["pages"]["composition"]
    assert {"references", "agreement", "curves", "layers"} <= set(causal)
    assert len(causal["neurons"]) == 512
    assert causal["curves"]["keep"][0]["k90"] is not None
    assert {"basis", "sparse", "by_layer"} <= set(composition)


def test_a_second_report_is_the_same_and_loads_no_model(folder: Path) -> None:
    before = (folder / "reports/mini/causal.html").read_bytes()
    code = (
        "import sys; from neurons.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "assert not {'torch', 'transformers', 'sklearn'} & set(sys.modules)"
    )
    command = ["report", *FEW, "--cache-dir", str(folder / "cache"), "--report-dir", str(folder / "reports")]
    subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True)
    assert (folder / "reports/mini/causal.html").read_bytes() == before


def test_pages_tell_what_the_weights_say(folder: Path) -> None:
    numbers = json.loads((folder / "reports/mini/report.json").read_text())
    for neuron in numbers["neurons"].values():
        assert set(neuron["similar"]) == {"w_in", "w_out", "tuning", "readout"}
        assert neuron["controls"][0]["kind"] == "year_span"
        assert set(neuron["weights"]["neuron_classes"]) <= {"prediction", "suppression", "entropy"}


def test_the_provenance_names_what_was_run(folder: Path) -> None:
    analyses = json.loads((folder / "reports/mini/report.json").read_text())["provenance"]["analyses"]
    assert {"ranking", "clusters and composition", "causal"} <= set(analyses)
    assert "circuit" not in analyses


def test_pages_show_direct_and_frozen_effects_by_start_year(folder: Path) -> None:
    """Their means are the effects that the page names."""
    numbers = json.loads((folder / "reports/mini/report.json").read_text())
    others = numbers["pages"]["causal"]["others"]
    for name in numbers["neurons"]:
        page = (folder / "reports/mini/neurons" / f"{name}.html").read_text()
        for effect, term in (("direct", "direct effect"), ("frozen", "frozen direct effect")):
            by_start_year = others[effect][name]
            assert len(by_start_year) == 97
            shown = float(re.search(f"<dt>{term}</dt><dd>(\\S+) logits", page)[1].replace("−", "-"))
            assert shown == pytest.approx(sum(by_start_year) / 97, rel=1e-3)


def test_the_index_shows_the_kinds(folder: Path) -> None:
    index = (folder / "reports/mini/index.html").read_text()
    assert "Clusters and composition" in index


def test_without_kept_interventions_there_is_no_causal_page(folder: Path, tmp_path: Path) -> None:
    assert run("report", *FEW, "--years", "10-60", "--cache-dir", folder / "cache", "--report-dir", tmp_path) == 0
    assert not (tmp_path / "mini" / "causal.html").exists()
    assert (tmp_path / "mini" / "composition.html").is_file()


@pytest.mark.long
def test_figures_for_a_paper_are_kept_beside(folder: Path, tmp_path: Path) -> None:
    assert run("report", *FEW, "--figures", "pdf", "--cache-dir", folder / "cache", "--report-dir", tmp_path) == 0
    assert any((tmp_path / "mini").rglob("*.pdf"))


def test_kept_checks_are_a_page(folder: Path, tmp_path: Path) -> None:
    study = Study(nouns=3, centuries="draw", layers=[10, 11], cache_dir=folder / "cache")
    line = judge_number("probability difference", 0.8, 0.01, PROBABILITY_DIFFERENCE)
    made_up = Checks("mini", True, 60, 60, 0, (line,), ((0.5, 0.01),), ((0.6, 0.02),))
    path = keep_result(study.cache, "check", study.plan.key, made_up, version=KEPT["check"][1])
    assert run("report", *FEW, "--cache-dir", folder / "cache", "--report-dir", tmp_path) == 0
    path.unlink()
    assert "1 of 1 judged measurements agree" in (tmp_path / "mini" / "check.html").read_text()
    assert 'href="check.html"' in (tmp_path / "mini" / "index.html").read_text()
    assert json.loads((tmp_path / "mini" / "report.json").read_text())["pages"]["check"] == made_up.to_json()


def test_an_unknown_figure_format_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("report", "--figures", "bmp", "--cache-dir", tmp_path, "--report-dir", tmp_path) == 2
    assert "bmp" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_report_of_another_checkpoint_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    plan, said = Study(cache_dir=folder / "cache").plan, []
    own = plan.checkpoint.fingerprint
    assert place_of(folder / "reports", "mini", own, said.append) == folder / "reports/mini"
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini/report.json").write_text('{"format": "neurons-report", "provenance": {"model_sha256": "other"}}')
    assert place_of(tmp_path, "mini", own, said.append) == tmp_path / f"mini-{own[:6]}"
    assert "is the report of another checkpoint" in said[0]


def test_the_command_named_makes_what_is_shown_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["neurons", "report", "--circuit"])
    nothing_kept = SimpleNamespace(kept=lambda name: None)
    assert _command(nothing_kept, True, True) == "neurons report --circuit --causal"
    assert _command(nothing_kept, False, True) == "neurons report --circuit"


def test_the_index_says_what_the_boosting_neurons_add(folder: Path) -> None:
    numbers = json.loads((folder / "reports/mini/report.json").read_text())
    boosting = [one["score"] for one in numbers["ranking"] if one["boosting"]]
    assert numbers["called"]["boosting"] == len(boosting)
    assert numbers["called"]["boosting_contrast"] == pytest.approx(sum(boosting))
    assert numbers["called"]["contrast"] == pytest.approx(sum(one["score"] for one in numbers["ranking"]))
    assert "layers 10-11" in (folder / "reports/mini/index.html").read_text()
