"""A page to files: HTML from the templates, Markdown beside it, and its figures.

Jinja escapes every text (autoescape is on for all templates), so no name can become a tag.
"""

import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from neurons.report import markdown
from neurons.report.blocks import Cell, FileLink, Gallery, Page, PageLink, Span, Table, visible
from neurons.report.figures.plots import save
from neurons.report.folder import write_text
from neurons.types import FileFormat

FIGURES = "figures"
MANY = 100
"""Rows of an interactive table that are elements of the page; where there are more, a script holds them all."""
HIGH, LOW = (239, 138, 98), (103, 169, 207)
"""Ends of the scale behind tokens, told apart with every common colour blindness, under which black text is read."""
ASSETS = ("style.css", "tables.js", "datatables.min.js", "datatables.LICENSE.txt")


@dataclass(frozen=True)
class Site:
    """What all pages of a report share. figures: a format in which each figure is written too."""

    model: str
    footer: str
    navigation: tuple[PageLink | FileLink, ...] = ()
    figures: FileFormat | None = None


def write_assets(folder: Path) -> None:
    for name in ASSETS:
        write_text(folder / "assets" / name, template_text(name))


def template_text(name: str) -> str:
    return (files("neurons.report") / "templates" / name).read_text("utf-8")


def write_page(page: Page, site: Site, folder: Path) -> None:
    """The page's HTML, Markdown and figures under `folder`. Raises `OutputError` or `OSError`."""
    for section in page.sections:
        for block in section.blocks:
            if isinstance(block, Gallery):
                _write_pictures(block, site, folder)
    write_text(folder / html_file(page.key), to_html(page, site))
    write_text(folder / markdown.file_of(page.key), markdown.render(page, picture_file=picture_file))


def _write_pictures(gallery: Gallery, site: Site, folder: Path) -> None:
    (folder / FIGURES).mkdir(exist_ok=True)
    for picture in gallery.pictures:
        if (folder / picture_file(picture.name)).exists():  # another page shows it too
            continue
        figure = picture.draw()
        save(figure, folder / picture_file(picture.name))
        if site.figures not in (None, "svg"):
            save(figure, folder / FIGURES / f"{picture.name}.{site.figures}")


def to_html(page: Page, site: Site) -> str:
    return environment().get_template("page.html").render(page=page, site=site, to=_relative(page.key))


def html_file(key: str) -> str:
    return f"{key}.html"


def picture_file(name: str) -> str:
    return f"{FIGURES}/{name}.svg"


def _relative(key: str) -> Callable[[str], str]:
    start = posixpath.dirname(key) or "."
    return lambda path: posixpath.relpath(path, start)


def sort_key(cell: Cell) -> float | int | None:
    """What a number is sorted by in a browser; None for text."""
    if isinstance(cell, Span):
        return cell.low
    return cell if isinstance(cell, int | float) else None


def shade(share: float) -> str:
    """The colour behind a token: white at 0, towards an end of the scale at -1 and 1."""
    end = HIGH if share > 0 else LOW
    return "#" + "".join(f"{round(255 + (colour - 255) * min(1, abs(share))):02x}" for colour in end)


def row_data(table: Table, to: Callable[[str], str]) -> list[list[object]]:
    """An interactive table's rows for its script: a cell is its text, or [text, what it is sorted by, its link]."""
    return [
        [_cell_data(cell, text, to) for cell, text in zip(cells, texts, strict=True)]
        for cells, texts in zip(table.rows, table.shown(), strict=True)
    ]


def _cell_data(cell: Cell, text: str, to: Callable[[str], str]) -> object:
    if isinstance(cell, PageLink):
        return [text, None, to(html_file(cell.page))]
    if isinstance(cell, FileLink):
        return [text, None, to(cell.file)]
    order = sort_key(cell)
    return text if order is None else [text, float(f"{order:.6g}")]


@cache
def environment() -> Environment:
    made = Environment(
        loader=PackageLoader("neurons.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(
        html_file=html_file,
        picture_file=picture_file,
        row_data=row_data,
        many=MANY,
        shade=shade,
        visible=visible,
        sort_key=sort_key,
        kind_of=lambda value: type(value).__name__,
        zip=zip,
    )
    return made
