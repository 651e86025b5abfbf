"""What commands share: whole summaries in the help, progress without a terminal, silence when it is asked for."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from neurons.cli import common

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("words", [["--help"], ["cache", "--help"]])
def test_no_summary_of_a_command_is_cut_at_80_columns(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: Sequence[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run(*words)
    commands = out.partition("Commands:")[2].split("\n\n")[0].strip().splitlines()
    assert len(commands) > 3
    assert [line for line in commands if not line.endswith(".")] == []
    assert [line for line in commands if line.endswith("...")] == []


def test_progress_is_a_line_every_ten_seconds_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 4.0, 11.0, 15.0, 22.0])
    monkeypatch.setattr(common.time, "monotonic", lambda: next(clock))
    with common.progress("reading") as report:
        for done in (1, 2, 3, 4):
            report(done, 5)
    assert capsys.readouterr().err == "reading: 2 of 5, 11 s\nreading: 4 of 5, 22 s\n"


def test_quiet_leaves_standard_error_empty(run: Run, tmp_path: Path) -> None:
    options = ("--cache-dir", tmp_path, "--nouns", "1", "--centuries", "12")
    assert "are left out" in run("behaviour", *options)[2]
    assert run("behaviour", *options, "--quiet")[2] == ""
    assert run("behaviour", *options, "-q")[2] == ""


def test_a_shell_can_complete_commands_and_options(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_NEURONS_COMPLETE", "complete_bash")
    for line, offered in (("neurons ra", "rank"), ("neurons rank --no-attr", "--no-attribution")):
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
        assert run()[1].strip() == offered
