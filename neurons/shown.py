"""One convention for results: what they are in one line at a prompt, and a small table in a notebook.

A result is a frozen dataclass of plain values and arrays, in its floor's `results.py`. `summary` says what it is.
Beside it, where they make sense: `to_frame` (tidy pandas), `to_xarray` (named dimensions and coordinates), `to_json`
(plain values, as its command prints them; what is not known is None, never NaN).
"""

from collections.abc import Mapping
from html import escape
from typing import Any

ROWS = 12
"""Rows of a result's table shown in a notebook; `to_frame()` has them all."""
WIDTH = 200
"""Characters that a repr stays below."""


class Shown:
    """A result with a repr: `summary` in words, and the first rows of `to_frame` if it has one."""

    def summary(self) -> Mapping[str, object]:
        """Return the few numbers that a repr shows, by name."""
        raise NotImplementedError

    def __repr__(self) -> str:
        line = f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in self.summary().items())})"
        return line if len(line) < WIDTH else f"{line[: WIDTH - 6]} ...)"

    def _repr_html_(self) -> str:
        left = "style='text-align:left'"
        rows = "".join(
            f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(str(value))}</td></tr>"
            for name, value in self.summary().items()
        )
        return f"<b>{type(self).__name__}</b><table>{rows}</table>{self._table()}"

    def _table(self) -> str:
        make: Any = getattr(self, "to_frame", None)
        if make is None:
            return ""
        frame = make()
        more = f"<p>{len(frame) - ROWS} more rows in <code>to_frame()</code></p>" if len(frame) > ROWS else ""
        return str(frame.head(ROWS).to_html(index=False, border=0)) + more
