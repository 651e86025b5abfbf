"""The blocks of a page: frozen, with their content alone and nothing of HTML or Markdown.

    Page ── sections (claim, limits) ── blocks: Text, Facts, Code, Table, TokenText, Gallery of Pictures

One description, two renderings (`render.py`, `markdown.py`). An analysis adds its page to the report by
handing over a `Page`; the index links it.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INDEX = "index"
LIMITS = "What it does not show:"
NUMBERED = 0.5
"""Share of the scale from which on a coloured token carries its number: the text can be read without colours."""
SIGNIFICANT = 4
"""Digits shown of the largest number of a table; report.json has them all."""


@dataclass(frozen=True)
class PageLink:
    """A link to another page of the report, by its key: `index`, `causal`, `neurons/L9N12`."""

    text: str
    page: str


@dataclass(frozen=True)
class FileLink:
    """A link to a file of the report folder, by its path there."""

    text: str
    file: str


@dataclass(frozen=True)
class Span:
    """An interval, in the unit of its column."""

    low: float | None
    high: float | None


Inline = str | PageLink | FileLink
Cell = str | int | float | None | Span | PageLink | FileLink


@dataclass(frozen=True)
class Text:
    """A paragraph; `parts` follow each other without a gap."""

    parts: tuple[Inline, ...]


@dataclass(frozen=True)
class Facts:
    """Terms with their values."""

    entries: tuple[tuple[str, Inline], ...]


@dataclass(frozen=True)
class Code:
    text: str


@dataclass(frozen=True)
class Column:
    """kind: how its cells are shown and sorted; help: what it means, in a few words."""

    title: str
    kind: Literal["text", "count", "number", "scientific"] = "text"
    help: str = ""


@dataclass(frozen=True)
class Table:
    """interactive: sortable and filterable in a browser, by what `filters` names of its columns."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    interactive: bool = False
    filters: tuple[str, ...] = ()

    def shown(self) -> tuple[tuple[str, ...], ...]:
        """Every cell as text; all numbers of the table have the same decimals."""
        numeric = [i for i, column in enumerate(self.columns) if column.kind == "number"]
        sizes = [abs(end) for row in self.rows for i in numeric for end in _ends(row[i])]
        decimals = decimals_for(max(sizes, default=0.0))
        return tuple(
            tuple(shown_cell(cell, column.kind, decimals) for cell, column in zip(row, self.columns, strict=True))
            for row in self.rows
        )


@dataclass(frozen=True)
class TokenRow:
    """A text as its tokens, each with a value; `label` stands before it."""

    label: str
    tokens: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class TokenText:
    """Texts whose tokens are coloured by their values, on a scale from -limit to limit."""

    caption: str
    rows: tuple[TokenRow, ...]
    limit: float

    def number_of(self, value: float) -> str | None:
        """What is written under a token: its value where that is among the strongest."""
        return number(value, decimals=decimals_for(self.limit) - 1) if self.stands_out(value) else None

    def stands_out(self, value: float) -> bool:
        return abs(value) >= NUMBERED * self.limit


@dataclass(frozen=True)
class Panel:
    """A heat map within a picture, whose values a browser shows under the pointer.

    box: left, top, width and height as parts of the picture's. rows: their names, from the top. across, first: what
    the columns are, and the first one's number. values: rows times columns as signed bytes in base64, each `unit_of`
    of `unit`.
    """

    title: str
    box: tuple[float, float, float, float]
    rows: tuple[str, ...]
    across: str
    first: int
    values: str
    unit_of: float
    unit: str


@dataclass(frozen=True)
class Picture:
    """A figure, drawn when the page is written. name: its file's stem; alt: text for readers who do not see it.

    panels: heat maps in it with values under the pointer.
    """

    name: str
    draw: "Callable[[], Figure]"
    alt: str
    caption: str
    wide: bool = False
    panels: tuple[Panel, ...] = ()


@dataclass(frozen=True)
class Gallery:
    pictures: tuple[Picture, ...]


Block = Text | Facts | Code | Table | TokenText | Gallery


@dataclass(frozen=True)
class Section:
    """claim: what its figures and numbers come to, in a sentence or two; limits: what they do not show."""

    title: str
    blocks: tuple[Block, ...]
    claim: str = ""
    limits: str = ""

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "section"


@dataclass(frozen=True)
class Page:
    """key: its path in the report folder without suffix. data: every number it shows, for report.json."""

    key: str
    title: str
    lead: str
    sections: tuple[Section, ...]
    previous: PageLink | None = None
    following: PageLink | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pictures(self) -> tuple[str, ...]:
        """Names of its figures, in the order of their numbers."""
        blocks = (block for section in self.sections for block in section.blocks)
        return tuple(picture.name for block in blocks if isinstance(block, Gallery) for picture in block.pictures)

    @property
    def pointed(self) -> bool:
        """Whether a picture of it shows values under the pointer."""
        blocks = (block for section in self.sections for block in section.blocks)
        return any(picture.panels for block in blocks if isinstance(block, Gallery) for picture in block.pictures)

    @property
    def interactive(self) -> bool:
        """Whether a table of it needs the scripts."""
        blocks = (block for section in self.sections for block in section.blocks)
        return any(isinstance(block, Table) and block.interactive for block in blocks)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*", self.key):
            raise ValueError(f"page key {self.key!r}: letters, digits, - and _ in parts separated by /")


def _ends(cell: Cell) -> tuple[float, ...]:
    ends = (cell.low, cell.high) if isinstance(cell, Span) else (cell,)
    return tuple(float(end) for end in ends if isinstance(end, int | float))


def shown_cell(cell: Cell, kind: str, decimals: int) -> str:
    """A cell as text; a dash where there is no value."""
    if cell is None:
        return "–"
    if isinstance(cell, PageLink | FileLink):
        return cell.text
    if isinstance(cell, Span):
        low, high = (shown_cell(end, kind, decimals) for end in (cell.low, cell.high))
        return "–" if cell.low is None else f"{low} to {high}"
    if isinstance(cell, str):
        return cell
    if kind == "count":
        return f"{cell:,}"
    return number(float(cell), decimals=decimals) if kind == "number" else scientific(float(cell))


def visible(token: str) -> str:
    """A token as text on one line: what does not print is escaped."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in token)


def with_space(token: str) -> str:
    """`visible`, with its leading spaces marked."""
    bare = token.lstrip(" ")
    return "␣" * (len(token) - len(bare)) + visible(bare)


def decimals_for(size: float) -> int:
    """Decimals that show `SIGNIFICANT` digits of a number of this size."""
    if size == 0 or not math.isfinite(size):
        return SIGNIFICANT - 1
    return max(0, SIGNIFICANT - 1 - math.floor(math.log10(size)))


def number(value: float, *, decimals: int | None = None) -> str:
    """A number with a true minus sign; 0 has none."""
    text = f"{value:.{decimals_for(abs(value)) if decimals is None else decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def scientific(value: float) -> str:
    """Two digits; small numbers like 3.2e−08."""
    text = f"{value:#.2g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"
    return text.replace("-", "−")
