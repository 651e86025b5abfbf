"""The call that a report shows makes the same study again."""

from pathlib import Path
from typing import Any

import pytest

import neurons
from neurons.study.pages import python_command


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
