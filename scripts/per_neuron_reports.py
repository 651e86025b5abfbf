"""Pages for chosen neurons.

    python scripts/per_neuron_reports.py L9N12 L10N7 --model mini
    python scripts/per_neuron_reports.py --file neurons.txt --nouns 4

The neurons come from the command line or from a file, one a line (`#` begins a comment). The report lands in
<report-dir>/<model>/, the pages in the order given.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import neurons


def main(arguments: Sequence[str] | None = None) -> int:
    asked = vars(_parser().parse_args(arguments))
    names, file, figures = asked.pop("neurons"), asked.pop("file"), asked.pop("figures")
    folder, command = asked.pop("report_dir"), shlex.join(["python", *sys.argv])
    try:
        chosen = [*names, *_names_in(file)]
        if not chosen:
            raise neurons.InputError("no neuron given: name some like L9N12, or a file with --file")
        study = neurons.Study(**{name: value for name, value in asked.items() if value is not None})
        print(f"The pages are in {study.report(folder, neurons=chosen, figures=figures, command=command)}")
    except neurons.NeuronsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _names_in(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise neurons.InputError(f"file of neurons {str(file)!r} cannot be read as text: {error}") from None
    return [name for line in lines for name in line.split("#")[0].split()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("neurons", nargs="*", metavar="NEURON", help="like L9N12")
    parser.add_argument("--file", type=Path, help="a file with one neuron a line")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--nouns", type=int, help="how many")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--task")
    parser.add_argument("--cache-dir", type=Path)
    parser.add_argument("--report-dir", type=Path, default=Path("reports"))
    parser.add_argument("--figures", choices=("svg", "pdf", "png"), help="also write each figure in this format")
    return parser


if __name__ == "__main__":
    sys.exit(main())
