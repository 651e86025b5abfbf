"""A page to files: HTML from the templates, Markdown beside it, and its figures.

Jinja escapes every text (autoescape is on for all templates), so no name can become a tag. Every neuron that a text
names is a link: to its page, or to the explorer where it has none.
"""

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from neurons.report import markdown
from neurons.report.blocks import LIMITS, Cell, FileLink, Page, PageLink, Span, Table, visible
from neurons.report.drawing import picture_file
from neurons.report.folder import write_text

EXPLORER = "explorer.html"
NEURON = re.compile(r"\bL(\d+)N\d+\b")
MANY = 100
"""Rows of an interactive table that are elements of the page; where there are more, a script holds them all."""
HIGH, LOW = (239, 138, 98), (103, 169, 207)
"""Ends of the scale behind tokens, told apart with every common colour blindness, under which black text is read."""
ASSETS = ("style.css", "tables.js", "values.js", "datatables.min.js", "datatables.LICENSE.txt")


@dataclass(frozen=True)
class Site:
    """What all pages of a report share.

    layers: those whose neurons the explorer shows; paged: the neurons among them that have a page.
    """

    model: str
    footer: str
    navigation: tuple[PageLink | FileLink, ...] = ()
    about: str = ""
    layers: tuple[int, ...] = ()
    paged: frozenset[str] = frozenset()

    def place_of(self, neuron: str) -> str | None:
        """Where the report shows a neuron; None where it does not."""
        match = NEURON.fullmatch(neuron)
        if match is None or int(match[1]) not in self.layers:
            return None
        return html_file(f"neurons/{neuron}") if neuron in self.paged else f"{EXPLORER}#{neuron}"


def write_assets(folder: Path) -> None:
    for name in ASSETS:
        write_text(folder / "assets" / name, template_text(name))


def template_text(name: str) -> str:
    return (files("neurons.report") / "templates" / name).read_text("utf-8")


def write_page(page: Page, site: Site, folder: Path) -> None:
    """The page's HTML and Markdown under `folder`; `drawing` makes its figures. Raises `OutputError` or `OSError`."""
    write_text(folder / html_file(page.key), to_html(page, site))
    write_text(folder / markdown.file_of(page.key), markdown.render(page, picture_file=picture_file, about=site.about))


def to_html(page: Page, site: Site) -> str:
    to = _relative(page.key)
    own = page.key.rpartition("/")[2]

    def linked(text: str) -> Markup:
        return _linked(text, site, to, own)

    return environment().get_template("page.html").render(page=page, site=site, to=to, linked=linked)


def html_file(key: str) -> str:
    return f"{key}.html"


def _relative(key: str) -> Callable[[str], str]:
    start = posixpath.dirname(key) or "."
    return lambda path: posixpath.relpath(path, start)


def _linked(text: str, site: Site, to: Callable[[str], str], own: str) -> Markup:
    """The text with a link at every neuron that it names, but not on that neuron's own page."""

    def link(match: re.Match[str]) -> str:
        place = None if match[0] == own else site.place_of(match[0])
        return match[0] if place is None else f'<a href="{to(place)}">{match[0]}</a>'

    return Markup(NEURON.sub(link, str(escape(text))))


def sort_key(cell: Cell) -> float | int | None:
    """What a number is sorted by in a browser; None for text."""
    if isinstance(cell, Span):
        return cell.low
    return cell if isinstance(cell, int | float) else None


def shade(share: float) -> str:
    """The colour behind a token: white at 0, towards an end of the scale at -1 and 1."""
    end = HIGH if share > 0 else LOW
    return "#" + "".join(f"{round(255 + (colour - 255) * min(1, abs(share))):02x}" for colour in end)


def row_data(table: Table, to: Callable[[str], str], site: Site) -> list[list[object]]:
    """An interactive table's rows for its script: a cell is its text, or [text, what it is sorted by, its link]."""
    return [
        [_cell_data(cell, text, to, site) for cell, text in zip(cells, texts, strict=True)]
        for cells, texts in zip(table.rows, table.shown(), strict=True)
    ]


def _cell_data(cell: Cell, text: str, to: Callable[[str], str], site: Site) -> object:
    if isinstance(cell, str) and (place := site.place_of(cell)):
        return [text, None, to(place)]
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
    made.filters["vars"] = vars
    made.globals.update(
        html_file=html_file,
        limits=LIMITS,
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
