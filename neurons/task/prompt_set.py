"""A set of prompts as arrays: tokens with their 01-counterfactuals, and the position of the start year in them.

`PromptSet` is made of a template, `OwnPrompts` of rows that the user wrote (`own_prompts`).
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from neurons.shown import Shown
from neurons.task.templates import Template
from neurons.types import check_whole

if TYPE_CHECKING:
    import pandas as pd

NO_BOS = -1
"""In place of BOS's id where the prompts begin without it."""
PAD = -1
"""In front of the first token of a prompt that is shorter than the longest of its set."""


@dataclass(frozen=True)
class Missing:
    """A cell of the XX x YY table without a prompt, and the reason."""

    century: int
    year: int

    @property
    def reason(self) -> str:
        whole, parts = f"' {self.century:02d}{self.year:02d}'", f"' {self.century:02d}' and '{self.year:02d}'"
        return f"{whole} does not split into {parts}"


@dataclass(frozen=True, eq=False, repr=False)
class PromptSet(Shown):
    """Prompts with their 01-counterfactuals. P prompts of T tokens, Q distinct counterfactuals.

    tokens [P, T]; start_year, century [P]; noun [P]; counterfactual [P] is the row of each prompt's
    01-counterfactual in counterfactual_tokens [Q, T]. `year_position` is the position of YY; the answer is
    read at END, the last position. `year_token_ids` [100] are the bare two-digit tokens. bos: the token in front, or
    `NO_BOS`.
    """

    template: Template
    bos: int
    tokens: Int[np.ndarray, "P T"]
    start_year: Int[np.ndarray, " P"]
    century: Int[np.ndarray, " P"]
    noun: tuple[str, ...]
    counterfactual: Int[np.ndarray, " P"]
    counterfactual_tokens: Int[np.ndarray, "Q T"]
    year_token_ids: Int[np.ndarray, "100"]
    year_position: int
    missing: tuple[Missing, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that the model reads and of how its answer is read."""
        h = hashlib.sha256()
        for part in (self.tokens, self.counterfactual, self.counterfactual_tokens, self.year_token_ids):
            for start in range(0, len(part), 4096):  # a piece at a time: there may be many prompts
                h.update(np.ascontiguousarray(part[start : start + 4096], dtype="<i8").tobytes())
            h.update(repr(part.shape).encode())
        h.update(repr((self.year_position, self.start_year.tolist(), self.century.tolist())).encode())
        h.update("\0".join(self.noun).encode())
        return h.hexdigest()

    def summary(self) -> dict[str, object]:
        return {
            "prompts": len(self),
            "nouns": len(set(self.noun)),
            "centuries": ", ".join(map(str, np.unique(self.century).tolist())),
            "tokens": f"{self.tokens.shape[1]} a prompt, YY at {self.year_position}",
            "first": repr(self.text(0)),
        }

    def to_frame(self) -> "pd.DataFrame":
        """Return a pandas row for each prompt: its noun, century, start year and text."""
        import pandas as pd

        texts = [self.text(row) for row in range(len(self))]
        return pd.DataFrame(
            {"noun": self.noun, "century": self.century, "start_year": self.start_year, "prompt": texts}
        )

    def text(self, row: int) -> str:
        """Return the prompt as text, without BOS."""
        row = check_whole("row", row, least=0, most=len(self) - 1)
        return self.template.fill(self.noun[row], int(self.century[row]), int(self.start_year[row])).strip()

    def to_layout(self) -> "pd.DataFrame":
        """Return a pandas row for each prompt in the layout of `read_prompts`: clean, corrupted, label; noun, century.

        clean and corrupted begin with the space that follows BOS.
        """
        import pandas as pd

        fill, pairs = self.template.fill, list(zip(self.noun, self.century.tolist(), strict=True))
        clean = [fill(*pair, year) for pair, year in zip(pairs, self.start_year.tolist(), strict=True)]
        corrupted = [fill(*pair, 1) for pair in pairs]
        columns = {"clean": clean, "corrupted": corrupted, "label": self.start_year}
        return pd.DataFrame(columns | {"noun": self.noun, "century": self.century})


@dataclass(frozen=True)
class Row:
    """A prompt and its corrupted run. place: where it was read, `line 7`; others: its further columns."""

    place: str
    clean: str
    corrupted: str
    label: int
    others: Mapping[str, Any]

    @property
    def century(self) -> int:
        """The digits with which it ends: 17 where years 1700-1799 are answered."""
        return int(last_number(self.clean)[0])

    @property
    def wording(self) -> str:
        """The prompt with gaps for the start year and the century."""
        end = last_number(self.clean)
        year = year_in(self.clean[: end.start()], self.label)
        assert year is not None
        xx = "{XX}" if year[1] == end[0] else year[1]
        return self.clean[: year.start()] + xx + "{YY}" + self.clean[year.end() : end.start()] + "{XX}"


@dataclass(frozen=True, eq=False, repr=False)
class OwnPrompts(PromptSet):
    """A prompt set of the user's own rows. `year_position` is the first column in which a prompt differs from its
    corrupted one. left_out: rows that were skipped, each with its place and the reason.
    """

    file: str
    rows: tuple[Row, ...]
    left_out: tuple[str, ...]

    @property
    def alone(self) -> int:
        """How many prompts have no other start year among those of their wording, noun and century."""
        groups = list(zip(self.noun, self.century.tolist(), strict=True))
        years: dict[tuple[str, int], set[int]] = {}
        for group, year in zip(groups, self.start_year.tolist(), strict=True):
            years.setdefault(group, set()).add(year)
        return sum(len(years[group]) == 1 for group in groups)

    def text(self, row: int) -> str:
        return self.rows[check_whole("row", row, least=0, most=len(self) - 1)].clean

    def to_layout(self) -> "pd.DataFrame":
        import pandas as pd

        return pd.DataFrame(
            [{"clean": r.clean, "corrupted": r.corrupted, "label": r.label, **r.others} for r in self.rows]
        )


def last_number(text: str) -> re.Match[str]:
    found = re.search(r"\d{1,2}$", text, flags=re.ASCII)
    assert found is not None
    return found


def year_in(text: str, label: int) -> re.Match[str] | None:
    """The last number that ends in YY; group 1 is what stands before YY."""
    found = re.finditer(rf"(?<!\d)(\d*){label:02d}(?!\d)", text, flags=re.ASCII)
    return next(reversed(list(found)), None)
