"""The cache folder: where it lies, one builder for each file, and files that appear whole or not at all.

1. By default it is the folder that NEURONS_CACHE_DIR names, else `cache`.
2. A builder holds the operating system's lock on `.<name>.lock`, so that a process that died holds nothing. A second
   builder of the same file waits, and finds it there; builders of other files never meet.
3. A file is written under a temporary name, flushed to disk and renamed.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from neurons.types import CacheError

VARIABLE = "NEURONS_CACHE_DIR"
FOLDER = Path("cache")


def default_folder() -> Path:
    return Path(os.environ.get(VARIABLE) or FOLDER)


def find_file(path: str | os.PathLike[str]) -> Path:
    """Return the path, or the file of that bare name in the default folder where there is none here."""
    named = Path(path)
    there = default_folder() / named
    return there if named.name == str(named) and not is_there(named) and is_there(there) else named


def is_there(path: Path) -> bool:
    """Report whether the file exists, as far as this user may know."""
    try:
        return path.exists()
    except OSError:
        return False


def lock_path(path: Path) -> Path:
    return path.with_name(f".{path.stem}.lock")


@contextmanager
def building(path: Path, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock of a cache file; `waiting` is called once where another process has it.

    Raises `CacheError` when the folder cannot be written.
    """
    from filelock import FileLock, Timeout  # start-up time

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_path(path), thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if waiting:
                waiting(f"another process is building {path}: waiting for it")
            lock.acquire()
    except OSError as error:
        raise not_written(path.parent, error) from None
    try:
        yield
    finally:
        with suppress(OSError):
            lock_path(path).unlink()  # who waits for it sees that the file is gone, and begins again
        lock.release()


def is_being_built(path: Path) -> bool:
    """Report whether a process holds the lock of this cache file."""
    if not lock_path(path).exists():
        return False
    from filelock import FileLock, Timeout  # start-up time

    try:
        with FileLock(lock_path(path), thread_local=False).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


@contextmanager
def replacing(path: Path, temporary: Path) -> Iterator[Path]:
    """Yield `temporary`, beside `path`; it takes that name when everything was written, else nothing of it is left.

    An earlier file under the temporary name is removed first. Raises `CacheError` when the folder cannot be written.
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


def not_written(folder: Path, error: Exception) -> CacheError:
    reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
    return CacheError(f"cache folder {folder} cannot be written ({reason}): choose another for the cache")
