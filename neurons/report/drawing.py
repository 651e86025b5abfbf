"""The figures of all pages as files: SVG for the page, its numbers as CSV, and for a paper where a format is asked for:
in the folder `paper`, each named after its page and its number there.

Each is drawn once, though several pages show it; many are drawn in several processes.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurons.parallel import run_tasks
from neurons.report.blocks import Gallery, Page, Picture
from neurons.report.figures.files import figure_data, save
from neurons.report.folder import write_text
from neurons.types import FileFormat, Progress

FIGURES, PAPER = "figures", "paper"
MANY = 60
"""Figures from which other processes are started: each takes as long to start as it takes to draw some 30."""
PROCESSES = 4


@dataclass(frozen=True)
class Drawn:
    """A figure to be drawn into a folder. paper: its further files, for a paper."""

    picture: Picture
    folder: Path
    paper: tuple[str, ...]


def picture_file(name: str, suffix: str = "svg") -> str:
    return f"{FIGURES}/{name}.{suffix}"


def paper_files(pages: Iterable[Page], suffix: FileFormat) -> dict[str, list[str]]:
    """By a figure's name: `paper/PAGE-figure-NUMBER-NAME` for each page that shows it."""
    found: dict[str, list[str]] = {}
    for page in pages:
        for place, name in enumerate(page.pictures, 1):
            found.setdefault(name, []).append(
                f"{PAPER}/{page.key.replace('/', '-')}-figure-{place:02d}-{name}.{suffix}"
            )
    return found


def draw_pictures(
    pages: Sequence[Page], folder: Path, *, figures: FileFormat | None = None, progress: Progress | None = None
) -> None:
    """Write every figure of the pages into `folder`/figures. Raises `OutputError` for one that cannot be written.

    figures: a format in which each is written too, into `folder`/paper.
    """
    blocks = (block for page in pages for section in page.sections for block in section.blocks)
    named = {picture.name: picture for block in blocks if isinstance(block, Gallery) for picture in block.pictures}
    if not named:
        return
    paper = paper_files(pages, figures) if figures else {}
    for made in (FIGURES, *([PAPER] if figures else [])):
        (folder / made).mkdir(exist_ok=True)
    tasks = [Drawn(picture, folder, tuple(paper.get(name, ()))) for name, picture in named.items()]
    jobs = min(PROCESSES, os.cpu_count() or 1) if len(tasks) >= MANY else None
    run_tasks(draw, tasks, jobs=jobs, progress=progress)


def draw(task: Drawn) -> None:
    """Draw one figure and write its files."""
    figure, name = task.picture.draw(), task.picture.name
    save(figure, task.folder / picture_file(name))
    if task.paper:
        first, *others = (task.folder / file for file in task.paper)
        save(figure, first)
        for other in others:
            shutil.copyfile(first, other)
    write_text(task.folder / picture_file(name, "csv"), figure_data(figure))
