"""A file is written under a temporary name and renamed: nobody ever sees a part of it under its own name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neurons.cache.locks import not_written


@contextmanager
def replacing(path: Path, temporary: Path) -> Iterator[Path]:
    """`temporary`, beside `path`, takes its name when everything was written; else nothing of it is left.

    What lies under the temporary name is cleared away. Raises `CacheError` when the folder cannot be written.
    """
    try:
        temporary.unlink(missing_ok=True)
        yield temporary
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise not_written(path.parent, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make the renaming itself durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
