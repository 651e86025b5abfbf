"""The documents' examples run, and name what exists."""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from test_architecture import FLOORS, HOMES
from tutorial import notebook, with_outputs
from typer.main import get_command

from neurons.cli.main import build_app

ROOT = Path(__file__).parent.parent
NAMES = {"sklearn": "scikit-learn"}
"""Packages that documents call by another name than Python does."""


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), flags=re.M | re.S)


@pytest.mark.parametrize("number", range(len(blocks("README.md", "python"))))
def test_the_readmes_python_examples_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks("README.md", "python")[number], "README.md", "exec"), {})


def test_the_tutorials_examples_print_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this fails because numbers changed on purpose: `python scripts/tutorial.py` writes what is printed now."""
    text = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert with_outputs(text) == text


def test_the_notebook_is_the_tutorial() -> None:
    text = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    made = (ROOT / "docs/tutorial.ipynb").read_text(encoding="utf-8")
    assert made == notebook(text)
    code = "".join("".join(cell["source"]) for cell in json.loads(made)["cells"] if cell["cell_type"] == "code")
    assert code.replace("\n", "") == "".join(blocks("docs/tutorial.md", "python")).replace("\n", "")


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


def program(command: Any, name: str = "neurons") -> Iterator[tuple[str, Any]]:
    """Every command of the program by its words."""
    yield name, command
    for word, inner in getattr(command, "commands", {}).items():
        yield from program(inner, f"{name} {word}")


COMMANDS = dict(program(get_command(build_app())))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_in_the_document_of_commands(name: str) -> None:
    text = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    assert name in text
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts if option.startswith("-")}
    assert {option for option in options if not re.search(rf"(?<![\w-]){option}(?![\w-])", text)} == set()


def test_every_option_in_the_document_of_commands_exists() -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", (ROOT / "docs/commands.md").read_text(encoding="utf-8")))
    options = {option for command in COMMANDS.values() for parameter in command.params for option in parameter.opts}
    assert named - options == {"--help"}


def test_the_architecture_names_every_floor_and_shared_file_and_no_path_that_is_missing() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    floors = {file.parent.name for file in (ROOT / "neurons").glob("*/__init__.py")}
    assert {floor for floor in floors if f"| `{floor}/` |" not in text} == set()
    shared = {file.name for file in (ROOT / "neurons").glob("*.py")} - {"__main__.py"}
    assert {file for file in shared if f"`{file}`" not in text} == set()
    paths = re.findall(r"`((?:neurons|tests|scripts|docs)/[\w./-]*)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floors_docstring_names_each_of_its_modules(floor: str) -> None:
    files = (ROOT / "neurons" / floor).glob("*.py")
    docstring = import_module(f"neurons.{floor}").__doc__ or ""
    assert {file.stem for file in files if f"`{file.stem}`" not in docstring} == {"__init__"}


@pytest.mark.parametrize("package", HOMES)
def test_the_architecture_names_the_home_of_every_outside_package(package: str) -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    (row,) = [
        line for line in text.splitlines() if re.match(rf"\| [^|]*\b{NAMES.get(package, package)}\b[^|]* \|", line)
    ]
    assert [home for home in HOMES[package] if f"`neurons/{home}`" not in row] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_named_in_the_documents_exist(document: str) -> None:
    named = re.findall(
        r"`((?:docs|scripts|tests|neurons|reports/sample)/[\w./-]+\.\w+)`",
        (ROOT / document).read_text(encoding="utf-8"),
    )
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []
