"""What a study finds beside a cache, and what it makes and keeps there."""

import json
import shutil
import sys
from pathlib import Path

import pytest

import neurons
from neurons.cli.main import main
from neurons.types import NeuronId

SOME = (NeuronId(11, 165), NeuronId(9, 43))


@pytest.fixture
def folder(mini_cache: neurons.Cache, tmp_path: Path) -> Path:
    """A cache folder of its own."""
    shutil.copy(mini_cache.path, tmp_path)
    return tmp_path


def test_statistics_are_made_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert neurons.Study(cache_dir=folder).kept("statistics") is None
    made = neurons.Study(cache_dir=folder).neuron_statistics()
    monkeypatch.setattr("neurons.study.computed.statistics", None)
    found = neurons.Study(cache_dir=folder).neuron_statistics()
    assert found.layers == made.layers
    assert found.kurtosis.tobytes() == made.kurtosis.tobytes()
    assert found.neuron_classes == made.neuron_classes


def test_rank_stats_adds_what_the_weights_show_and_keeps_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rank(*more: str) -> str:
        words = ["neurons", "rank", "--stats", "--top", "3", "--cache-dir", str(folder), *more]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit):
            main()
        return capsys.readouterr().out

    first = json.loads(rank("--json"))["neurons"][0]
    expected = neurons.neuron_statistics(neurons.load_model("mini"), range(8, 12)).record(first["neuron"])
    assert first["statistics"] == expected
    monkeypatch.setattr("neurons.study.computed.statistics", None)
    table = rank()
    assert f"{expected['kurtosis']:.2f}" in table
    assert "cos in/out" in table


def test_text_is_kept_for_the_neurons_that_were_read(folder: Path) -> None:
    made = neurons.Study(cache_dir=folder).texts(SOME)
    study = neurons.Study(cache_dir=folder)
    assert [one.neuron for one in study.texts(SOME[1:]).neurons] == list(SOME)
    assert study.texts(SOME[1:]) is study.kept("text")
    more = study.texts([*SOME, NeuronId(8, 0)])
    assert len(more.neurons) == len(made.neurons) + 1
