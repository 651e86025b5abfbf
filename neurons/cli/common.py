"""What commands share besides their options: the way from a request to an open cache, and how results are printed.

Torch is imported only when a cache must be built.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from neurons.cache.folder import is_there
from neurons.cache.format import Cache, open_cache
from neurons.cli.request import Request
from neurons.parallel import is_spread
from neurons.task.years import spans
from neurons.types import InputError, Progress

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


def open_or_build(asked: Request, *, jobs: int | None = None, scheduler: str | None = None) -> Cache:
    """The cache of the request: opened where it is there, built with progress where it is not."""
    path = asked.path
    if is_there(path):
        cache = open_cache(path)
        if not cache.bytes_checked:
            note(f"cache {path} is larger than 1 GiB: `neurons cache verify` checks all its bytes")
        return cache
    check_spread(asked, jobs, scheduler)
    with progress_bar("caching activations") as progress:
        from neurons.cache.build import cache_activations
        from neurons.model.checkpoint import load_model

        return cache_activations(
            load_model(asked.checkpoint, device=asked.device),
            asked.prompts,
            layers=asked.layers,
            dtype=asked.choices.dtype,
            cache_dir=asked.cache_dir,
            progress=progress,
            jobs=jobs,
            scheduler=scheduler,
            waiting=note,
        )


def open_measured(asked: Request) -> Cache:
    """`open_or_build` for what is measured at every start year; a note says which of 02-98 have no prompt."""
    if asked.years_left_out:
        note(f"start years without a prompt are left out: {spans(asked.years_left_out)} (more --nouns may have them)")
    return open_or_build(asked)


def check_spread(asked: Request, jobs: int | None, scheduler: str | None) -> bool:
    """Whether tasks leave this process. Raises `InputError` where they cannot be meant, or not with this device."""
    spread = is_spread(jobs, scheduler)
    if spread and asked.device != "cpu":
        raise InputError(f"--jobs and --scheduler compute on the CPU: leave them out to use {asked.device}")
    return spread


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """A bar on standard error where that is a terminal; the function yielded takes (done, total)."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    with Bars(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(label, total=None)

        def report(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        yield report


def note(text: str) -> None:
    """A message to the person, on standard error."""
    print(text, file=sys.stderr)


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
