"""Exact effects of many neurons on several processes or a cluster.

A block of prompts is an independent task: it receives paths and the number of the block, and leaves its effects
among the kept parts beside the cache file. `exact.neuron_effects` then finds them there.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from neurons.intervention.context import AblationContext, ContextPaths, paths_for_workers
from neurons.intervention.exact import check_neurons, effect_parts, fill_block
from neurons.parallel import run_tasks
from neurons.task.intervention import Intervention
from neurons.types import NeuronId, Progress


@dataclass(frozen=True)
class SweepTask:
    """One block as a worker receives it; the neurons to sweep are in the plan."""

    context: ContextPaths
    intervention: Intervention
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
    plan = f"sweep-{hashlib.sha256(names.tobytes()).hexdigest()[:12]}"
    context = paths_for_workers(ctx, effect_parts(ctx, intervention), plan, neurons=names)
    tasks = [SweepTask(context, intervention, block) for block in range(len(ctx.blocks()))]
    run_tasks(sweep_block, tasks, jobs=jobs, scheduler=scheduler, progress=progress)
    context.parts.discard(plan)


def sweep_block(task: SweepTask) -> int:
    """Compute and keep the effects on one block of prompts; returns its number."""
    ctx, neurons = _planned(task.context)
    block = ctx.blocks()[task.block]
    changes = np.full((len(neurons), block.stop - block.start), np.nan)
    for _ in fill_block(ctx, block, neurons, task.intervention, task.context.parts, changes):
        pass
    return task.block


@lru_cache(maxsize=1)
def _planned(context: ContextPaths) -> tuple[AblationContext, tuple[NeuronId, ...]]:
    ctx, plan = context.open()
    return ctx, tuple(NeuronId(layer, index) for layer, index in plan["neurons"].tolist())
