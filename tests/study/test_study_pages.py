"""The call that a report shows makes the same study again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import rewrite
from random_gpt2 import write_random_gpt2

import neurons
from neurons.study.pages import python_command
from neurons.task.own_prompts import write_prompts


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"nouns": 4, "seed": 3},
        {"layers": (9, 10), "years": (40, 41), "centuries": (16, 17), "dtype": "float16"},
        {"task": "price-range"},
        {"template": "The {noun} cost between $ {XX}{YY} and $ {XX}"},
    ],
)
def test_the_call_shown_makes_the_same_study(settings: dict[str, Any], tmp_path: Path) -> None:
    study = neurons.Study("mini", cache_dir=tmp_path, **settings)
    command = python_command(study, causal=True, circuit=False)
    call, _, report = command.rpartition(".report(")
    again = eval(call, {"neurons": neurons})
    assert report == "causal=True)"
    assert again.plan.path.name == study.plan.path.name
    assert again.plan.key == study.plan.key


def test_the_call_shown_reads_prompts_of_ones_own_again(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    write_prompts(neurons.Study("mini", nouns=2, centuries=(17,)).plan.prompts.to_layout(), path)
    study = neurons.Study("mini", prompts=neurons.read_prompts(path, skip=True), cache_dir=tmp_path)
    call, _, _ = python_command(study, causal=False, circuit=False).rpartition(".report(")
    assert eval(call, {"neurons": neurons}).plan.path.name == study.plan.path.name
    assert f"read_prompts({str(path)!r}, skip=True)" in call


def test_how_a_checkpoint_is_stored_stands_on_the_page_of_provenance_and_in_json(tmp_path: Path) -> None:
    folder = write_random_gpt2(tmp_path / "without", n_layer=2)
    rewrite(folder, without_biases)
    study = neurons.Study(folder, attribution=False, nouns=1, cache_dir=tmp_path)
    index = study.report(tmp_path / "reports", top=1)
    assert (
        "no bias is stored: all are zero"
        in json.loads((index.parent / "report.json").read_text())["provenance"]["notes"]
    )
    assert "no bias is stored: all are zero" in (index.parent / "provenance.html").read_text(encoding="utf-8")


def without_biases(tensors: dict[str, np.ndarray]) -> None:
    for name in [name for name in tensors if name.endswith(".bias")]:
        del tensors[name]
