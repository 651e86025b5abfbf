"""The documents' examples run, and name what exists."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.main import get_command

from neurons.cli.main import build_app

ROOT = Path(__file__).parent.parent


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), flags=re.M | re.S)


@pytest.mark.parametrize("number", range(len(blocks("README.md", "python"))))
def test_the_readmes_python_examples_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks("README.md", "python")[number], "README.md", "exec"), {})


def told(document: str) -> list[tuple[str, str | None]]:
    """Each Python example of a document, with what the document says it prints."""
    text = (ROOT / document).read_text(encoding="utf-8")
    pattern = r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```)?"
    return [(match[1], match[2]) for match in re.finditer(pattern, text, flags=re.M | re.S)]


@pytest.mark.parametrize("document", ["docs/tutorial.md"])
def test_a_document_s_examples_print_what_it_says(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One after the other in one namespace, as a reader would."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code, printed in told(document):
        exec(compile(code, document, "exec"), names)
        assert capsys.readouterr().out == (printed or ""), code


DOCUMENTS = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]


def documented_commands(documents: Sequence[str] = DOCUMENTS) -> list[str]:
    lines = [line for document in documents for block in blocks(document, "sh") for line in block.splitlines()]
    return [line.split("#")[0].strip() for line in lines if line.startswith("neurons ")]


@pytest.mark.parametrize("line", documented_commands())
def test_the_documents_commands_and_options_exist(line: str) -> None:
    command = get_command(build_app())
    words = shlex.split(line)[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
    assert not hasattr(command, "commands"), f"{line}: names no command"
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_every_command_is_in_the_readme() -> None:
    documented = {shlex.split(line)[1] for line in documented_commands(["README.md"])}
    commands = set(getattr(get_command(build_app()), "commands", {}))
    assert commands - documented <= {"models"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_named_in_the_documents_exist(document: str) -> None:
    named = re.findall(
        r"`((?:docs|scripts|tests|neurons|reports/sample)/[\w./-]+\.\w+)`",
        (ROOT / document).read_text(encoding="utf-8"),
    )
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []
