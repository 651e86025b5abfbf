"""Run the examples of the tutorial, write what they print into it, and the same as a notebook.

    python scripts/tutorial.py                # docs/tutorial.md and docs/tutorial.ipynb, in a temporary folder

1. Python blocks run one after the other in one namespace, as a reader would.
2. A `text` block right after one holds what it printed; a block that prints gets one, a block that does not loses it.
3. The notebook has a cell for each block of text and each example, with the same outputs.
"""

import contextlib
import io
import json
import re
import tempfile
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[1] / "docs" / "tutorial.md"
NOTEBOOK = DOCUMENT.with_suffix(".ipynb")
EXAMPLE = re.compile(r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", flags=re.M | re.S)


def with_outputs(text: str) -> str:
    """The document with what its examples print in the current folder."""
    names: dict[str, object] = {}

    def run(example: re.Match[str]) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(example[1], "example", "exec"), names)
        shown = f"```text\n{printed.getvalue()}```\n" if printed.getvalue() else ""
        return f"```python\n{example[1]}```\n{shown}"

    return EXAMPLE.sub(run, text)


def notebook(text: str) -> str:
    """The document as a Jupyter notebook: nbformat 4.5, its bytes the same each time."""
    cells: list[dict[str, Any]] = []
    end = 0
    for example in EXAMPLE.finditer(text):
        cells.append(_cell("markdown", text[end : example.start()]))
        printed = example[2] or ""
        outputs = [{"name": "stdout", "output_type": "stream", "text": _lines(printed)}] if printed else []
        cells.append(_cell("code", example[1]) | {"execution_count": None, "outputs": outputs})
        end = example.end()
    cells.append(_cell("markdown", text[end:]))
    kept = [cell | {"id": f"cell-{place}"} for place, cell in enumerate(cells) if cell["source"]]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    made = {"cells": kept, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _cell(kind: str, text: str) -> dict[str, Any]:
    return {"cell_type": kind, "metadata": {}, "source": _lines(text.strip("\n"))}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        changed = with_outputs(text)
    DOCUMENT.write_text(changed, encoding="utf-8")
    NOTEBOOK.write_text(notebook(changed), encoding="utf-8")


if __name__ == "__main__":
    main()
