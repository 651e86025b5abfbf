"""Every option of every command, given nonsense: exit code 2, one line on standard error, and nothing written."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from neurons.cli.main import build_app, main

Run = Callable[..., tuple[int, str, str]]

NONSENSE = ("", " ", "zeor", "-1", "1.5", "1,,2", "17th", "two\nlines", "é" * 200, "--json")
NEEDED = {"effect": ["L9N43", "--year", "32"], "compare": ["mini", "mini"], "cache delete": ["zeor"]}
"""What a command cannot do without."""
ANY_NAME = {"cache_dir", "report_dir"}
"""Folders: every text is one."""
SOME_VALUE = {"figures": {"cluster", "compose"}}
"""Options that are a folder's name in these commands."""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    for name in ("NEURONS_CACHE_DIR", "NEURONS_REPORT_DIR"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["neurons", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


def parameters() -> list[tuple[str, Any]]:
    """Each command with each of its parameters."""

    def walk(command: Any, path: list[str]) -> list[tuple[str, Any]]:
        below = getattr(command, "commands", {})
        if not below:
            return [(" ".join(path), parameter) for parameter in command.params]
        return [found for name, sub in below.items() for found in walk(sub, [*path, name])]

    return [
        (command, parameter)
        for command, parameter in walk(get_command(build_app()), [])
        if parameter.name not in ANY_NAME and command not in SOME_VALUE.get(parameter.name, set())
    ]


def given(command: str, parameter: Any, value: str) -> list[str]:
    """The command's words, with this value for this parameter."""
    needed = list(NEEDED.get(command, ()))
    if not parameter.opts[0].startswith("-"):
        return [*command.split(), *(["mini"] if command == "compare" else needed[1:]), "--", value]
    option = max(parameter.opts, key=len)
    if option in needed:
        needed = needed[: needed.index(option)]
    return [*command.split(), *needed, f"{option}={value}"]


@pytest.mark.parametrize(("command", "parameter"), parameters(), ids=lambda v: v if isinstance(v, str) else v.name)
def test_nonsense_is_one_line_and_nothing_is_written(command: str, parameter: Any, run: Run, tmp_path: Path) -> None:
    for value in NONSENSE:
        words = given(command, parameter, value)
        code, out, err = run(*words)
        assert (code, out) == (2, ""), (words, out, err)
        assert err.startswith("neurons: "), words
        assert err.count("\n") == 1, words
        assert len(err) < 700, words
        assert list(tmp_path.iterdir()) == [], words


OUT_OF_RANGE = [
    ("rank --centuries 1700", "invalid century 1700", "did you mean 17?"),
    ("rank --centuries 1700-1799", "invalid century 1700", "did you mean 17?"),
    ("rank --years 1732", "start year 1732 cannot be measured", "choose within 01-98"),
    ("rank --year 1732", "start year 1732 is not measured", "choose within 02-98"),
    ("effect L9N43 --year 1732", "start year 1732 has no later year", "00 to 98"),
    ("causal --on-nouns 21", "21 nouns asked for", "1 to 3"),
    ("causal --neurons L9N43;L10N18", "invalid neuron 'L9N43;L10N18'", "like L9N12"),
    ("causal --ablation zeor", "'zeor' is not one of", "'resample', 'mean', 'zero'"),
    ("compose --neuron L2N1", "L2N1 is outside the chosen layers", "choose layers with it"),
    ("compose --neuron L9N256", "L9N256 does not exist", "neurons 0-255"),
    ("circuit --threshold nan", "invalid threshold nan", "must be within 0-1"),
]


@pytest.mark.parametrize(("words", "wrong", "right"), OUT_OF_RANGE, ids=lambda v: str(v)[:30])
def test_what_is_out_of_range_is_refused_before_the_work(
    words: str, wrong: str, right: str, run: Run, tmp_path: Path
) -> None:
    code, out, err = run(*words.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert wrong in err
    assert right in err
    assert list(tmp_path.iterdir()) == []
