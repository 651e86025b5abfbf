"""Digests of large files, remembered, so that the next process need not read half a gigabyte again.

1. A digest is kept with what the file system says of each file it was made from: path, device, inode, size,
   and both times. A program can set a file's mtime back, but not its ctime.
2. It counts only where all of that is the same, and for a day: a bit that rots on the disk changes no time.
3. Of a file that changed within the last seconds nothing is kept: another change could leave its times as
   they are (git's "racy" files).

A memory that cannot be read, or is not what was written, counts as empty; one that cannot be written is left.
"""

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = ".digests.json"
MOST = 64
"""Digests kept in one memory; the oldest go first."""
LARGE_BYTES = 1 << 24
"""Less than this is read again each time: it takes no longer than to remember."""
SETTLED_SECONDS = 3.0
"""How long ago a file must have changed: longer than the steps of any file system's clock."""
VALID_SECONDS = 24 * 3600.0

Entry = dict[str, Any]


@dataclass(frozen=True)
class Remembered:
    """The digests remembered in one JSON file."""

    path: Path

    def digest(self, what: str, files: Sequence[Path], compute: Callable[[], str]) -> str:
        """Return the digest `what` of these files: the one remembered, or computed, and remembered if that is safe."""
        now, stamps = time.time(), _stamps(files)
        if sum(size for _, _, size, _, _ in stamps) < LARGE_BYTES:
            return compute()
        key = hashlib.sha256("\0".join([what, *map(os.path.abspath, files)]).encode()).hexdigest()
        known = self._read().get(key)
        if known and known["stamps"] == stamps and 0 <= now - known["at"] < VALID_SECONDS:
            return str(known["digest"])
        found = compute()
        if _stamps(files) == stamps and all(now - ctime / 1e9 > SETTLED_SECONDS for *_, ctime in stamps):
            self._keep(key, {"stamps": stamps, "at": now, "digest": found})
        return found

    def _read(self) -> dict[str, Entry]:
        """Every entry that is as it was written."""
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
            return {key: entry for key, (entry, check) in entries.items() if check == _check(key, entry)}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return {}

    def _keep(self, key: str, entry: Entry) -> None:
        entries = sorted((self._read() | {key: entry}).items(), key=lambda item: item[1]["at"])[-MOST:]
        text = json.dumps({key: [entry, _check(key, entry)] for key, entry in entries})
        temporary = self.path.with_name(f"{self.path.name}-{uuid.uuid4().hex}.tmp")
        with suppress(OSError):
            try:
                temporary.write_text(text, encoding="utf-8")
                temporary.replace(self.path)
            finally:
                temporary.unlink(missing_ok=True)


def beside(folder: Path) -> Remembered:
    """The memory of a cache folder."""
    return Remembered(folder / NAME)


def _stamps(files: Sequence[Path]) -> list[list[int]]:
    """What the file system says of each file; nothing where it cannot tell (Windows has no ctime)."""
    try:
        found = [file.stat() for file in files] if os.name == "posix" else []
    except OSError:
        found = []
    return [[s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for s in found]


def _check(key: str, entry: Entry) -> str:
    return hashlib.sha256(json.dumps([key, entry], sort_keys=True).encode()).hexdigest()
