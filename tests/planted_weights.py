"""A model in memory whose neurons are prediction, suppression and entropy-like by construction, and decoys.

A random model's neurons write everywhere a little: none is of any kind. The unembedding loses most of what it
reads in a few directions (`QUIET`), as GPT-2's does; into the last layer go

    prediction, suppression    plus or minus the direction of a few tokens
    entropy                    a large write where the unembedding reads next to nothing
    both, as 'prediction and entropy'    the same, and a little of a few tokens
    large, quiet               decoys: a large write anywhere; an ordinary one where nothing is read
    years                      all 100 years alike: a class is explained, but too many tokens for a high kurtosis
    silent                     nothing
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from random_gpt2 import write_random_gpt2

from neurons.model.checkpoint import load_model
from neurons.model.model import Model
from neurons.task.prompts import year_tokens

QUIET, LEAK, LARGE = 16, 0.02, 5.0
"""Directions that the unembedding hardly reads, what share of them it still does, and how large is large."""
EACH, WIDTH = 6, 256
ONLY_ENTROPY, BOTH = 8, (7, 3)
"""Entropy-like neurons of no other class; those of prediction or of suppression too."""
PEAK = 0.05
"""Of a write, along the direction of a few tokens: more than the unembedding still reads of the rest."""
COMMON = 0.3
"""Added to every dimension of a planted write: the final LayerNorm takes it out."""


def plant_weights(folder: Path, *, seed: int) -> tuple[Model, dict[str, tuple[int, ...]]]:
    """The model, and the indices of the last layer's planted neurons by role."""
    model = load_model(write_random_gpt2(folder, seed=seed, n_layer=2, n_embd=WIDTH, n_head=4))
    rng = np.random.default_rng(seed)
    quiet = np.linalg.qr(np.hstack([np.ones((WIDTH, 1)), rng.normal(size=(WIDTH, QUIET))]))[0][:, 1:]
    gain = model.ln_final.gain.double().numpy()
    read = model.W_U.double().numpy() * gain
    read -= (1 - LEAK) * (read @ quiet) @ quiet.T
    direction = read - read.mean(1, keepdims=True)
    direction -= direction.mean(0)
    W_out = model.blocks[-1].W_out.double().numpy().copy()
    few = direction[rng.choice(len(direction), size=(2 * EACH + sum(BOTH), 2), replace=False)].sum(1)
    unread = _sized(rng.normal(size=(EACH + ONLY_ENTROPY + sum(BOTH), QUIET)) @ quiet.T, 1.0)
    up, down = np.split(unread[-sum(BOTH) :], [BOTH[0]])
    few_up, few_down = np.split(_sized(few[-sum(BOTH) :], PEAK), [BOTH[0]])
    years = direction[year_tokens(model.tokenizer)].mean(0)
    size = float(np.linalg.norm(W_out, axis=1).mean())
    writes = {
        "prediction": _sized(few[:EACH], size) + COMMON,
        "suppression": _sized(-few[EACH : 2 * EACH], size) + COMMON,
        "entropy": _sized(unread[:ONLY_ENTROPY], LARGE * size) + COMMON,
        "prediction and entropy": _sized(up + few_up, LARGE * size) + COMMON,
        "suppression and entropy": _sized(down - few_down, LARGE * size) + COMMON,
        "large": LARGE * W_out[:EACH],
        "quiet": _sized(unread[ONLY_ENTROPY : ONLY_ENTROPY + EACH], size),
        "years": _sized(years[None], size),
        "silent": np.zeros((1, WIDTH)),
    }
    places = rng.permutation(model.config.d_mlp)
    roles: dict[str, tuple[int, ...]] = {}
    for role, rows in writes.items():
        mine, places = places[: len(rows)], places[len(rows) :]
        W_out[mine] = rows
        roles[role] = tuple(mine.tolist())
    last = replace(model.blocks[-1], W_out=torch.as_tensor(W_out).float())
    W_U = torch.as_tensor(read / gain).float()
    return replace(model, blocks=(*model.blocks[:-1], last), W_U=W_U), roles


def _sized(rows: np.ndarray, size: float) -> np.ndarray:
    return rows * (size / np.linalg.norm(rows, axis=1, keepdims=True))
