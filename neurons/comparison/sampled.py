"""The model on a sample of the published prompts: clean run, corrupted run, and each MLP at END patched.

1. `run_sample`: every prompt once, and every distinct 01-counterfactual once. Prompts are sorted by noun, so a
   block shares the tokens before the year.
2. `patch_mlps`: one layer's MLP output at END is replaced by its output there in the other run, and everything after
   it runs again: exact, for each layer; the corrupted run's output into the clean run, or the other way round.

Blocks bound the memory. A finished block is kept at `parts`, so an interrupted run continues where it stopped.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurons.cache.parts import Parts
from neurons.comparison.checks import SampleRun
from neurons.model.at_end import resume
from neurons.model.forward import logsumexp, run, trace, year_logits
from neurons.model.model import Model
from neurons.task import behaviour
from neurons.task.behaviour import year_probabilities
from neurons.task.sample import Sample
from neurons.types import Progress

Run = Literal["clean", "corrupted"]
BLOCK = 256
"""Prompts in one pass."""
TRACED = 64
"""Prompts whose keys and values of all layers are in memory at once: 60 MB in GPT-2 small."""


@torch.inference_mode()
def run_sample(
    model: Model, sample: Sample, *, parts: Parts | None = None, progress: Progress | None = None
) -> SampleRun:
    """Run the sample, softmax over the full vocabulary. `progress` counts prompts, counterfactuals among them."""
    total = len(sample) + len(sample.counterfactual_tokens)
    clean = _probabilities(model, sample, sample.tokens, "prompts", parts, _onward(progress, 0, total))
    other = _probabilities(
        model, sample, sample.counterfactual_tokens, "run01", parts, _onward(progress, len(sample), total)
    )
    run_01, rows = np.full(len(sample), np.nan), sample.has_counterfactual
    run_01[rows] = behaviour.probability_difference(other[sample.counterfactual[rows]], sample.start_year[rows])
    found = behaviour.measure(clean, sample.start_year)
    return SampleRun(found.probability_difference, found.cutoff_sharpness, run_01)


def _onward(progress: Progress | None, before: int, total: int) -> Callable[[int], None]:
    return lambda done: progress(before + done, total) if progress else None


def _probabilities(
    model: Model,
    sample: Sample,
    tokens: Int[np.ndarray, "n T"],
    name: str,
    parts: Parts | None,
    progress: Callable[[int], None],
) -> Float[np.ndarray, "n 100"]:
    found = np.empty((len(tokens), 100))
    for start in range(0, len(tokens), BLOCK):
        part = slice(start, min(start + BLOCK, len(tokens)))

        def compute(part: slice = part) -> Mapping[str, np.ndarray]:
            one = run(model, tokens[part], shared=sample.shared, layers=(), year_token_ids=sample.year_token_ids)
            return {"values": year_probabilities(one.year_logits.numpy(force=True), one.logsumexp.numpy(force=True))}

        found[part] = _kept(parts, f"{name}-{start:06d}", (part.stop - start, 100), compute)
        progress(part.stop)
    return found


@torch.inference_mode()
def patch_mlps(
    model: Model,
    sample: Sample,
    rows: Int[np.ndarray, " n"],
    *,
    into: Run = "clean",
    parts: Parts | None = None,
    progress: Progress | None = None,
) -> Float[np.ndarray, "L n"]:
    """Patch each layer's MLP output at END from the other run, and return the probability difference of some prompts.

    rows: prompts that have a 01-counterfactual. into: the run that is patched. L layers, all of the model's.
    """
    found = np.empty((model.config.n_layers, len(rows)))
    for start in range(0, len(rows), TRACED):
        part = rows[start : start + TRACED]

        def compute(part: np.ndarray = part) -> Mapping[str, np.ndarray]:
            return {"values": _patched(model, sample, part, into)}

        size = (len(found), len(part))
        found[:, start : start + len(part)] = _kept(parts, f"patched-{into}-{start:06d}", size, compute)
        if progress:
            progress(start + len(part), len(rows))
    return found


def _patched(model: Model, sample: Sample, rows: Int[np.ndarray, " n"], into: Run) -> Float[np.ndarray, "L n"]:
    tokens = {"clean": sample.tokens[rows], "corrupted": sample.counterfactual_tokens[sample.counterfactual[rows]]}
    kept = trace(model, tokens.pop(into), shared=sample.shared)
    (source,) = tokens.values()
    other = trace(model, source, shared=sample.shared)
    final = []
    for layer in range(model.config.n_layers):
        written = other.after[layer] - other.mid[layer]
        final.append(resume(model, kept, (kept.mid[layer] + written)[None], after=layer)[0])
    return np.stack([_difference(model, sample, residual, rows) for residual in final])


def _difference(
    model: Model, sample: Sample, residual: Float[Tensor, "n d"], rows: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    ids = torch.as_tensor(sample.year_token_ids, dtype=torch.long, device=model.device)
    logits = year_logits(model, residual, ids).numpy(force=True)
    probabilities = year_probabilities(logits, logsumexp(model, residual).numpy(force=True))
    return behaviour.probability_difference(probabilities, sample.start_year[rows])


def _kept(
    parts: Parts | None, name: str, shape: tuple[int, int], compute: Callable[[], Mapping[str, np.ndarray]]
) -> np.ndarray:
    """A block's values as kept, or computed and kept."""
    arrays = parts.get(name) if parts else None
    if arrays is None or arrays.get("values", np.empty(0)).shape != shape:
        arrays = dict(compute())
        if parts:
            parts.tidy()
            parts.put(name, arrays)
    return arrays["values"]
