"""One builder for each cache file: the second waits, and finds it there. Builders of other files never meet.

The lock is the operating system's on a file `.<name>.lock`, so that a process that died holds nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from neurons.types import CacheError


def lock_path(path: Path) -> Path:
    return path.with_name(f".{path.stem}.lock")


@contextmanager
def building(path: Path, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock of a cache file; `waiting` is told once when another process has it.

    Raises `CacheError` when the folder cannot be written.
    """
    from filelock import FileLock, Timeout

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
    """Whether a process holds the lock of this cache file."""
    if not lock_path(path).exists():
        return False
    from filelock import FileLock, Timeout

    try:
        with FileLock(lock_path(path), thread_local=False).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def not_written(folder: Path, error: Exception) -> CacheError:
    reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
    return CacheError(f"cache folder {folder} cannot be written ({reason}): choose another for the cache")
