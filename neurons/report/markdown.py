"""A page as Markdown, for a forge. Every text is escaped: a name can neither be a tag nor a link nor a table cell."""

import posixpath
import re
from collections.abc import Callable

from neurons.report.blocks import (
    INDEX,
    LIMITS,
    Block,
    Code,
    Facts,
    FileLink,
    Gallery,
    Inline,
    Page,
    PageLink,
    Section,
    Table,
    Text,
    TokenText,
    visible,
)

SUFFIX = ".md"
LONGEST = 50
"""Rows kept of a table that a browser can sort and filter: a forge shows it flat."""


def file_of(key: str) -> str:
    """Where the page lies: the index is what a forge shows of a folder."""
    return "README.md" if key == INDEX else key + SUFFIX


def escape(text: str) -> str:
    """The text as Markdown that shows exactly it, on one line."""
    on_one_line = " ".join(text.split())
    escaped = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", on_one_line)
    escaped = escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"^(\d*)([-+=#]|(?<=\d)[.)])(?=\s|$|\2)", r"\1\\\2", escaped)


def render(page: Page, *, picture_file: Callable[[str], str], about: str = "") -> str:
    """The whole page; `picture_file` gives a picture's path in the report folder, `about` stands on every page."""
    folder = posixpath.dirname(page.key)

    def to(path: str) -> str:
        return posixpath.relpath(path, folder or ".")

    lines = [f"# {escape(page.title)}", *_walk(page, to), escape(page.lead), escape(about)]
    for section in page.sections:
        lines += _section(section, to, picture_file)
    return "\n\n".join(line for line in lines if line) + "\n"


def _walk(page: Page, to: Callable[[str], str]) -> list[str]:
    if page.key == INDEX:
        return []
    links = [PageLink("all neurons", INDEX)]
    links += [PageLink(f"previous: {page.previous.text}", page.previous.page)] if page.previous else []
    links += [PageLink(f"next: {page.following.text}", page.following.page)] if page.following else []
    return [" · ".join(_inline(link, to) for link in links)]


def _section(section: Section, to: Callable[[str], str], picture_file: Callable[[str], str]) -> list[str]:
    lines = [f"## {escape(section.title)}"]
    lines += [escape(section.claim)]
    for block in section.blocks:
        lines += _block(block, to, picture_file)
    return [*lines, f"*{LIMITS}* {escape(section.limits)}" if section.limits else ""]


def _block(block: Block, to: Callable[[str], str], picture_file: Callable[[str], str]) -> list[str]:
    match block:
        case Text(parts):
            return ["".join(_inline(part, to) for part in parts)]
        case Facts(entries):
            return ["\n".join(f"- {escape(term)}: {_inline(value, to)}" for term, value in entries)]
        case Code(text):
            return [fenced(text)]
        case Table():
            return [f"*{escape(block.caption)}*" if block.caption else "", _table(block, to), _cut(block)]
        case TokenText():
            return [f"*{escape(block.caption)}*", _token_table(block)]
        case Gallery(pictures):
            return [
                f"![{escape(picture.alt)}]({to(picture_file(picture.name))})\n\n{escape(picture.caption)}"
                for picture in pictures
            ]


def _cut(table: Table) -> str:
    """Says so where rows were left out."""
    if not table.interactive or len(table.rows) <= LONGEST:
        return ""
    return f"The first {LONGEST} of {len(table.rows):,} rows."


def _token_table(block: TokenText) -> str:
    """A forge shows no colours: the strongest tokens are bold and carry their numbers."""
    rows = ["|  | text |", "|:--|:--|"]
    for row in block.rows:
        parts = []
        for token, value in row.tokens:
            written, shown = block.number_of(value), visible(token)
            parts.append(escape(shown) if written is None else f"**{escape(shown)}** ({written})")
        rows.append(f"| {escape(row.label)} | {' '.join(parts)} |")
    return "\n".join(rows)


def fenced(text: str) -> str:
    """A code block that the text cannot end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _inline(part: object, to: Callable[[str], str]) -> str:
    match part:
        case PageLink(text, page):
            return f"[{escape(text)}]({to(file_of(page))})"
        case FileLink(text, file):
            return f"[{escape(text)}]({to(file)})"
        case str():
            left = " " if part[:1].isspace() else ""
            return left + escape(part) + (" " if part[-1:].isspace() and part.strip() else "")
    raise TypeError(f"{part!r} is no inline content: {Inline}")


def _table(table: Table, to: Callable[[str], str]) -> str:
    head = "| " + " | ".join(escape(column.title) for column in table.columns) + " |"
    rule = "|" + "|".join(":--" if column.kind == "text" else "--:" for column in table.columns) + "|"
    rows = []
    kept = LONGEST if table.interactive else None
    for cells, shown in list(zip(table.rows, table.shown(), strict=True))[:kept]:
        texts = (
            _inline(cell, to) if isinstance(cell, PageLink | FileLink) else escape(text)
            for cell, text in zip(cells, shown, strict=True)
        )
        rows.append("| " + " | ".join(texts) + " |")
    return "\n".join([head, rule, *rows])
