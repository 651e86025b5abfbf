"""Checkpoint directories as others store them: renamed tensors, shards, the hub's cache."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from random_gpt2 import write_random_gpt2
from safetensors.numpy import load_file, save_file

HASH = "607a30d783dfa663caf39e06633721c8d4cfcd7e"


def rewrite(folder: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def as_older_checkpoints(tensors: dict[str, np.ndarray]) -> None:
    """The names of the hub's own gpt2: no `transformer.`, and the causal mask saved as a buffer."""
    for name in list(tensors):
        tensors[name.removeprefix("transformer.")] = tensors.pop(name)
    for name in [n for n in tensors if n.endswith("ln_1.weight")]:
        layer = name.removesuffix("ln_1.weight")
        tensors[layer + "attn.bias"] = np.tril(np.ones((1, 1, 16, 16), np.float32))
        tensors[layer + "attn.masked_bias"] = np.float32([-1e4])


def shard(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    places = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(places.values()):
        save_file({n: tensors[n] for n in names if places[n] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def put_snapshot(hub: Path, repo: str) -> Path:
    """A stand-in for a fetched model, laid out as the hub's client does, named as its older checkpoints are."""
    root = hub / f"models--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(HASH)
    folder = write_random_gpt2(root / "snapshots" / HASH, n_positions=16)
    rewrite(folder, as_older_checkpoints)
    return folder
