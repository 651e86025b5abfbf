"""Where cache files lie when nobody says: the folder that NEURONS_CACHE_DIR names, else `cache`."""

import os
from pathlib import Path

VARIABLE = "NEURONS_CACHE_DIR"
FOLDER = Path("cache")


def default_folder() -> Path:
    return Path(os.environ.get(VARIABLE) or FOLDER)


def find_file(path: str | os.PathLike[str]) -> Path:
    """The path, or the file of that bare name in the default folder where there is none here."""
    named = Path(path)
    there = default_folder() / named
    return there if named.name == str(named) and not is_there(named) and is_there(there) else named


def is_there(path: Path) -> bool:
    """Whether the file exists, as far as this user may know."""
    try:
        return path.exists()
    except OSError:
        return False
