"""Shares of neurons on several processes or a cluster.

A block of prompts is an independent task: it receives paths and the number of the block, and leaves its shares among
the kept parts beside the cache file. `shares.attribute` then finds them there and adds them up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Int

from neurons.attribution.end import measured_rows
from neurons.attribution.shares import ATTRIBUTED, STEPS, gauss, kept_shares, parts_of_shares
from neurons.cache.compute import worker_model
from neurons.cache.format import open_cache
from neurons.cache.parts import Parts
from neurons.decomposition.cells import Activations
from neurons.intervention.context import AblationContext
from neurons.intervention.draws import DRAWS, random_years
from neurons.parallel import run_tasks
from neurons.types import CacheError, Measure, Progress

PLAN = "plan"
"""The kept part that says which rows of the cache are measured."""


@dataclass(frozen=True)
class SharesTask:
    """One block as a worker receives it."""

    checkpoint: str
    fingerprint: str
    cache: str
    folder: str
    digest: str
    measures: tuple[Measure, ...]
    draws: int
    seed: int
    steps: int
    block: int


def spread_shares(
    ctx: AblationContext,
    *,
    measures: Sequence[Measure] = ATTRIBUTED,
    draws: int = DRAWS,
    seed: int = 0,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> None:
    """Compute and keep the shares of all blocks; jobs and scheduler as in `neurons.parallel`, the rest as `attribute`.

    This process runs the first block, which says how many nodes it takes. Raises `CacheError` if the folder cannot
    be written or a worker cannot see it.
    """
    parts = parts_of_shares(ctx, measures, draws, seed)
    parts = replace(parts, folder=parts.folder.resolve())
    rows, taken = list(measured_rows(ctx)), random_years(ctx.cache, draws=draws, seed=seed)
    parts.tidy()
    parts.put(PLAN, {"rows": ctx.rows, "start_years": np.array(ctx.start_years)})
    task = SharesTask(
        ctx.model.checkpoint.for_workers, ctx.model.fingerprint, str(ctx.cache.path.resolve()),
        str(parts.folder), parts.digest, tuple(measures), draws, seed, STEPS[-1], block=0,
    )  # fmt: skip
    for steps in STEPS:
        ((_, found),) = kept_shares(ctx, measures, taken, gauss(steps, ctx), parts, rows[0])
        if found.adds_up:
            task = replace(task, steps=steps)
            break
    tasks = [replace(task, block=block) for block in range(1, len(rows))]
    done = len(rows[0])

    def report(finished: int, total: int) -> None:
        if progress:
            progress(done + round((len(ctx) - done) * finished / total), len(ctx))

    run_tasks(shares_of_task, tasks, jobs=jobs, scheduler=scheduler, progress=report)
    (parts.folder / f"{PLAN}.npz").unlink(missing_ok=True)


def shares_of_task(task: SharesTask) -> int:
    """Compute and keep the shares of one block of prompts; returns its number."""
    ctx, rows, taken = _planned(replace(task, block=0))
    parts = Parts(Path(task.folder), task.digest)
    for _ in kept_shares(ctx, task.measures, taken, gauss(task.steps, ctx), parts, rows[task.block]):
        pass
    return task.block


@lru_cache(maxsize=1)
def _planned(task: SharesTask) -> tuple[AblationContext, list[Int[np.ndarray, " P"]], Int[np.ndarray, "R all"]]:
    plan = Parts(Path(task.folder), task.digest).get(PLAN)
    if plan is None:
        raise CacheError(
            f"a worker cannot see {task.folder}: the cache folder must be shared by all machines, under one path"
        )
    model, cache = worker_model(task.checkpoint, task.fingerprint), open_cache(task.cache)
    ctx = AblationContext(
        model, cache, tuple(plan["start_years"].tolist()), plan["rows"], Activations(cache), task.seed
    )
    return ctx, list(measured_rows(ctx)), random_years(cache, draws=task.draws, seed=task.seed)
