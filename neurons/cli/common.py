"""What commands share besides the options of a study: progress, messages, and how results are printed."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from neurons.types import Progress

ReportDirOption = Annotated[
    Path, typer.Option("--report-dir", envvar="NEURONS_REPORT_DIR", help="Folder of the reports.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")]
JobsOption = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Processes on this machine.", show_default="this process alone")
]
SchedulerOption = Annotated[
    str | None,
    typer.Option("--scheduler", help="Run on a Dask cluster: tcp://host:port of its scheduler.", show_default="none"),
]

REPORT_DIR = Path("reports")
EVERY = 10.0
"""Seconds between two lines of progress where standard error is no terminal."""


def progress(label: str) -> AbstractContextManager[Progress]:
    """Show progress on standard error: a bar on a terminal, else a line every 10 seconds."""
    return _bar(label) if sys.stderr.isatty() else _lines(label)


@contextmanager
def _bar(label: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(label, total=None)

        def report(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        yield report


@contextmanager
def _lines(label: str) -> Iterator[Progress]:
    start = last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= EVERY:
            last = now
            note(f"{label}: {done} of {total}, {now - start:.0f} s")

    yield report


def note(text: str) -> None:
    """A message to the person, on standard error."""
    print(text, file=sys.stderr, flush=True)


def print_json(result: Any) -> None:
    print(json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False))


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, caption: str | None = None
) -> None:
    """A table on standard output; all but the first `left` columns are numbers and aligned to the right.

    It is never narrower than what is in it: a terminal wraps a line that is too long, but a cut number misleads.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    natural = Console(width=10_000).measure(table).maximum
    console = Console()
    if console.width < natural:
        console = Console(width=natural)
    console.print(Text(title), soft_wrap=True)
    console.print(table)
    if caption:
        console.print(Text(caption), soft_wrap=True)


def help_without_command(context: typer.Context) -> None:
    """With no command, show the help and end as wrong usage."""
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)
