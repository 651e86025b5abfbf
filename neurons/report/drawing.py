"""The figures of all pages as files: SVG for the page, its numbers as CSV, and for a paper where a format is asked for:
in the folder `paper`, each named after its page and its number there.

1. Each is drawn once, though several pages show it; many are drawn in several processes.
2. One that the report before shows is copied from it. A figure's mark is a digest of this package's code, of the
   libraries that draw, and of the function and the numbers that it is drawn from, pickled; the marks lie among the
   figures. Where the mark differs the figure is drawn.
"""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from neurons.parallel import run_tasks
from neurons.report.blocks import Gallery, Page, Picture
from neurons.report.figures.files import figure_data, save
from neurons.report.folder import write_text
from neurons.types import FileFormat, Progress

FIGURES, PAPER, MARKS = "figures", "paper", ".drawn.json"
MANY = 60
"""Figures from which other processes are started: each takes as long to start as it takes to draw some 30."""
PROCESSES = 4
LIBRARIES = ("matplotlib", "numpy")


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
    pages: Sequence[Page],
    folder: Path,
    *,
    before: Path | None = None,
    figures: FileFormat | None = None,
    progress: Progress | None = None,
) -> None:
    """Write every figure of the pages into `folder`/figures. Raises `OutputError` for one that cannot be written.

    before: the folder of the report before. figures: a format in which each is written too, into `folder`/paper; all
    are drawn then.
    """
    blocks = (block for page in pages for section in page.sections for block in section.blocks)
    named = {picture.name: picture for block in blocks if isinstance(block, Gallery) for picture in block.pictures}
    if not named:
        return
    paper = paper_files(pages, figures) if figures else {}
    for made in (FIGURES, *([PAPER] if figures else [])):
        (folder / made).mkdir(exist_ok=True)
    marks = {name: mark_of(picture.draw) for name, picture in named.items()}
    again = set() if before is None or figures else _copied(marks, before / FIGURES, folder / FIGURES)
    tasks = [Drawn(picture, folder, tuple(paper.get(name, ()))) for name, picture in named.items() if name not in again]
    jobs = min(PROCESSES, os.cpu_count() or 1) if len(tasks) >= MANY else None
    run_tasks(draw, tasks, jobs=jobs, progress=progress)
    keep_marks(marks, folder / FIGURES)


def _copied(marks: Mapping[str, str | None], before: Path, folder: Path) -> set[str]:
    """The figures whose marks are those of the report before, copied from it."""
    known = known_marks(before)
    same = (name for name, mark in marks.items() if mark is not None and known.get(name) == mark)
    return {name for name in same if copied(name, before, folder)}


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


def mark_of(draw: Callable[..., object]) -> str | None:
    """The mark of a figure that this draws.

    None where it cannot be pickled.
    """
    try:
        return hashlib.sha256(_code() + pickle.dumps(draw)).hexdigest()
    except (TypeError, AttributeError, pickle.PicklingError):
        return None


def known_marks(figures: Path) -> Mapping[str, str]:
    """The marks of the figures in a folder; none where they cannot be read."""
    try:
        found = json.loads((figures / MARKS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def keep_marks(marks: Mapping[str, str | None], figures: Path) -> None:
    kept = {name: mark for name, mark in marks.items() if mark is not None}
    (figures / MARKS).write_text(json.dumps(kept, indent=0) + "\n", encoding="utf-8")


def copied(name: str, before: Path, figures: Path) -> bool:
    """Copy a figure's files from one folder to another; whether all were there."""
    try:
        for suffix in ("svg", "csv"):
            shutil.copyfile(before / f"{name}.{suffix}", figures / f"{name}.{suffix}")
    except OSError:
        return False
    return True


@cache
def _code() -> bytes:
    """A digest of every module of this package, and the versions of the libraries."""
    h = hashlib.sha256(" ".join(map(version, LIBRARIES)).encode())
    for module in _modules(files("neurons")):
        h.update(module.read_bytes())
    return h.digest()


def _modules(folder: Traversable) -> Iterator[Traversable]:
    for one in sorted(folder.iterdir(), key=lambda one: one.name):
        if one.is_dir():
            yield from _modules(one)
        elif one.name.endswith(".py"):
            yield one
