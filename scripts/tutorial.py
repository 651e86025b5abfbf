"""Run the examples of a document and write what they print into it.

    python scripts/tutorial.py                # docs/tutorial.md, in a temporary folder

1. Python blocks run one after the other in one namespace, as a reader would.
2. A `text` block right after one holds what it printed; a block that prints gets one, a block that does not loses it.
"""

import contextlib
import io
import re
import tempfile
from pathlib import Path

DOCUMENT = Path(__file__).parents[1] / "docs" / "tutorial.md"
EXAMPLE = re.compile(r"^```python\n(.*?)^```\n(?:```text\n.*?^```\n)?", flags=re.M | re.S)


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


def main() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        changed = with_outputs(text)
    DOCUMENT.write_text(changed, encoding="utf-8")


if __name__ == "__main__":
    main()
