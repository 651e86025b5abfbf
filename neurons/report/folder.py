"""A report folder that is there whole or not at all: written beside its place, then swapped in."""

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neurons.types import OutputError

MARK = "report.json"
FORMAT = "neurons-report"


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A new empty folder that takes the place of `folder` when everything in it was written.

    Whatever ends the writing early leaves the previous report as it was. Raises `OutputError` when
    nothing can be written there, or when `folder` holds something that is no report.
    """
    fresh, old = (folder.parent / f".{folder.name}-{uuid.uuid4().hex[:12]}{end}" for end in (".new", ".old"))
    try:
        _check_replaceable(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh.mkdir()
        yield fresh
        _swap(fresh, folder, old)
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise OutputError(f"report folder {str(folder)!r} cannot be written ({reason}): choose another with"
                          " --report-dir") from None  # fmt: skip
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _swap(fresh: Path, folder: Path, old: Path) -> None:
    try:
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _check_replaceable(folder: Path) -> None:
    """A folder with anything else in it is never replaced: it may be somebody's work."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise OutputError(
            f"report folder {str(folder)!r} is a file or a link: remove it or choose another --report-dir"
        )
    if not folder.exists() or not any(folder.iterdir()) or _is_report(folder):
        return
    raise OutputError(
        f"folder {str(folder)!r} holds files that are no report: remove it or choose another --report-dir"
    )


def _is_report(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / MARK).read_text(encoding="utf-8"))["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def reported_checkpoint(folder: Path) -> str | None:
    """The SHA-256 of the checkpoint that the report in a folder is of; None where there is no report."""
    try:
        return str(json.loads((folder / MARK).read_text(encoding="utf-8"))["provenance"]["model_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def place_of(reports: Path, name: str, fingerprint: str, note: Callable[[str], None]) -> Path:
    """The folder of that name, or one with the checkpoint's hash where the report of another checkpoint has it."""
    named = reports / name
    if reported_checkpoint(named) in {None, fingerprint}:
        return named
    own = named.with_name(f"{name}-{fingerprint[:6]}")
    note(f"{named} is the report of another checkpoint: this one goes to {own}")
    return own


def write_text(path: Path, text: str) -> None:
    """UTF-8; a file name that is no text (a lone surrogate) is written as its escape."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Strict JSON: a value that is not a number raises `ValueError` instead of writing NaN."""
    write_text(path, json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
