"""Exact effects of many neurons on several processes or a cluster.

A block of prompts is an independent task: it receives paths and the number of the block, and leaves its effects
among the kept parts beside the cache file. `exact.neuron_effects` then finds them there.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from neurons.cache.compute import worker_model
from neurons.cache.format import open_cache
from neurons.cache.parts import Parts
from neurons.decomposition.cells import Activations
from neurons.intervention.context import AblationContext
from neurons.intervention.exact import check_neurons, effect_parts, fill_block
from neurons.parallel import run_tasks
from neurons.task.intervention import Intervention
from neurons.types import CacheError, NeuronId, Progress


@dataclass(frozen=True)
class SweepTask:
    """One block as a worker receives it; the neurons to sweep are a kept part of their own, named `plan`."""

    checkpoint: str
    fingerprint: str
    cache: str
    folder: str
    digest: str
    plan: str
    intervention: Intervention
    seed: int
    block: int


def sweep(
    ctx: AblationContext,
    neurons: Sequence[str | NeuronId],
    intervention: Intervention,
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> None:
    """Compute and keep the effects of these neurons; jobs and scheduler as in `neurons.parallel`.

    Raises `CacheError` if the folder cannot be written or a worker cannot see it.
    """
    names = np.array([(neuron.layer, neuron.index) for neuron in check_neurons(ctx.cache, neurons)], np.int64)
    parts = effect_parts(ctx, intervention)
    parts = replace(parts, folder=parts.folder.resolve())
    plan = f"sweep-{hashlib.sha256(names.tobytes()).hexdigest()[:12]}"
    parts.tidy()
    parts.put(plan, {"rows": ctx.rows, "start_years": np.array(ctx.start_years), "neurons": names})
    task = SweepTask(
        ctx.model.checkpoint.for_workers, ctx.model.fingerprint, str(ctx.cache.path.resolve()),
        str(parts.folder), parts.digest, plan, intervention, ctx.seed, block=0,
    )  # fmt: skip
    tasks = [replace(task, block=block) for block in range(len(ctx.blocks()))]
    run_tasks(sweep_block, tasks, jobs=jobs, scheduler=scheduler, progress=progress)
    (parts.folder / f"{plan}.npz").unlink(missing_ok=True)


def sweep_block(task: SweepTask) -> int:
    """Compute and keep the effects on one block of prompts; returns its number."""
    ctx, neurons = _planned(replace(task, block=0))
    block = ctx.blocks()[task.block]
    changes = np.full((len(neurons), block.stop - block.start), np.nan)
    for _ in fill_block(ctx, block, neurons, task.intervention, Parts(Path(task.folder), task.digest), changes):
        pass
    return task.block


@lru_cache(maxsize=1)
def _planned(task: SweepTask) -> tuple[AblationContext, tuple[NeuronId, ...]]:
    plan = Parts(Path(task.folder), task.digest).get(task.plan)
    if plan is None:
        raise CacheError(
            f"a worker cannot see {task.folder}: the cache folder must be shared by all machines, under one path"
        )
    model = worker_model(task.checkpoint, task.fingerprint)
    cache = open_cache(task.cache)
    years = tuple(plan["start_years"].tolist())
    ctx = AblationContext(model, cache, years, plan["rows"], Activations(cache), task.seed)
    return ctx, tuple(NeuronId(layer, index) for layer, index in plan["neurons"].tolist())
