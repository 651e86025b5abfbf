"""What was measured as text: lines for the terminal, and the tables of docs/performance.md."""

from typing import Any

MARKS = ("<!-- measured -->\n", "<!-- end of measured -->")


def markdown(found: dict[str, Any]) -> str:
    """All rows and limits, and the machine they were measured on."""
    machine = found["machine"]
    about = (
        f"{machine['processor']}, {machine['threads']} threads; a large float32 matrix product ran at"
        f" {machine['matrix_rate'] / 1e9:.0f} GFLOP/s. Checkpoint: {found['model']}."
    )
    head = [
        "work",
        "peer",
        "ours",
        "peer's",
        "ratio (quartiles)",
        "at least",
        "aim",
        "memory: ours, peer's",
        "largest difference",
    ]
    table = [_line(head), _line(["---"] * len(head)), *(_line(_cells(row)) for row in found["rows"])]
    notes = [f"- {row['name']}: {note}." for row in found["rows"] for note in _notes(row)]
    limits = [
        _line(["what", "measured", "at most"]),
        _line(["---"] * 3),
        *(_line(_limit(one)) for one in found["limits"]),
    ]
    return "\n\n".join("\n".join(part) for part in ([about], table, notes, limits) if part)


def between_marks(document: str, tables: str) -> str:
    """The document with these tables in the place of the last ones."""
    before, start, rest = document.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (start and end):
        raise SystemExit(f"the document lacks the marks {MARKS[0].strip()} and {MARKS[1]}")
    return f"{before}{start}{tables}\n{end}{after}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["work"],
        row["peer_is"],
        _seconds(row["ours"]),
        _seconds(row["peer"]),
        f"{_number(row['ratio'])} ({_number(row['ratio_low'])} - {_number(row['ratio_high'])})",
        "" if row["at_least"] is None else f"{row['at_least']:g}",
        "" if row["aim"] is None else f"{row['aim']:g}",
        "" if row["memory_ours"] is None else f"{row['memory_ours']:,.0f} MB, {row['memory_peer']:,.0f} MB",
        "" if row["difference"] is None else f"{row['difference']:.0e}",
    ]


def _notes(row: dict[str, Any]) -> list[str]:
    share = row["limit_share"]
    reached = [] if share is None else [f"our matrix products ran at {100 * share:.0f} % of the large product's rate"]
    return [*reached, *row["notes"], *([] if row["passes"] else ["**does not reach what is asked for at least**"])]


def _limit(one: dict[str, Any]) -> list[str]:
    most = "" if one["most"] is None else f"{one['most']:g} {one['unit']}"
    return [one["what"], f"{_number(one['value'])} {one['unit']}".strip(), most.strip()]


def _seconds(value: float) -> str:
    return f"{value:,.1f} s" if value >= 10 else f"{value:.2g} s"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
