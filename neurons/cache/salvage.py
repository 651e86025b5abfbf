"""What is good in a damaged cache file, found out in a process of its own: `python -m neurons.cache.salvage FILE`.

HDF5 can crash or hang on damaged metadata, so a file whose seal is broken is never opened by the process that
asks. This one trusts nothing that the manifest does not vouch for. It prints JSON: the names of what is bad.
With `--keep` it also leaves every good block of prompts as a finished part of the file's build, and the prompts
themselves, and says the file's key.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neurons.cache.assemble import block_places
from neurons.cache.checks import lies_here
from neurons.cache.layout import MANIFEST
from neurons.cache.manifest import Manifest, arrays_digest, bad_parts, read_manifest
from neurons.cache.parts import Parts, parts_of
from neurons.cache.plan import Block, Plan
from neurons.types import CacheError

STRUCTURE = "the file's structure"
PROMPTS = "prompts"
PROMPT_DATASETS = {
    "tokens": "prompts/tokens",
    "start_year": "prompts/start_year",
    "century": "prompts/century",
    "noun": "prompts/noun",
    "counterfactual": "prompts/counterfactual",
    "missing": "prompts/missing",
    "counterfactual_tokens": "counterfactual/tokens",
    "year_token_ids": "years/token_ids",
}
PROMPT_ATTRIBUTES = ("layers", "template", "bos", "year_position", "dtype")
SECONDS, BYTES_A_SECOND = 60, 5e6


def damage(path: Path) -> tuple[str, ...]:
    """What is bad in a damaged file, by name."""
    found = _ask(path)
    return (STRUCTURE,) if found is None else tuple(found["bad"]) or ("the seal",)


def salvage(path: Path) -> str | None:
    """Keep what is good as finished parts; the file's key, or None where not even its prompts can be read.

    Raises `CacheError` where the folder cannot be written.
    """
    found = _ask(path, "--keep")
    if found and found["error"]:
        raise CacheError(found["error"])
    return found["key"] if found else None


def _ask(path: Path, *options: str) -> dict[str, Any] | None:
    """What the process of its own says, or None where it crashed or hung."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "neurons.cache.salvage", str(path), *options],
            capture_output=True,
            check=True,
            timeout=SECONDS + path.stat().st_size / BYTES_A_SECOND,
        )
        return json.loads(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError):
        return None


def _inspect(path: Path, keep: bool) -> dict[str, Any]:
    with h5py.File(path, "r", locking=False) as file:
        if not lies_here(file, MANIFEST):
            raise ValueError("no manifest")
        manifest = read_manifest(file)
        if not all(lies_here(file, name) for name in manifest.datasets):
            raise ValueError("numbers in another file")
        found: dict[str, Any] = {"bad": list(bad_parts(file, manifest)), "key": None, "error": None}
        if keep and not {"attributes", *PROMPT_DATASETS.values()} & set(found["bad"]):
            found["key"] = str(file.attrs["key"])
            try:
                _keep(file, manifest, parts_of(path, found["key"]))
            except CacheError as error:
                found["error"] = str(error)
        return found


def _keep(file: h5py.File, manifest: Manifest, parts: Parts) -> None:
    parts.tidy()
    prompts = {name: file[dataset][()] for name, dataset in PROMPT_DATASETS.items()}
    attributes = {name: np.asarray(file.attrs[name]) for name in PROMPT_ATTRIBUTES}
    for name in ("template", "dtype"):
        attributes[name] = np.array(str(file.attrs[name]))
    parts.put(PROMPTS, prompts | attributes)
    plan = Plan(
        prompts["tokens"],
        prompts["counterfactual"],
        prompts["counterfactual_tokens"],
        prompts["year_token_ids"],
        int(file.attrs["year_position"]),
        tuple(file.attrs["layers"].tolist()),
    )
    for block in plan.blocks:
        arrays = _read_block(file, block, plan.layers)
        if arrays and arrays_digest(arrays) == manifest.blocks.get(block.name):
            parts.put(block.name, arrays)


def _read_block(file: h5py.File, block: Block, layers: tuple[int, ...]) -> dict[str, np.ndarray] | None:
    """A block's arrays as they were computed, or None where HDF5 cannot read one."""
    arrays: dict[str, np.ndarray] = {}
    try:
        for name, dataset, of_query in block_places(block, layers):
            if of_query:
                arrays[name] = np.concatenate([file[dataset][block.query : block.query + 1], arrays[name]])
            elif len(block.rows):
                low, high = int(block.rows.min()), int(block.rows.max()) + 1
                arrays[name] = file[dataset][low:high][block.rows - low]
            else:
                arrays[name] = np.zeros((0, *file[dataset].shape[1:]), file[dataset].dtype)
    except Exception:  # whatever HDF5 raises on damaged bytes: the block is bad
        return None
    if block.leads:
        for name in ("scale", "residual"):
            arrays[name] = np.concatenate(
                [np.zeros_like(arrays[name], shape=(1, *arrays[name].shape[1:])), arrays[name]]
            )
    return arrays


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_inspect(Path(sys.argv[1]), "--keep" in sys.argv[2:])))
    sys.stdout.flush()
    os._exit(0)  # HDF5 may crash while it closes a damaged file; everything is said
