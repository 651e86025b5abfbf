"""Prompts of the user's own: rows of `clean`, `corrupted` and `label`, of any length and wording.

The layout is that of EAP-IG's greater_than_data.csv: label is YY; further columns are kept.

1. `read_prompts` reads a CSV file, JSON lines or a DataFrame and checks each row; it needs no tokenizer.
2. A row ends where the answer is read, with the digits XX that the answer completes. They are its century, and
   centuries replicate (`neurons.intervals`): a file of one century has estimates without intervals.
3. `PromptFile.align` encodes the rows, untouched but for BOS in front. Clean and corrupted must have as many tokens.
   Shorter prompts get `PAD` in front, so that END is the last column of all.
4. Where one word alone differs between the rows it is their noun, and the rest their template. Else each wording is
   its own noun: the rows of one noun and century differ in YY alone.
"""

import csv
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from neurons.shown import Shown
from neurons.task.prompt_set import PAD, OwnPrompts, Row, last_number, year_in
from neurons.task.prompts import year_tokens
from neurons.task.templates import Template, Tokenizer
from neurons.task.years import N_YEARS
from neurons.types import InputError, OutputError, check_is, quoted

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("clean", "corrupted", "label")
MOST_ROWS = 20_000
"""Rows of one file: those of their corrupted prompts are in memory at once."""
FORMATS = (".csv", ".jsonl")


@dataclass(frozen=True, eq=False, repr=False)
class PromptFile(Shown):
    """Prompts as they were read; path: None for a DataFrame. left_out: skipped rows, each with its place and why."""

    path: Path | None
    rows: tuple[Row, ...]
    left_out: tuple[str, ...]
    skip: bool

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return _name(self.path)

    def summary(self) -> dict[str, object]:
        return {"file": self.name, "prompts": len(self), "left out": len(self.left_out), "first": self.rows[0].clean}

    def align(self, tokenizer: Tokenizer) -> "OwnPrompts":
        """Encode the prompts, with BOS in front.

        Raises `InputError` for a tokenizer without single-token years or BOS, and for a row whose clean and corrupted
        prompt have other numbers of tokens, unless such rows are skipped.
        """
        bare, bos = year_tokens(tokenizer), tokenizer.bos_token_id
        if bos is None:
            raise InputError("this tokenizer has no BOS token: the prompts begin with <|endoftext|>")
        pairs = [tuple(_encoded(tokenizer, bos, text) for text in (row.clean, row.corrupted)) for row in self.rows]
        wrong = [
            f"{row.place}: clean has {len(clean)} tokens and corrupted {len(corrupted)}"
            for row, (clean, corrupted) in zip(self.rows, pairs, strict=True)
            if len(clean) != len(corrupted)
        ]
        _refuse(self.name, wrong, len(self.rows), self.skip, "give both the same number of tokens")
        kept = [place for place, (clean, corrupted) in enumerate(pairs) if len(clean) == len(corrupted)]
        rows = tuple(self.rows[place] for place in kept)
        clean, corrupted = (_padded([pairs[place][which] for place in kept]) for which in (0, 1))
        return _prompt_set(self.name, rows, clean, corrupted, bare, bos, (*self.left_out, *wrong))


def read_prompts(source: "str | os.PathLike[str] | pd.DataFrame", *, skip: bool = False) -> PromptFile:
    """Read prompts of your own: a .csv or .jsonl file, or a DataFrame, of columns clean, corrupted and label.

    clean: a prompt with a start year that ends in YY, and the digits XX of the answer at its end. corrupted: the
    prompt of its corrupted run. label: YY, 0-99. skip: leave out rows that cannot be used, instead of refusing all.

    Raises `InputError` for a file that cannot be read or lacks a column, for none or more than `MOST_ROWS` rows, and,
    unless `skip`, for a row that cannot be used, with its line.
    """
    check_is("skip", skip, bool, "True or False")
    path = Path(source) if isinstance(source, str | os.PathLike) else None
    name, records = _name(path), _of_frame(source) if path is None else _of_file(path)
    rows, wrong = [], []
    for place, record in islice(records, MOST_ROWS + 1):
        try:
            rows.append(_row(place, record))
        except ValueError as error:
            wrong.append(f"{place}: {error}")
    total = len(rows) + len(wrong)
    if total > MOST_ROWS:
        raise InputError(f"{name} has more than {MOST_ROWS:,} rows: give a sample of them")
    if not total:
        raise InputError(f"{name} has no rows: write a header {','.join(COLUMNS)} and a prompt on each line")
    _refuse(name, wrong, total, skip, "mend it")
    return PromptFile(path, tuple(rows), tuple(wrong), skip)


def write_prompts(prompts: "pd.DataFrame", path: Path) -> None:
    """Write prompts (`PromptSet.to_layout`) as CSV or JSON lines; raises `InputError` for another suffix,
    `OutputError` where the file cannot be written.
    """
    _check_format(path)
    try:
        if path.suffix == ".csv":
            prompts.to_csv(path, index=False)
        else:
            prompts.to_json(path, orient="records", lines=True, force_ascii=False)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}): choose another place") from None


def _refuse(name: str, wrong: list[str], total: int, skip: bool, how: str) -> None:
    """Raise `InputError` naming the first wrong row, unless rows may be skipped and one is left."""
    if wrong and (not skip or len(wrong) == total):
        of_all = f"{len(wrong):,} of {total:,} rows" if skip or len(wrong) > 1 else f"1 of {total:,} rows"
        or_skip = "" if skip else ", or leave such rows out (--skip, in Python skip=True)"
        raise InputError(f"{name}, {wrong[0]} ({of_all}): {how}{or_skip}")


