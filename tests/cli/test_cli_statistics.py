"""What the commands find beside a cache, and what they make and keep there."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from neurons.cli.request import Request, request
from neurons.cli.statistics import find_statistics, kept_statistics, kept_text, run_statistics, run_text

import neurons
from neurons.cli.main import main
from neurons.types import NeuronId

SOME = (NeuronId(11, 165), NeuronId(9, 43))


@pytest.fixture
def cache(mini_cache: neurons.Cache, tmp_path: Path) -> neurons.Cache:
    return replace(mini_cache, path=Path(shutil.copy(mini_cache.path, tmp_path)))


@pytest.fixture
def asked(cache: neurons.Cache) -> Request:
    return request(model="mini", cache_dir=cache.path.parent)


def test_statistics_are_made_once(
    cache: neurons.Cache, asked: Request, mini_model: neurons.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kept_statistics(cache) is None
    made = run_statistics(cache, mini_model)
    assert made.layers == cache.layers
    monkeypatch.setattr("neurons.cli.statistics.run_statistics", None)
    found = find_statistics(cache, asked)
    assert found.kurtosis.tobytes() == made.kurtosis.tobytes()
    assert found.kind == made.kind


def test_rank_stats_adds_what_the_weights_show_and_keeps_it(
    cache: neurons.Cache, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rank(*more: str) -> str:
        folder = str(cache.path.parent)
        monkeypatch.setattr(sys, "argv", ["neurons", "rank", "--stats", "--top", "3", "--cache-dir", folder, *more])
        with pytest.raises(SystemExit):
            main()
        return capsys.readouterr().out

    first = json.loads(rank("--json"))["neurons"][0]
    expected = neurons.neuron_statistics(neurons.load_model("mini"), cache.layers).record(first["neuron"])
    assert first["statistics"] == expected
    monkeypatch.setattr("neurons.cli.statistics.run_statistics", None)
    table = rank()
    assert f"{expected['kurtosis']:.2f}" in table
    assert "cos in/out" in table


def test_text_is_kept_for_the_neurons_that_were_read(cache: neurons.Cache, mini_model: neurons.Model) -> None:
    assert kept_text(cache, SOME) is None
    run_text(cache, mini_model, SOME)
    found = kept_text(cache, SOME[1:])
    assert found is not None
    assert [one.neuron for one in found.neurons] == list(SOME)
    assert kept_text(cache, [*SOME, NeuronId(8, 0)]) is None
