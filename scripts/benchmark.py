"""Measure speed and memory of the package against the plain way of doing the same, in one run.

    OMP_NUM_THREADS=2 python scripts/benchmark.py all --json > measured.json
    python scripts/benchmark.py --table measured.json --into docs/performance.md --figure docs/growth.svg

Each row of the table is timed against its peer on the same work, in turns, and both must give the same numbers.
A checkpoint with random weights in GPT-2 small's shape is written to a temporary folder (half a gigabyte; time does
not depend on the weights); `--model` takes another. Exit code 1: a row does not reach what is asked for at least.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import numpy as np
import torch
from benchmarks import attribution, cache, causal, eap_ig, effects, growth, load, query, report, sets, spread, whole
from benchmarks.figure import draw_growth
from benchmarks.pairs import Limit, Row, matrix_rate
from benchmarks.setting import Setting, write_gpt2_shaped
from benchmarks.table import between_marks, markdown

BENCHMARKS = {
    "cache": cache.rows,
    "effects": effects.rows,
    "causal": causal.rows,
    "attribution": attribution.rows,
    "sets": sets.rows,
    "eap-ig": eap_ig.rows,
    "load": load.rows,
    "query": query.rows,
    "report": report.limits,
    "growth": growth.limits,
    "spread": spread.rows,
    "whole": whole.limits,
}
LONG = ("whole",)
"""Not part of `all`."""


def main(arguments: Sequence[str]) -> int:
    asked = _parser().parse_args(arguments)
    if asked.table:
        return _show(json.loads(asked.table.read_text(encoding="utf-8")), asked.into, asked.figure)
    chosen = [name for name in BENCHMARKS if name not in LONG] if asked.benchmark == "all" else [asked.benchmark]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        checkpoint = asked.model or str(write_gpt2_shaped(folder / "gpt2-shaped"))
        found = measure(Setting(checkpoint, folder / "cache"), chosen)
    print(json.dumps(found, indent=1) if asked.json else markdown(found))
    return 0 if all(one["passes"] for one in [*found["rows"], *found["limits"]]) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "benchmark",
        choices=[*BENCHMARKS, "all"],
        nargs="?",
        default="all",
        help="what to measure; `all` leaves out `whole`",
    )
    parser.add_argument("--model", help="a checkpoint directory or a name; default random, in GPT-2 small's shape")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    parser.add_argument("--table", type=Path, metavar="FILE", help="measure nothing: print the tables of a JSON file")
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="with --table: put them between the marks of a document"
    )
    parser.add_argument("--figure", type=Path, metavar="FILE", help="with --table: draw the growth of cost as an SVG")
    return parser


def _show(found: dict[str, Any], document: Path | None, figure: Path | None) -> int:
    tables = markdown(found)
    if figure is not None:
        draw_growth(found, figure)
    if document is None:
        print(tables)
    else:
        document.write_text(between_marks(document.read_text(encoding="utf-8"), tables), encoding="utf-8")
    return 0


def measure(setting: Setting, chosen: Sequence[str]) -> dict[str, Any]:
    """Everything measured, as it is printed with --json."""
    setting.folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    limits: list[dict[str, Any]] = []
    for benchmark in chosen:
        print(f"measuring: {benchmark}", file=sys.stderr)
        for one in BENCHMARKS[benchmark](setting):
            (rows if isinstance(one, Row) else limits).append(_record(one))
    rate = float(np.median([matrix_rate() for _ in range(5)]))
    machine = {"processor": _processor(), "threads": torch.get_num_threads(), "matrix_rate": rate}
    return {"machine": machine, "model": setting.model.name, "rows": rows, "limits": limits}


def _record(one: Row | Limit) -> dict[str, Any]:
    return asdict(one) | {"passes": one.passes}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "a processor")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