# --- reading ---------------------------------------------------------------------------------------


def _name(path: Path | None) -> str:
    return "the DataFrame" if path is None else path.name


def _of_frame(source: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pandas as pd

    check_is("prompts", source, pd.DataFrame, "a .csv or .jsonl file, or a DataFrame")
    _check_columns("the DataFrame", source.columns)
    for number, row in enumerate(source.to_dict("records")):
        yield f"row {number}", row


def _check_format(path: Path) -> None:
    if path.suffix not in FORMATS:
        raise InputError(f"prompts {quoted(str(path))} must be a .csv file or JSON lines, .jsonl")


def _of_file(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    _check_format(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            yield from (_csv_rows if path.suffix == ".csv" else _json_rows)(path.name, lines)
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 text ({error.reason} at byte {error.start}): save it so") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"prompts {quoted(str(path))} cannot be read: {reason}") from None


def _csv_rows(name: str, lines: Iterable[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    reader = csv.DictReader(lines, strict=True)
    try:
        _check_columns(name, reader.fieldnames or ())
        for row in reader:
            yield f"line {reader.line_num}", row
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num} is not CSV ({error}): quote texts with commas") from None


def _json_rows(name: str, lines: Iterable[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{name}, line {number} is not JSON ({error}): write one object a line") from None
        if not isinstance(row, dict):
            raise InputError(f"{name}, line {number} is not a JSON object: write one object a line")
        _check_columns(f"{name}, line {number}", row)
        yield f"line {number}", row


def _check_columns(where: str, found: Iterable[Any]) -> None:
    columns = list(map(str, found))
    missing = [column for column in COLUMNS if column not in columns]
    if missing and columns:
        raise InputError(f"{where} has no column {missing[0]!r} (it has {', '.join(columns)}): it needs"
                         f" {', '.join(COLUMNS)}")  # fmt: skip


def _row(place: str, record: Mapping[str, Any]) -> Row:
    """Check a row; raises `ValueError` with what is wrong and what would be right."""
    clean, corrupted = record["clean"], record["corrupted"]
    for column, text in (("clean", clean), ("corrupted", corrupted)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{column} is empty")
        if not text.isprintable():
            raise ValueError(f"{column} holds a character that cannot be printed")
        if not re.search(r"(?<!\d)\d{1,2}$", text, flags=re.ASCII):
            raise ValueError(f"{column} ends with {text[-12:]!r}, not with the century XX after which YY is answered")
    label = _label(record["label"])
    if year_in(clean[: last_number(clean).start()], label) is None:
        raise ValueError(f"clean holds no start year that ends in its label {label:02d}")
    others = {str(key): value for key, value in record.items() if key not in COLUMNS and key is not None}
    return Row(place, clean, corrupted, label, others)


def _label(value: Any) -> int:
    number = float(value) if re.fullmatch(r"\s*\d{1,2}(\.0)?\s*", str(value), flags=re.ASCII) else math.nan
    if isinstance(value, bool) or not 0 <= number < N_YEARS:
        raise ValueError(f"label {value!r} is not YY, a number from 00 to 99")
    return int(number)


# --- encoding --------------------------------------------------------------------------------------


def _encoded(tokenizer: Tokenizer, bos: int, text: str) -> list[int]:
    tokens = tokenizer.encode(text, add_special_tokens=False)
    return tokens if tokens[:1] == [bos] else [bos, *tokens]


def _padded(rows: list[list[int]]) -> Int[np.ndarray, "P T"]:
    longest = max(map(len, rows))
    return np.array([[PAD] * (longest - len(row)) + row for row in rows], dtype=np.int32)


def _prompt_set(
    file: str,
    rows: tuple[Row, ...],
    clean: Int[np.ndarray, "P T"],
    corrupted: Int[np.ndarray, "P T"],
    bare: Int[np.ndarray, "100"],
    bos: int,
    left_out: tuple[str, ...],
) -> OwnPrompts:
    distinct, first, which = np.unique(corrupted, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")  # the corrupted prompts in the order of the rows
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order))
    template, nouns = _template(file, [row.wording for row in rows])
    same = (clean == corrupted).all(0)
    return OwnPrompts(
        template=template,
        bos=bos,
        tokens=clean,
        start_year=np.array([row.label for row in rows], np.int16),
        century=np.array([row.century for row in rows], np.int16),
        noun=nouns,
        counterfactual=place[which.reshape(-1)],
        counterfactual_tokens=distinct[order],
        year_token_ids=bare,
        year_position=min(int(np.argmin(same)), clean.shape[1] - 1) if not same.all() else clean.shape[1] - 1,
        missing=(),
        file=file,
        rows=rows,
        left_out=left_out,
    )


def _template(file: str, wordings: list[str]) -> tuple[Template, tuple[str, ...]]:
    """The wording that all rows share and the word in which they differ; else the file's name and each wording."""
    words = [wording.split(" ") for wording in wordings]
    if len({len(row) for row in words}) == 1:
        differ = [at for at, column in enumerate(zip(*words, strict=True)) if len(set(column)) > 1]
        if len(differ) == 1 and all(row[differ[0]] for row in words):
            at = differ[0]
            shared = " ".join([*words[0][:at], "{noun}", *words[0][at + 1 :]])
            return Template(shared), tuple(row[at] for row in words)
    return Template(wordings[0] if len(set(wordings)) == 1 else f"of {file}"), tuple(wordings)
