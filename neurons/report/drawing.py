"""The figures of all pages as files: SVG for the page, its numbers as CSV, and a paper's format where it is asked for.

Each is drawn once, though several pages show it; many are drawn in several processes.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from neurons.parallel import run_tasks
from neurons.report.blocks import Gallery, Page, Picture
from neurons.report.figures.data import figure_data
from neurons.report.figures.plots import save
from neurons.report.folder import write_text
from neurons.types import FileFormat, Progress

FIGURES = "figures"
MANY = 60
"""Figures from which other processes are started: each takes as long to start as it takes to draw some 30."""
PROCESSES = 4


@dataclass(frozen=True)
class Drawn:
    """A figure to be drawn into a folder."""

    picture: Picture
    folder: Path
    figures: FileFormat | None


def picture_file(name: str, suffix: str = "svg") -> str:
    return f"{FIGURES}/{name}.{suffix}"


def draw_pictures(
    pages: Iterable[Page], folder: Path, *, figures: FileFormat | None = None, progress: Progress | None = None
) -> None:
    """Write every figure of the pages into `folder`/figures. Raises `OutputError` for one that cannot be written.

    figures: a format in which each is written too.
    """
    blocks = (block for page in pages for section in page.sections for block in section.blocks)
    named = {picture.name: picture for block in blocks if isinstance(block, Gallery) for picture in block.pictures}
    if not named:
        return
    (folder / FIGURES).mkdir(exist_ok=True)
    tasks = [Drawn(picture, folder, figures) for picture in named.values()]
    jobs = min(PROCESSES, os.cpu_count() or 1) if len(tasks) >= MANY else None
    run_tasks(draw, tasks, jobs=jobs, progress=progress)


def draw(task: Drawn) -> None:
    """Draw one figure and write its files."""
    figure, name = task.picture.draw(), task.picture.name
    save(figure, task.folder / picture_file(name))
    if task.figures not in (None, "svg"):
        save(figure, task.folder / picture_file(name, task.figures))
    write_text(task.folder / picture_file(name, "csv"), figure_data(figure))
