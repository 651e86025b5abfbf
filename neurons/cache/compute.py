"""The model on one block of prompts, and the readouts of its weights: everything of a build that needs torch.

`compute_part` is the task of a worker, in this process or on another machine: it gets paths and the number
of a block, reads the plan and the checkpoint where it is, and leaves a finished part in the shared folder.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurons.cache.layout import rounded
from neurons.cache.parts import Parts
from neurons.cache.plan import ANSWER, Block, Plan, clear_counterfactuals, load_plan
from neurons.model.checkpoint import load_model
from neurons.model.forward import run
from neurons.model.model import Model
from neurons.types import CheckpointError

PARTIAL = "partial"
"""Prefix of a part that another cache file filled in part: NaN where a number is missing."""

_loading = Lock()


@dataclass(frozen=True)
class Task:
    """One block as a worker gets it."""

    checkpoint: str
    fingerprint: str
    folder: str
    digest: str
    block: int


def compute_part(task: Task) -> str:
    """Compute a block and keep it as a part; returns the part's name.

    Raises `CheckpointError` where the worker finds other weights, `CacheError` where it cannot see or
    write the folder.
    """
    parts = Parts(Path(task.folder), task.digest)
    plan, model = _plan(parts), worker_model(task.checkpoint, task.fingerprint)
    block = plan.blocks[task.block]
    if block.name not in parts.names():
        parts.put(block.name, complete(model, plan, block, known(parts, block)))
    return block.name


def worker_model(folder: str, fingerprint: str) -> Model:
    """Load a worker's model: once, with one processor thread, so that its rounding does not depend on the machine.

    Raises `CheckpointError` where other weights lie in the folder.
    """
    with _loading:
        torch.set_num_threads(1)
        return _model(folder, fingerprint)


@lru_cache(maxsize=2)
def _plan(parts: Parts) -> Plan:
    return load_plan(parts)


@lru_cache(maxsize=1)
def _model(folder: str, fingerprint: str) -> Model:
    model = load_model(folder)
    if model.fingerprint != fingerprint:
        raise CheckpointError(f"the weights in {folder} changed during the build: run again")
    return model


def known(parts: Parts, block: Block) -> dict[str, np.ndarray] | None:
    return parts.get(f"{PARTIAL}-{block.name}")


def complete(
    model: Model, plan: Plan, block: Block, known: dict[str, np.ndarray] | None
) -> dict[str, Float[np.ndarray, "n _"] | Float[np.ndarray, " n"]]:
    """Return a block's arrays, by name: `post_<layer>` [n, N], the final LayerNorm's scale [n] and the answer.

    The first rows are those of the block's counterfactuals. known: arrays with NaN where a number is missing. What is
    there is kept, the rest is computed.

    Raises `CacheError` for a number that the type asked for cannot hold.
    """
    rows, layers = _missing(known, block, plan.layers)
    if known is not None and not rows.any():
        return rounded(known, plan.dtype)
    found = run(
        model,
        plan.block_tokens(block)[rows],
        shared=plan.year_position,
        layers=layers,
        year_token_ids=plan.year_token_ids,
    )
    arrays = {f"post_{layer}": post.numpy(force=True) for layer, post in found.post.items()}
    arrays |= {name: getattr(found, name).numpy(force=True) for name in ("scale", *ANSWER)}
    clear_counterfactuals(int(rows[: len(block.queries)].sum()), arrays)
    return rounded(arrays if known is None else _filled(known, arrays, rows), plan.dtype)


def _missing(
    known: dict[str, np.ndarray] | None, block: Block, layers: tuple[int, ...]
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return the rows of which something is missing, and the layers missing in any of them."""
    if known is None:
        return np.ones(len(block), bool), layers
    absent = {name: _is_absent(array) for name, array in known.items()}
    rows = np.any(list(absent.values()), axis=0)
    if len(block.rows) and rows[len(block.queries) :].all():
        rows[:] = True  # the whole block, as without other files: products of other sizes differ in the last bits
    return rows, tuple(layer for layer in layers if absent[f"post_{layer}"].any())


def _is_absent(array: np.ndarray) -> np.ndarray:
    return np.isnan(array).reshape(len(array), -1).any(1)


def _filled(known: dict[str, np.ndarray], arrays: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    filled = {name: array.copy() for name, array in known.items()}
    for name, array in arrays.items():
        absent = _is_absent(filled[name])
        filled[name][absent] = array[absent[rows]]
    return filled


@torch.inference_mode()
def readouts(model: Model, plan: Plan) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each neuron's logits of the years for each unit of a/sigma, and what its significance needs, by dataset.

    Computed in float64 on the CPU, wherever the model is, and kept in float32: the sums over the residual
    dimensions are done once.
    """
    ids = torch.as_tensor(plan.year_token_ids, dtype=torch.long, device=model.device)
    readout = _double(model.year_readout(ids))
    yield "years/gram", (readout.T @ readout).float().numpy()
    visible = _double(model.ln_final.gain) != 0
    unembedding = _double(model.W_U[ids])
    for layer in plan.layers:
        W_out, b_out = _double(model.blocks[layer].W_out), _double(model.blocks[layer].b_out)
        yield f"readout/{layer}", (W_out @ readout).float().numpy()
        yield f"readout/{layer}_bias", (b_out @ readout).float().numpy()
        yield f"readout/{layer}_norm", visible_norm(W_out, visible).float().numpy()
        yield f"readout_plain/{layer}", (W_out @ unembedding.T).float().numpy()


def _double(x: Tensor) -> Tensor:
    return x.cpu().double()


def visible_norm(W_out: Float[Tensor, "N d"], visible: Tensor) -> Float[Tensor, " N"]:
    """Return the norm of each centred w_out, over the dimensions that the final gain lets through (all, in GPT-2)."""
    centred = W_out - W_out.mean(1, keepdim=True)
    return centred[:, visible].norm(dim=1)
